"""The loss of sequence training: a criterion over lattices, smoothed with a loss of frames."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_kd.sequence.config import CriterionConfig
from asr_kd.sequence.criteria import expected_accuracy, mutual_information
from asr_kd.sequence.data import UtteranceBatch
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import Objective


class SequenceObjective(Objective):
    """`-(1 / acoustic_scale) · criterion + p · frame loss`, a frame (arXiv 1608.00892, eq. 13).

    frame_objective: cross-entropy or distillation, the same that trains frames; used where the settings' smoothing p
    is above 0. log_priors (pdfs,) turn the network's outputs into log-likelihoods, up to a constant a frame.
    """

    def __init__(self, config: CriterionConfig, log_priors: NDArray[np.float32], frame_objective: Objective) -> None:
        super().__init__()
        self.config, self.frame_objective = config, frame_objective
        self.targets_digest = frame_objective.targets_digest if config.smoothing else None
        self.reads_hidden = bool(config.smoothing) and frame_objective.reads_hidden
        self.reads_pdf_ids = bool(config.smoothing) and frame_objective.reads_pdf_ids
        self.collective = bool(config.smoothing) and frame_objective.collective
        self.takes_gradients = bool(config.smoothing) and frame_objective.takes_gradients
        self.register_buffer("log_priors", torch.from_numpy(log_priors.copy()), persistent=False)
        self._sums: dict[str, float] = {}
        self._frames = 0

    def forward(self, logits: Tensor, minibatch: Minibatch, hidden: Tensor | None = None) -> Tensor:
        """logits (frames, pdfs) of an UtteranceBatch -> the mean loss of a frame, a scalar; NaN where a logit is not
        finite, since no path of the lattices has a score then."""
        assert isinstance(minibatch, UtteranceBatch)
        log_priors = self.log_priors
        assert isinstance(log_priors, Tensor)
        if bool(torch.isfinite(logits).all()):
            criterion = self._criterion(logits.float() - log_priors, minibatch).sum() / len(logits)
        else:
            criterion = logits.float().sum() * math.nan
        loss = -criterion.float() / self.config.acoustic_scale
        measured: dict[str, Tensor] = {self.config.criterion: criterion}
        if self.config.smoothing:
            smoothing = self.frame_objective(logits, minibatch, hidden)
            loss = loss + self.config.smoothing * smoothing
            measured["smoothing"] = smoothing
        for name, value in measured.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.item() * len(logits)
        self._frames += len(logits)
        return loss

    def describe(self) -> dict[str, Any]:
        smoothed_with = self.frame_objective.describe() if self.config.smoothing else None
        return {"objective": "sequence", **self.config.model_dump(), "smoothed_with": smoothed_with}

    def take_measures(self) -> dict[str, float]:
        """The criterion a frame (smbr, mpe: expected accuracy, 0 to 1) and the unweighted frame loss."""
        means = {name: total / max(self._frames, 1) for name, total in self._sums.items()}
        self._sums, self._frames = {}, 0
        return means | {f"smoothing_{name}": value for name, value in self.frame_objective.take_measures().items()}

    def damaged(self, minibatch: Minibatch) -> Tensor:
        return self.frame_objective.damaged(minibatch) if self.config.smoothing else super().damaged(minibatch)

    def set_progress(self, progress: float) -> None:
        self.frame_objective.set_progress(progress)

    def describe_state(self) -> dict[str, float]:
        return self.frame_objective.describe_state()

    def _criterion(self, log_likelihoods: Tensor, batch: UtteranceBatch) -> Tensor:
        """The criterion of each utterance (utterances,)."""
        config = self.config
        if batch.accuracies is not None:
            return expected_accuracy(log_likelihoods, batch.lattices, batch.accuracies, config.acoustic_scale)
        assert batch.numerator is not None
        return mutual_information(log_likelihoods, batch.lattices, batch.numerator, config.acoustic_scale,
                                  config.reject_frames)
