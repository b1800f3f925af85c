"""What training minimises."""

from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.training.data import Minibatch


class Objective(Protocol):
    """A loss of a minibatch: cross-entropy here, distillation in asr_kd/distillation, criteria of whole utterances in
    asr_kd/sequence."""

    def __call__(self, logits: Tensor, minibatch: Minibatch) -> Tensor:
        """logits (batch, pdfs) of any float type -> the mean loss of a frame, a float32 scalar."""

    def describe(self) -> dict[str, Any]:
        """A JSON value that tells this objective from others, for checkpoints and provenance."""

    def take_measures(self) -> dict[str, float]:
        """What it measured beside the loss, means a frame since this was last called."""


class ObjectiveModule(nn.Module):
    """An objective that measures nothing beside its loss."""

    def take_measures(self) -> dict[str, float]:
        return {}


class CrossEntropy(ObjectiveModule):
    """Cross-entropy to the alignment's pdf-ids, mean over frames, in nats (arXiv 1608.00892, eq. 6)."""

    def forward(self, logits: Tensor, minibatch: Minibatch) -> Tensor:
        """logits (batch, pdfs) -> scalar."""
        return F.cross_entropy(logits.float(), minibatch.pdf_ids)

    def describe(self) -> dict[str, Any]:
        return {"objective": "cross_entropy"}
