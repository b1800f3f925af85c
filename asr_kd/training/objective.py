"""Objectives: the losses that training minimises."""

from typing import Any

import torch
from torch import Tensor, nn

from asr_kd.models.lhuc import heard_speakers
from asr_kd.training.cross_entropy import cross_entropy
from asr_kd.training.data import SPEAKERS, Minibatch


class Objective(nn.Module):
    """A loss of a minibatch: cross-entropy here, distillation in asr_kd/distillation, criteria of whole utterances in
    asr_kd/sequence.

    Parameters of its own are trained beside the network's, and its state is part of checkpoints.
    """

    reads_hidden = False
    """True if it reads the network's last hidden layer, `hidden` (batch, hidden_dim), beside the logits; the
    network has the method `hidden` and the module `output_layer` then."""

    reads_pdf_ids = False
    """True if every frame must have its pdf-id."""

    targets_digest: str | None = None
    """Of the targets beside pdf-ids that it learns from, which the data must have; None where it is not known."""

    collective = False
    """True if it asks the other processes that train along: each must have a part of every minibatch then."""

    takes_gradients = False
    """True if it takes gradients through the network itself, beside those of its loss."""

    def forward(self, logits: Tensor, minibatch: Minibatch, hidden: Tensor | None = None) -> Tensor:
        """logits (batch, pdfs) of any float type -> the mean loss of a frame, a float32 scalar."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """A JSON value that tells this objective from others, for checkpoints and provenance."""
        raise NotImplementedError

    def damaged(self, minibatch: Minibatch) -> Tensor:
        """Of a minibatch whose loss is not finite the frames (batch,) of bool that are to blame: whose inputs or
        targets are not finite. Minus infinity, the logarithm of nothing, is a target like others."""
        found = ~torch.isfinite(minibatch.inputs).all(-1)
        for values in minibatch.targets.values():
            of_frames = values.reshape(len(found), -1).float()
            found |= (of_frames.isnan() | of_frames.isposinf()).any(-1)
        return found

    def set_progress(self, progress: float) -> None:
        """Take the progress of training, 0 to 1, for what changes in its course."""

    def take_measures(self) -> dict[str, float]:
        """Return its measures beside the loss, means a frame since the last call."""
        return {}

    def describe_state(self) -> dict[str, float]:
        """Describe its own parameters at the end of an epoch."""
        return {}


class CrossEntropy(Objective):
    """Cross-entropy to the alignment's pdf-ids, mean over frames, in nats (arXiv 1608.00892, eq. 6)."""

    reads_pdf_ids = True

    def forward(self, logits: Tensor, minibatch: Minibatch, hidden: Tensor | None = None) -> Tensor:
        return cross_entropy(logits, minibatch.pdf_ids, minibatch.frame_weights)

    def describe(self) -> dict[str, Any]:
        return {"objective": "cross_entropy"}


class NetworkOutputs(nn.Module):
    """The outputs of a network for an objective: (batch, input_dim) -> the logits (batch, pdfs), and where it reads it
    the last hidden layer (batch, hidden_dim)."""

    def __init__(self, model: nn.Module, reads_hidden: bool) -> None:
        super().__init__()
        self.model, self.reads_hidden = model, reads_hidden
        self.training = model.training

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        if not self.reads_hidden:
            return (self.model(inputs),)
        hidden = self.model.hidden(inputs)  # type: ignore[operator]
        return self.model.output_layer(hidden), hidden  # type: ignore[operator]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A network's products in float32 or bfloat16; casts are not kept, so that CUDA graphs may replay them."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


def forward_loss(outputs: NetworkOutputs, objective: Objective, minibatch: Minibatch, precision: str,
                 heard: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The objective's loss of a network, and its logits.

    heard: what the network hears in the place of the minibatch's inputs, masked ones say.
    """
    with autocast(minibatch.inputs.device, precision), heard_speakers(minibatch.targets.get(SPEAKERS)):
        logits, *hidden = outputs(minibatch.inputs if heard is None else heard)
    return objective(logits, minibatch, *hidden), logits
