"""Teachers: forwarded on the spot or read from a cache, and several as one."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.models.architecture import hidden_dim, input_dim
from asr_kd.training.cross_entropy import check_shape
from asr_kd.training.data import Minibatch

if TYPE_CHECKING:
    from asr_kd.distillation.soft_targets import SoftTargets


@dataclass(frozen=True, slots=True)
class Taught:
    """A teacher's logits (frames, pdfs), or the k best pdfs of its posteriors at the objective's temperature.

    pdf_ids, log_probs (frames, k), log_tail (frames,): as `sparse_posteriors` has them; log_norm (frames,): what
    turns log-probabilities into logits over T; hidden (frames, teacher_dim): its last hidden layer. What was not asked
    for, or is not in the cache, is None.
    """

    logits: Tensor | None = None
    pdf_ids: Tensor | None = None
    log_probs: Tensor | None = None
    log_tail: Tensor | None = None
    log_norm: Tensor | None = None
    hidden: Tensor | None = None


class Teacher(Protocol):
    """A source of `Taught`. What it has to tell of itself is None where nothing limits it: `hidden_dim` where it cannot
    give its last hidden layer, `num_pdfs` where its logits say it, `temperature` and `top_k` where it gives the logits
    of all pdfs, `targets_digest` where it does not speak through the data's targets."""

    @property
    def hidden_dim(self) -> int | None: ...

    @property
    def num_pdfs(self) -> int | None: ...

    @property
    def temperature(self) -> float | None: ...

    @property
    def top_k(self) -> int | None: ...

    @property
    def targets_digest(self) -> str | None: ...

    def __call__(self, minibatch: Minibatch) -> Taught: ...

    def describe(self) -> dict[str, Any]:
        """A JSON value that tells this teacher from others."""


class LiveTeacher:
    """A network that hears the student's own inputs (as they are where the student's are masked), frozen and in
    evaluation mode.

    Exact, and nothing to keep on disk; but a forward pass of a large teacher costs more than the student's whole step,
    in every epoch, so prefer the cache. InputError: inputs of another width than the network's.
    """

    def __init__(self, network: nn.Module, digest: str, precision: str = "float32") -> None:
        self.network = network.eval().requires_grad_(False)
        self.digest, self.precision = digest, precision
        self.num_pdfs = self.temperature = self.top_k = self.targets_digest = None

    @property
    def hidden_dim(self) -> int | None:
        return hidden_dim(self.network)

    @torch.no_grad()
    def __call__(self, minibatch: Minibatch) -> Taught:
        heard, wanted = minibatch.inputs.shape[-1], input_dim(self.network)
        if wanted not in (None, heard):
            raise InputError(f"the teacher hears {wanted} values a frame, its student {heard}; one that is spliced "
                             "otherwise, or hears other features, teaches from a cache")
        self.network.to(minibatch.inputs.device)
        with torch.autocast(minibatch.inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            if self.hidden_dim is None:
                return Taught(logits=self.network(minibatch.inputs))
            hidden = self.network.hidden(minibatch.inputs)  # type: ignore[operator]
            return Taught(logits=self.network.output_layer(hidden), hidden=hidden)  # type: ignore[operator]

    def describe(self) -> dict[str, Any]:
        return {"teacher": self.digest, "precision": self.precision}

    def __deepcopy__(self, memo: dict[int, Any]) -> "LiveTeacher":
        """Return the teacher itself: it is frozen, and copies of an objective share it."""
        return self


@dataclass(frozen=True, slots=True)
class CachedTeacher:
    """Soft targets that training data gather by frame (asr_kd.distillation.soft_targets).

    What is None is not known, and not checked. InputError: a minibatch of data without soft targets.
    """

    targets_digest: str | None
    hidden_dim: int | None = None
    num_pdfs: int | None = None
    temperature: float | None = None
    top_k: int | None = None

    @classmethod
    def of(cls, targets: "SoftTargets") -> "CachedTeacher":
        """The teacher of an opened cache, which the training data must have as well."""
        return cls(targets.digest, targets.hidden_dim, targets.num_pdfs, targets.key.temperature, targets.top_k)

    def __call__(self, minibatch: Minibatch) -> Taught:
        targets = minibatch.targets
        if "soft_pdf_ids" not in targets:
            raise InputError("the minibatch has no soft targets; give them to the training data, too")
        return Taught(pdf_ids=targets["soft_pdf_ids"], log_probs=targets["soft_log_probs"],
                      log_tail=targets["soft_log_tail"], log_norm=targets.get("soft_log_norm"),
                      hidden=targets.get("soft_hidden"))

    def describe(self) -> dict[str, Any]:
        return {"soft_targets": self.targets_digest}


Combination = Literal["posteriors", "logits", "surest"]


class TeacherEnsemble(nn.Module):
    """Several teachers of one tree as one network: forward (frames, input_dim) -> (frames, pdfs) logits.

    posteriors: the mean of their posteriors (its logarithm); logits: the mean of their logits; surest: in each frame
    the posteriors of the teacher whose entropy is least. Each teacher hears the part of the inputs that it is spliced
    for: `splices` are its frames to the left and right, the inputs have the most of either. What comes out is softened
    by a temperature like any teacher's logits. The two means, arithmetic and geometric of posteriors, are those of
    Hinton et al., arXiv 1503.02531, section 1; the choice by entropy is ours. InputError: inputs of another width.
    """

    def __init__(self, teachers: Sequence[nn.Module], splices: Sequence[tuple[int, int]], dim: int,
                 combination: Combination = "posteriors") -> None:
        super().__init__()
        if not teachers or len(teachers) != len(splices):
            raise ValueError(f"{len(teachers)} teachers with {len(splices)} splices")
        self.teachers, self.combination = nn.ModuleList(teachers), combination
        self.left, self.right = (max(of_one) for of_one in zip(*splices, strict=True))
        self.hyperparameters = {"input_dim": (self.left + 1 + self.right) * dim}
        self._chosen = torch.zeros(len(teachers), dtype=torch.int64)
        self._counting = threading.Lock()
        self._parts = [slice((self.left - left) * dim, (self.left + 1 + right) * dim) for left, right in splices]

    def forward(self, inputs: Tensor) -> Tensor:
        check_shape(inputs, (len(inputs), self.hyperparameters["input_dim"]), "what the teachers hear")
        of_each = [teacher(inputs[:, part]).float() for teacher, part in zip(self.teachers, self._parts, strict=True)]
        if len({logits.shape for logits in of_each}) > 1:
            raise InputError(f"the teachers have {', '.join(str(logits.shape[-1]) for logits in of_each)} pdfs: they "
                             "belong to different trees")
        logits = torch.stack(of_each)
        if self.combination == "logits":
            return logits.mean(0)
        log_probs = logits.log_softmax(-1)
        if self.combination == "posteriors":
            return log_probs.logsumexp(0) - math.log(len(log_probs))
        surest = (log_probs.exp() * log_probs).sum(-1).argmax(0)
        with self._counting:
            self._chosen += surest.bincount(minlength=len(log_probs)).cpu()
        return log_probs[surest, torch.arange(len(inputs), device=inputs.device)]

    def take_choices(self) -> list[int] | None:
        """surest: frames in which each teacher was chosen since this was last called."""
        chosen: list[int] = self._chosen.tolist()
        self._chosen.zero_()
        return chosen if self.combination == "surest" else None
