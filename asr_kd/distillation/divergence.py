"""Divergences of a student's posteriors from its teacher's, dense and from the k best pdfs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.distillation.config import check_temperature
from asr_kd.training.cross_entropy import (
    cache_sized_blocks,
    check_frames,
    check_shape,
    check_weights,
    gradient_like,
    log_posteriors,
    scaled_gradient,
)

_LEAST_REST = 1e-30  # below it the student's mass on its tail has too few digits in float32, or none


class DistillationLoss(nn.Module):
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, mean over frames, in nats.

    The T^2 keeps the gradient's size from falling with T (the paper prints none; at its best, T = 1, the two agree).
    arXiv 1608.00892, eq. 8 and 9; its cross-entropy is this divergence plus the teacher's entropy.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, logits: Tensor, teacher_logits: Tensor, weights: Tensor | None = None) -> Tensor:
        """logits, teacher_logits (batch, pdfs), weights of the frames (batch,) -> scalar; no gradient flows to the
        teacher.

        InputError: other frames or pdfs.
        """
        check_frames(logits, teacher_logits, "the teacher's logits")
        check_shape(teacher_logits, logits.shape, "the teacher's logits")
        temperature = self.temperature
        student = F.log_softmax(logits.float() / temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
        column = check_weights(logits, weights)
        if column is None:
            return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature ** 2
        of_frames = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1, keepdim=True)
        return (of_frames * column).sum() / len(logits) * temperature ** 2


class SparseDistillationLoss(nn.Module):
    """The same divergence from the teacher's k best pdfs and the mass of all others, its tail (ours).

    The tail is one class: the mass m is compared with the student's mass on the same pdfs. That is the dense
    divergence from a teacher whose tail is spread in proportion to the student's own posteriors, in value and in
    gradient: nothing is claimed of what the cache does not hold. Against the true divergence it lacks
    m * KL(teacher's tail || student's tail), both normalised to one; with all pdfs kept it lacks nothing.
    Rounding to 16 bits leaves the sum of the teacher's probabilities within 0.001 of one; it is set to one.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, logits: Tensor, pdf_ids: Tensor, log_probs: Tensor, log_tail: Tensor,
                weights: Tensor | None = None) -> Tensor:
        """logits (batch, pdfs); pdf_ids, log_probs (batch, k), log_tail (batch,) at this loss's T, weights of the
        frames (batch,) -> scalar.

        log_tail is minus infinity where nothing is left. InputError: other frames, not one log-probability to
        a pdf-id.
        """
        check_frames(logits, pdf_ids, "the teacher's posteriors")
        check_shape(log_probs, pdf_ids.shape, "the teacher's log-probabilities")
        check_shape(log_tail, pdf_ids.shape[:1], "the mass of its other pdfs")
        temperature = self.temperature
        scaled = logits if temperature == 1 else logits.float() / temperature
        loss: Tensor = _SparseDivergence.apply(scaled, pdf_ids.long(), log_probs.float(), log_tail.float(),
                                               check_weights(logits, weights))
        return loss * temperature ** 2


class _SparseDivergence(torch.autograd.Function):
    """Value and gradient in one pass: through autograd the tail's logarithm of 1 - (sum of the k best) loses digits
    where the student is sure of itself, and costs twice the time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, pdf_ids: Tensor, log_probs: Tensor, log_tail: Tensor,
                weights: Tensor | None) -> Tensor:
        """weights (frames, 1)."""
        gradient = gradient_like(logits) if ctx.needs_input_grad[0] else None
        ctx.logits_dtype = logits.dtype
        divergence = torch.zeros((), device=logits.device)
        for rows in cache_sized_blocks(logits):
            of_rows, work = _divergence_and_gradient(logits[rows], pdf_ids[rows], log_probs[rows], log_tail[rows])
            divergence += (of_rows if weights is None else of_rows * weights[rows, 0]).sum()
            if gradient is not None:
                if weights is not None:
                    work *= weights[rows]
                gradient[rows] = work.div_(len(logits))
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return divergence / len(logits)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (student_gradient,) = ctx.saved_tensors
        return scaled_gradient(student_gradient, gradient, ctx.logits_dtype), None, None, None, None


def _divergence_and_gradient(
    logits: Tensor, pdf_ids: Tensor, log_probs: Tensor, log_tail: Tensor
) -> tuple[Tensor, Tensor]:
    """Of each frame (frames,), and the derivative of their sum by the logits (frames, pdfs)."""
    tiny = torch.finfo(torch.float32).tiny
    teacher, tail = log_probs.exp(), log_tail.exp()
    mass = teacher.sum(-1) + tail
    teacher, tail = teacher / mass[:, None], tail / mass
    work = logits.softmax(-1, dtype=torch.float32)
    log_student = log_posteriors(work, logits, pdf_ids)
    student = work.gather(1, pdf_ids)
    rest = work.scatter_(1, pdf_ids, 0.0).sum(-1)
    underflown = (rest < _LEAST_REST) & (tail > 0)
    rest = rest.clamp_min_(tiny)
    log_rest = rest.log()
    # The gradient is student - teacher; in the tail that is student * (1 - m / student's tail).
    if logits.device.type == "cpu" and not bool(underflown.any()):
        work *= (1 - tail / rest)[:, None]
    else:
        others = logits.float().scatter(1, pdf_ids, -torch.inf)
        log_rest = torch.where(underflown, others.logsumexp(-1) - logits.float().logsumexp(-1), log_rest)
        work = torch.where(underflown[:, None], work - tail[:, None] * others.softmax(-1),
                           work * (1 - tail / rest)[:, None])
    divergence = (torch.special.xlogy(teacher, teacher) - teacher * log_student).sum(-1)
    divergence += torch.special.xlogy(tail, tail) - tail * log_rest
    return divergence, work.scatter_(1, pdf_ids, student - teacher)


def logit_distance(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """`1/2 · Σ (student - teacher)²`, mean over frames, of logits (frames, pdfs); arXiv 1610.09650, eq. 1.

    InputError: other frames or pdfs.
    """
    check_frames(logits, teacher_logits, "the teacher's logits")
    check_shape(teacher_logits, logits.shape, "the teacher's logits")
    return 0.5 * (logits.float() - teacher_logits.detach().float()).square().sum(-1).mean()
