"""The frame objective of distillation: q * CE + lambda * KD, both networks at one temperature."""

from typing import Any

import pydantic
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from asr_kd.core.config import Config
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import ObjectiveModule


class DistillationConfig(Config):
    """Weights and temperature of the frame objective; the defaults are the best of arXiv 1608.00892, table 2."""

    cross_entropy_weight: float = Field(0.0, ge=0, description="q")
    distillation_weight: float = Field(1.0, ge=0, description="lambda")
    temperature: float = Field(1.0, gt=0, description="T, of both networks")

    @pydantic.model_validator(mode="after")
    def _something_is_learnt(self) -> "DistillationConfig":
        if self.cross_entropy_weight == 0 and self.distillation_weight == 0:
            raise ValueError("cross_entropy_weight and distillation_weight are both 0: there is nothing to learn")
        return self


class DistillationLoss(nn.Module):
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, mean over frames, in nats.

    The T^2 keeps the gradient's size from falling with T (the paper prints none; at its best, T = 1, the two agree).
    arXiv 1608.00892, eq. 8 and 9; its cross-entropy is this divergence plus the teacher's entropy.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}, expected above 0")
        self.temperature = temperature

    def forward(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """logits, teacher_logits (batch, pdfs) -> scalar; no gradient flows to the teacher."""
        temperature = self.temperature
        student = F.log_softmax(logits.float() / temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature ** 2


class SparseDistillationLoss(nn.Module):
    """The same divergence from the teacher's k best pdfs and the mass of all others, its tail.

    The tail is one class: the mass m is compared with the student's mass on the same pdfs. That is the dense
    divergence from a teacher whose tail is spread in proportion to the student's own posteriors, in value and in
    gradient: nothing is claimed of what the cache does not hold. Against the true divergence it lacks
    m * KL(teacher's tail || student's tail), both normalised to one; with all pdfs kept it lacks nothing.
    Rounding to 16 bits leaves the sum of the teacher's probabilities within 0.001 of one; it is set to one.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}, expected above 0")
        self.temperature = temperature

    def forward(self, logits: Tensor, pdf_ids: Tensor, log_probs: Tensor, log_tail: Tensor) -> Tensor:
        """logits (batch, pdfs); pdf_ids, log_probs (batch, k), log_tail (batch,) at this loss's T -> scalar.

        log_tail is minus infinity where nothing is left.
        """
        temperature = self.temperature
        scaled = logits if temperature == 1 else logits.float() / temperature
        loss: Tensor = _SparseDivergence.apply(scaled, pdf_ids.long(), log_probs.float(), log_tail.float())
        return loss * temperature ** 2


class _SparseDivergence(torch.autograd.Function):
    """Value and gradient in one pass: through autograd the tail's logarithm of 1 - (sum of the k best) loses digits
    where the student is sure of itself, and costs twice the time."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, pdf_ids: Tensor, log_probs: Tensor, log_tail: Tensor) -> Tensor:
        tiny = torch.finfo(torch.float32).tiny
        teacher, tail = log_probs.exp(), log_tail.exp()
        mass = teacher.sum(-1) + tail
        teacher, tail = teacher / mass[:, None], tail / mass
        work = logits.float()
        work = work - work.amax(-1, keepdim=True)
        best = work.gather(1, pdf_ids)
        work.exp_().scatter_(1, pdf_ids, 0.0)
        rest = work.sum(-1)
        total = rest + best.exp().sum(-1)
        log_student = best - total.log()[:, None]
        student = log_student.exp()
        log_student_tail = rest.clamp_min(tiny).log() - total.log()
        divergence = (torch.special.xlogy(teacher, teacher) - teacher * log_student).sum() + (
            torch.special.xlogy(tail, tail) - tail * log_student_tail).sum()
        # The gradient is student - teacher; in the tail that is student * (1 - m / student's tail).
        work *= (1 / total - tail / rest.clamp_min(tiny))[:, None]
        work.scatter_(1, pdf_ids, student - teacher)
        ctx.save_for_backward(work.div_(len(logits)).to(logits.dtype))
        return divergence / len(logits)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (student_gradient,) = ctx.saved_tensors
        return student_gradient * gradient.to(student_gradient.dtype), None, None, None


class TeacherObjective(ObjectiveModule):
    """`q * CE + lambda * KD` with the teacher forwarded on the fly, from the student's own inputs.

    The teacher is frozen and in evaluation mode. Exact, and right where inputs change from epoch to epoch;
    a forward pass of a large teacher costs more than the student's whole step, so else prefer the cache.
    """

    def __init__(self, config: DistillationConfig, teacher: nn.Module, teacher_digest: str,
                 precision: str = "float32") -> None:
        super().__init__()
        self.config, self.teacher_digest, self.precision = config, teacher_digest, precision
        self.teacher = teacher.eval().requires_grad_(False)
        self.loss = DistillationLoss(config.temperature)

    def forward(self, logits: Tensor, minibatch: Minibatch) -> Tensor:
        """logits (batch, pdfs) -> scalar."""
        loss = torch.zeros((), device=logits.device)
        if self.config.distillation_weight:
            with torch.no_grad(), torch.autocast(logits.device.type, torch.bfloat16,
                                                 enabled=self.precision == "bfloat16"):
                teacher_logits = self.teacher(minibatch.inputs)
            loss = loss + self.config.distillation_weight * self.loss(logits, teacher_logits)
        return loss + _weighted_cross_entropy(self.config, logits, minibatch)

    def describe(self) -> dict[str, Any]:
        return {"objective": "distillation", "teacher": self.teacher_digest, "precision": self.precision,
                **self.config.model_dump()}


class CachedObjective(ObjectiveModule):
    """`q * CE + lambda * KD` with soft targets from a cache (soft_targets.py), which training data gather by frame."""

    def __init__(self, config: DistillationConfig, soft_targets_digest: str) -> None:
        super().__init__()
        self.config, self.soft_targets_digest = config, soft_targets_digest
        self.loss = SparseDistillationLoss(config.temperature)

    def forward(self, logits: Tensor, minibatch: Minibatch) -> Tensor:
        """logits (batch, pdfs) -> scalar."""
        loss = torch.zeros((), device=logits.device)
        if self.config.distillation_weight:
            targets = minibatch.targets
            loss = loss + self.config.distillation_weight * self.loss(
                logits, targets["soft_pdf_ids"], targets["soft_log_probs"], targets["soft_log_tail"])
        return loss + _weighted_cross_entropy(self.config, logits, minibatch)

    def describe(self) -> dict[str, Any]:
        return {"objective": "distillation", "soft_targets": self.soft_targets_digest, **self.config.model_dump()}


def _weighted_cross_entropy(config: DistillationConfig, logits: Tensor, minibatch: Minibatch) -> Tensor | float:
    if not config.cross_entropy_weight:
        return 0.0
    return config.cross_entropy_weight * F.cross_entropy(logits.float(), minibatch.pdf_ids)
