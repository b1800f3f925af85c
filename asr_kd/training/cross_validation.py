"""Evaluate a network on held-out frames, and find the utterances of a loss that is not finite."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from asr_kd.core.parallel import available_cores
from asr_kd.training.data import Minibatch, TrainingExamples
from asr_kd.training.objective import NetworkOutputs, Objective, forward_loss
from asr_kd.training.shards import replicate

_BATCH = 2048


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Measures of a network in evaluation mode on held-out frames."""

    loss: float  # of the objective, a frame
    cross_entropy: float | None  # to the pdf-ids, nats a frame that has one; None where none has
    frame_accuracy: float | None  # 0 to 1, of those frames
    measures: dict[str, float] = field(default_factory=dict)  # what the objective measured beside its loss
    fault: str | None = None  # where the loss is not finite: whose frames it comes from, what can be done


def cross_validate(model: nn.Module, data: TrainingExamples, objective: Objective, *, precision: str = "float32",
                   device: torch.device | None = None, threads: int = 0) -> CrossValidation:
    """Evaluate a network on the held-out frames of `data`; leave it in evaluation mode.

    On a CPU each of so many threads (0: one a core) evaluates minibatches of its own; their sums are added up in the
    order of the minibatches, so that the result does not depend on the number of threads.
    """
    device = device or next(model.parameters()).device
    model.eval()
    objective.eval()
    objective.take_measures()
    batches = data.cv_batches(_BATCH)
    outputs = NetworkOutputs(model, objective.reads_hidden)
    workers = min(threads or available_cores(), len(batches)) if device.type == "cpu" else 1
    # Each worker takes an objective, since what it measures is kept in it.
    objectives: SimpleQueue[Objective] = SimpleQueue()
    for copy in [objective, *(replicate(objective, model, objective) for _ in range(workers - 1))]:
        objectives.put(copy)

    def evaluate(batch: NDArray[np.int64]) -> _Evaluation:
        objective_at_hand = objectives.get()
        try:
            minibatch = data.minibatch(batch).to(device)
            return _evaluate(outputs, objective_at_hand, minibatch, precision)
        finally:
            objectives.put(objective_at_hand)

    with ThreadPoolExecutor(workers, "held out", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        evaluations = list(pool.map(evaluate, batches))
    faulty = next((number for number, one in enumerate(evaluations) if not math.isfinite(one.loss)), None)
    fault = None
    if faulty is not None:
        batch = batches[faulty]
        damaged = damaged_utterances(data, objective, batch, data.minibatch(batch).to(device))
        fault = describe_fault(damaged, data.utterances(batch))
    return _add_up(evaluations, fault)


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Sums over the frames of a minibatch; the measures are means."""

    frames: int
    labelled: int
    correct: int
    loss: float
    cross_entropy: float
    measures: dict[str, float]


@torch.no_grad()
def _evaluate(outputs: NetworkOutputs, objective: Objective, minibatch: Minibatch, precision: str) -> _Evaluation:
    loss, logits = forward_loss(outputs, objective, minibatch, precision)
    labelled, correct, cross_entropy = int((minibatch.pdf_ids >= 0).sum()), 0, 0.0
    if labelled:
        logits = logits.float()
        correct = int((logits.argmax(-1) == minibatch.pdf_ids).sum())
        cross_entropy = F.cross_entropy(logits, minibatch.pdf_ids, ignore_index=-1, reduction="sum").item()
    return _Evaluation(frames=len(logits), labelled=labelled, correct=correct, loss=loss.item() * len(logits),
                       cross_entropy=cross_entropy, measures=objective.take_measures())


def _add_up(evaluations: Sequence[_Evaluation], fault: str | None) -> CrossValidation:
    frames = sum(one.frames for one in evaluations)
    labelled = sum(one.labelled for one in evaluations)
    return CrossValidation(
        loss=sum(one.loss for one in evaluations) / frames,
        cross_entropy=sum(one.cross_entropy for one in evaluations) / labelled if labelled else None,
        frame_accuracy=sum(one.correct for one in evaluations) / labelled if labelled else None,
        measures=_mean_measures(evaluations),
        fault=fault,
    )


def _mean_measures(evaluations: Sequence[_Evaluation]) -> dict[str, float]:
    """Return means over the frames that a measure was taken of; a projector, say, does not measure a single frame."""
    totals: dict[str, float] = {}
    frames: dict[str, int] = {}
    for evaluation in evaluations:
        for name, value in evaluation.measures.items():
            totals[name] = totals.get(name, 0.0) + value * evaluation.frames
            frames[name] = frames.get(name, 0) + evaluation.frames
    return {name: total / frames[name] for name, total in totals.items()}


def damaged_utterances(data: TrainingExamples, objective: Objective, batch: NDArray[np.int64],
                       minibatch: Minibatch | None) -> list[str]:
    """Ids of the utterances whose features or targets are to blame for a loss that is not finite; none where that
    cannot be told. minibatch: what `batch` names, None where it is empty."""
    if minibatch is None or len(minibatch.inputs) != len(batch):
        return []
    damaged = objective.damaged(minibatch.to(minibatch.inputs.device))
    return data.utterances(batch[damaged.cpu().numpy()])


def describe_fault(damaged: list[str], heard: list[str]) -> str:
    """Say from whose frames a loss that is not finite comes, and what to do; heard: all utterances of the batch."""
    if damaged:
        return f"features or targets of {_some(damaged)} are not finite; make them again"
    return f"with frames of {_some(heard)}; lower learning_rate or set gradient_clip"


def _some(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
