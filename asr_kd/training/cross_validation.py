"""What held-out frames say of a network, and whose frames a loss that is not finite comes from."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from asr_kd.training.data import Minibatch, TrainingExamples, prefetch
from asr_kd.training.objective import NetworkOutputs, Objective, forward_loss

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What the held-out frames say of a network, in evaluation mode."""

    loss: float  # of the objective, a frame
    cross_entropy: float | None  # to the pdf-ids, nats a frame that has one; None where none has
    frame_accuracy: float | None  # 0 to 1, of those frames
    measures: dict[str, float] = field(default_factory=dict)  # what the objective measured beside its loss
    fault: str | None = None  # where the loss is not finite: whose frames it comes from, what can be done


def cross_validate(model: nn.Module, data: TrainingExamples, objective: Objective, *, precision: str = "float32",
                   device: torch.device | None = None) -> CrossValidation:
    """Loss, cross-entropy and frame accuracy on the held-out frames of `data`; leaves the model in evaluation mode."""
    device = device or next(model.parameters()).device
    model.eval()
    objective.eval()
    loss = cross_entropy = 0.0
    total = labelled = correct = 0
    fault: str | None = None
    objective.take_measures()
    outputs, batches = NetworkOutputs(model, objective.reads_hidden), data.cv_batches(_BATCH)
    with torch.no_grad():
        for batch, held_out in zip(batches, prefetch(data, batches), strict=True):
            assert held_out is not None
            minibatch = held_out.to(device)
            of_batch, logits = forward_loss(outputs, objective, minibatch, precision)
            logits = logits.float()
            count = len(logits)
            loss += of_batch.item() * count
            if fault is None and not math.isfinite(loss):
                fault = describe_fault(damaged_utterances(data, objective, batch, minibatch), data.utterances(batch))
            cross_entropy += F.cross_entropy(logits, minibatch.pdf_ids, ignore_index=-1, reduction="sum").item()
            correct += int((logits.argmax(-1) == minibatch.pdf_ids).sum())
            labelled += int((minibatch.pdf_ids >= 0).sum())
            total += count
    return CrossValidation(loss / total, cross_entropy / labelled if labelled else None,
                           correct / labelled if labelled else None, objective.take_measures(), fault)


def damaged_utterances(data: TrainingExamples, objective: Objective, batch: NDArray[np.int64],
                       minibatch: Minibatch | None) -> list[str]:
    """Ids of the utterances whose features or targets are to blame for a loss that is not finite; none where that
    cannot be told. minibatch: what `batch` names, None where it is empty."""
    if minibatch is None or len(minibatch.inputs) != len(batch):
        return []
    damaged = objective.damaged(minibatch.to(minibatch.inputs.device))
    return data.utterances(batch[damaged.cpu().numpy()])


def describe_fault(damaged: list[str], heard: list[str]) -> str:
    """Whose frames a loss that is not finite comes from, and what can be done; heard: all utterances of the batch."""
    if damaged:
        return f"features or targets of {_some(damaged)} are not finite; make them again"
    return f"with frames of {_some(heard)}; lower learning_rate or set gradient_clip"


def _some(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
