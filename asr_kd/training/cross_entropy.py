"""Cross-entropy and its gradient in one pass over the logits, a few rows at a time.

On a CPU a minibatch of logits is larger than the caches, and a training step spends more time in reading and writing
them again and again than in the network: log-softmax, its loss, both derivatives and the changes of type are a dozen
passes. Here a block of rows stays in the cache until its gradient is done.
"""

from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 18  # logits, 1 MiB of float32


def cross_entropy(logits: Tensor, pdf_ids: Tensor) -> Tensor:
    """Mean over frames of -log softmax(logits)[pdf_id], in nats: logits (frames, pdfs) of any float type, pdf_ids
    (frames,) int64 -> float32 scalar."""
    loss: Tensor = _CrossEntropy.apply(logits, pdf_ids)
    return loss


def blocks_of(logits: Tensor) -> list[slice]:
    """Rows that fit the cache together; all of them on a GPU."""
    rows = max(1, _BLOCK // logits.shape[-1]) if logits.device.type == "cpu" else len(logits)
    return [slice(begin, begin + rows) for begin in range(0, len(logits), rows or 1)]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, pdf_ids: Tensor) -> Tensor:
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        loss, frames = torch.zeros((), device=logits.device), len(logits)
        for rows in blocks_of(logits):
            work, labels = logits[rows].float(), pdf_ids[rows, None]
            work = work - work.amax(-1, keepdim=True)
            at_labels = work.gather(1, labels)
            total = work.exp_().sum(-1, keepdim=True)
            loss += (total.log() - at_labels).sum()
            if gradient is not None:
                work *= 1 / (frames * total)
                work.scatter_add_(1, labels, torch.full_like(at_labels, -1 / frames))
                gradient[rows] = work
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return loss / frames

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * gradient, None
