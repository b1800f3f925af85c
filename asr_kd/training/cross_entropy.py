"""Cross-entropy and its gradient in one pass over the logits, a few rows at a time.

On a CPU a minibatch of logits is larger than the caches, and a training step spends more time in reading and writing
them again and again than in the network: log-softmax, its loss, both derivatives and the changes of type are a dozen
passes. Here a block of rows stays in the cache until its gradient is done.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asr_kd.core.errors import InputError

_BLOCK = 1 << 19  # logits, 2 MiB of float32


def cross_entropy(logits: Tensor, pdf_ids: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over frames of -log softmax(logits)[pdf_id], in nats: logits (frames, pdfs) of any float type, pdf_ids
    (frames,) int64 -> float32 scalar. weights (frames,): what each frame's loss is multiplied by.

    InputError: not as many of one as of the other; on a CPU a pdf-id that the network does not have (a GPU would have
    to be waited for).
    """
    check_frames(logits, pdf_ids, "pdf-ids")
    if pdf_ids.device.type == "cpu" and len(pdf_ids):
        lowest, highest = (int(of_all) for of_all in pdf_ids.aminmax())
        if lowest < 0 or highest >= logits.shape[-1]:
            raise InputError(f"pdf-ids are {lowest} to {highest}, expected 0 to {logits.shape[-1] - 1}; leave frames "
                             "without alignment out")
    loss: Tensor = _CrossEntropy.apply(logits, pdf_ids, check_weights(logits, weights))
    return loss


def check_weights(logits: Tensor, weights: Tensor | None) -> Tensor | None:
    """Return the weights of the frames, if any, as a column of float32; InputError where they are not one a frame."""
    if weights is None:
        return None
    check_shape(weights, logits.shape[:1], "the weights of the frames")
    return weights.float()[:, None]


def check_frames(logits: Tensor, others: Tensor, what: str) -> None:
    """InputError where `others`, said to be `what`, are not of as many frames as the logits."""
    if len(others) != len(logits):
        raise InputError(f"{len(logits)} frames of the network's logits, {len(others)} of {what}; give the same frames")


def check_shape(values: Tensor, shape: Sequence[int], what: str) -> None:
    """InputError where `values`, said to be `what`, are of another shape: PyTorch would broadcast many."""
    if values.shape != torch.Size(shape):
        raise InputError(f"{what}: {tuple(values.shape)} values, expected {tuple(shape)}")


def cache_sized_blocks(logits: Tensor) -> list[slice]:
    """Rows that fit the cache together; all of them on a GPU."""
    rows = max(1, _BLOCK // logits.shape[-1]) if logits.device.type == "cpu" else len(logits)
    return [slice(begin, begin + rows) for begin in range(0, len(logits), rows or 1)]


def log_posteriors(posteriors: Tensor, logits: Tensor, pdf_ids: Tensor) -> Tensor:
    """log of `posteriors`, the float32 softmax of `logits` (both (frames, pdfs)), at pdf_ids (frames, k).

    A posterior too small for float32 has a logarithm all the same: it is taken from the logits then.
    """
    chosen = posteriors.gather(1, pdf_ids)
    if chosen.device.type == "cpu" and bool((chosen >= torch.finfo(torch.float32).tiny).all()):
        return chosen.log_()
    return logits.gather(1, pdf_ids).float() - logits.float().logsumexp(-1, keepdim=True)


def gradient_like(logits: Tensor) -> Tensor:
    """A place for a loss's gradient by the logits until `scaled_gradient` takes it: of their type, but float32 for
    float16, whose least value is larger than most of it before the loss is scaled."""
    return torch.empty_like(logits, dtype=torch.float32 if logits.dtype == torch.float16 else None)


def scaled_gradient(of_logits: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """A loss's gradient by logits of that type, times the gradient by that loss (a scalar): nothing to do where the
    loss is all that is minimised."""
    is_whole = gradient.device.type == "cpu" and gradient == 1
    return (of_logits if is_whole else of_logits * gradient).to(dtype)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, pdf_ids: Tensor, weights: Tensor | None) -> Tensor:
        """weights (frames, 1)."""
        gradient = gradient_like(logits) if ctx.needs_input_grad[0] else None
        ctx.logits_dtype = logits.dtype
        loss = torch.zeros((), device=logits.device)
        for rows in cache_sized_blocks(logits):
            labels, posteriors = pdf_ids[rows, None], logits[rows].softmax(-1, dtype=torch.float32)
            log_of_labels = log_posteriors(posteriors, logits[rows], labels)
            loss -= (log_of_labels if weights is None else log_of_labels * weights[rows]).sum()
            if gradient is not None:
                of_sum = posteriors.scatter_add_(1, labels, posteriors.new_full(labels.shape, -1.0))
                if weights is not None:
                    of_sum *= weights[rows]
                gradient[rows] = of_sum.div_(len(logits))
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return loss / len(logits)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (of_logits,) = ctx.saved_tensors
        return scaled_gradient(of_logits, gradient, ctx.logits_dtype), None, None
