"""The frame objective of distillation, one for all its switches: q · CE + λ · KD(T) + weight · representation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.distillation.config import DistillationConfig
from asr_kd.distillation.divergence import DistillationLoss, SparseDistillationLoss, logit_distance
from asr_kd.distillation.loss_weight import DynamicWeight, scheduled_weight
from asr_kd.distillation.noisy_teacher import NoisyTeacher
from asr_kd.distillation.projector import Projector
from asr_kd.distillation.teachers import Taught, Teacher
from asr_kd.training.cross_entropy import check_frames, check_shape, cross_entropy
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import Objective
from asr_kd.training.parts import num_parts


class DistillationObjective(Objective):
    """`q · CE + λ · KD(T)` (arXiv 1608.00892, eq. 8, 9, 11), with the switches of `DistillationConfig`.

    student_dim: width of the student's last hidden layer, for the projector; parameters: of the student, whose
    gradients a dynamic λ looks at. A switch of strength 0 leaves plain distillation as it is, bit for bit. In
    evaluation mode the loss is one that epochs can be compared by: λ as it was set, no noise, without the projector's
    distance, which is measured only. ValueError: a switch that wants what the teacher does not give, a teacher of
    another temperature; InputError, of a minibatch: a teacher with another number of pdfs, frames that do not match, a
    projector without `hidden`.
    """

    def __init__(self, config: DistillationConfig, teacher: Teacher, *, student_dim: int | None = None,
                 parameters: Sequence[nn.Parameter] = ()) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        self.dense, self.sparse = DistillationLoss(config.temperature), SparseDistillationLoss(config.temperature)
        self.noise = NoisyTeacher(config.noise) if config.noise.is_on else None
        if teacher.temperature not in (None, config.temperature):
            raise ValueError(f"soft targets were cached at temperature {teacher.temperature}, the student is to learn "
                             f"at {config.temperature}; set both alike")
        if config.distance == "logits" and teacher.top_k is not None and teacher.top_k != teacher.num_pdfs:
            raise ValueError(f"the distance of logits needs all {teacher.num_pdfs} of them, soft targets hold the "
                             f"{teacher.top_k} best; set top_k of soft-targets to {teacher.num_pdfs}")
        self.projector: Projector | None = None
        if config.projector.weight:
            if student_dim is None or teacher.hidden_dim is None:
                raise ValueError("a projector needs the last hidden layers of student and teacher; cache the teacher's "
                                 "(soft-targets: hidden), and take a student that has one")
            self.projector = Projector(config.projector, student_dim, teacher.hidden_dim)
        schedule = config.weight_schedule
        self.dynamic = (DynamicWeight(schedule, config.distillation_weight, parameters)
                        if schedule.schedule == "dynamic" and schedule.strength else None)
        self.targets_digest = teacher.targets_digest
        self.reads_hidden = self.projector is not None
        self.reads_pdf_ids = config.cross_entropy_weight > 0
        self.takes_gradients = self.dynamic is not None
        self.collective = self.dynamic is not None or self.projector is not None
        self._progress = 0.0
        self._sums: dict[str, Tensor | float] = {}  # tensors stay where they are: reading one waits for a GPU
        self._frames = 0

    def set_progress(self, progress: float) -> None:
        self._progress = progress

    def forward(self, logits: Tensor, minibatch: Minibatch, hidden: Tensor | None = None) -> Tensor:
        """logits (frames, pdfs), hidden (frames, student_dim) of the student's last hidden layer -> scalar."""
        config = self.config
        measured: dict[str, Tensor | float] = {}
        terms: list[Tensor] = []
        taught = self.teacher(minibatch) if config.distils or self.projector is not None else Taught()
        num_pdfs = self.teacher.num_pdfs if taught.logits is None else taught.logits.shape[-1]
        if num_pdfs not in (None, logits.shape[-1]):
            raise InputError(f"the teacher has {num_pdfs} pdfs, its student {logits.shape[-1]}: they belong to "
                             "different trees")
        weights = minibatch.frame_weights
        task = cross_entropy(logits, minibatch.pdf_ids, weights) if config.cross_entropy_weight else None
        if config.distils:
            divergence = self._divergence(logits, taught, weights)
            weight = self._weight(task, divergence, len(logits))
            terms.append(weight * divergence)
            measured |= {"distillation": divergence.detach(), "distillation_weight": weight}
        if self.projector is not None and (len(logits) > 1 or (self.training and num_parts() > 1)):
            if hidden is None:
                raise InputError("a projector wants the student's last hidden layer: give the objective hidden, "
                                 "student.hidden(inputs), beside the logits")
            if taught.hidden is None:
                raise InputError("a projector wants soft_hidden, the teacher's last hidden layer, beside the soft "
                                 "targets; cache it (soft-targets: hidden)")
            check_frames(logits, hidden, "its last hidden layer")
            check_frames(logits, taught.hidden, "the teacher's last hidden layer")
            distance = self.projector(hidden, taught.hidden)
            if self.training:
                terms.append(config.projector.weight * distance)
            measured["representation"] = distance.detach()
        loss = torch.stack(terms).sum() if len(terms) > 1 else sum(terms, torch.zeros((), device=logits.device))
        if task is not None:
            loss = loss + config.cross_entropy_weight * task
            measured["task"] = task.detach()
        if self.dynamic is not None and self.training:
            measured |= self.dynamic.measures()
        if self.noise is not None and self.training:
            measured["sigma"] = self.noise.sigma
        self._measure(measured, len(logits))
        return loss

    def damaged(self, minibatch: Minibatch) -> Tensor:
        """Those of a teacher on the fly too, whose logits are not finite."""
        found = super().damaged(minibatch)
        taught = self.teacher(minibatch)
        return found if taught.logits is None else found | ~torch.isfinite(taught.logits).all(-1)

    def describe(self) -> dict[str, Any]:
        return {"objective": "distillation", **self.teacher.describe(), **self.config.model_dump()}

    def take_measures(self) -> dict[str, float]:
        """Each term unweighted, λ, norms and cosine of the gradients, σ."""
        means = {name: float(total) / max(self._frames, 1) for name, total in self._sums.items()}
        self._sums, self._frames = {}, 0
        return means

    def describe_state(self) -> dict[str, float]:
        """Of the projector, whose collapse shows in them: its largest, median and least singular value."""
        values = torch.zeros(0) if self.projector is None else self.projector.singular_values()
        if not len(values):
            return {}
        names = ("largest", "median", "least")
        return {f"projector_{name}_singular_value": float(value)
                for name, value in zip(names, (values.max(), values.median(), values.min()), strict=True)}

    def _divergence(self, logits: Tensor, taught: Taught, weights: Tensor | None) -> Tensor:
        if self.config.distance == "logits" and weights is not None:
            raise InputError("the distance of logits knows no weights of frames; learn by kl")
        noise = self.noise if self.training else None
        if taught.logits is not None:
            teacher_logits = taught.logits if noise is None else noise.perturb(taught.logits.float(), self._progress)
            if self.config.distance == "logits":
                return logit_distance(logits, teacher_logits)
            return self.dense(logits, teacher_logits, weights)
        pdf_ids, log_probs, log_tail = taught.pdf_ids, taught.log_probs, taught.log_tail
        assert pdf_ids is not None and log_probs is not None and log_tail is not None
        if self.config.distance == "logits":
            check_frames(logits, pdf_ids, "the teacher's posteriors")
            check_shape(log_probs, pdf_ids.shape, "the teacher's log-probabilities")
            known = log_probs + _log_norm(taught, log_probs)[:, None]
            if noise is not None:
                known = noise.perturb(known, self._progress)
            return logit_distance(logits.gather(1, pdf_ids.long()), known)
        if noise is not None:
            log_probs, log_tail = noise.perturb_best(log_probs, log_tail, _log_norm(taught, log_probs), self._progress)
        return self.sparse(logits, pdf_ids, log_probs, log_tail, weights)

    def _weight(self, task: Tensor | None, divergence: Tensor, frames: int) -> float:
        schedule, first = self.config.weight_schedule, self.config.distillation_weight
        if not self.training:
            return first or schedule.last
        if self.dynamic is None:
            return scheduled_weight(schedule, first, self._progress)
        assert task is not None
        if not torch.is_grad_enabled():
            return self.dynamic.current
        return self.dynamic(self.config.cross_entropy_weight * task, divergence, frames)

    def _measure(self, values: dict[str, Tensor | float], frames: int) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * frames
        self._frames += frames


def _log_norm(taught: Taught, log_probs: Tensor) -> Tensor:
    if taught.log_norm is None:
        raise InputError("noise and the distance of logits want soft_log_norm, which makes the teacher's posteriors "
                         "logits again; give it beside soft_log_probs")
    check_shape(taught.log_norm, log_probs.shape[:1], "what makes the teacher's posteriors logits")
    return taught.log_norm
