"""Running normalisation that begins with what is known of a speaker, as Kaldi's online CMVN does.

A stream is normalised by what was heard so far, so that its first seconds depend on where it begins: on the mean and
variance of all training speech, as a network's feature recipe has it, or on those of the speaker or room at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.features.cmvn import CmvnStatistics, undo_running
from asr_kd.features.config import FeatureConfig
from asr_kd.features.deltas import add_deltas
from asr_kd.features.extract import normalise_utterance, running_settings


class RunningPriorConfig(Config):
    """How a speaker's mean and variance are estimated, and for how much they count."""

    speaker_frames: int = Field(600, gt=0, description="frames that they count for at the beginning of an utterance")
    global_frames: int = Field(300, ge=0, description="frames of training speech that they are smoothed with")


@dataclass(frozen=True)
class RunningPrior:
    """Where running normalisation begins: mean and variance (dim,), and the frames that they count for."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    frames: int

    @staticmethod
    def estimate(
        heard: Sequence[NDArray[np.float32]], recipe: Mapping[str, Any], config: RunningPriorConfig
    ) -> "RunningPrior | None":
        """Estimate a speaker's prior of utterances (frames, dim), normalised as `recipe` says; None where it does not
        say running normalisation, or there are no utterances."""
        features = _running_config(recipe)
        if features is None or not heard:
            return None
        statistics = CmvnStatistics.zero(features.static_dim)
        for matrix in heard:
            statistics += CmvnStatistics.of(_undone(matrix, features))
        mean, variance = running_settings(features)[:2]
        known = CmvnStatistics(config.global_frames, config.global_frames * mean,
                               config.global_frames * (variance + mean**2))
        statistics += known
        return RunningPrior(statistics.mean.astype(np.float32), statistics.variance.astype(np.float32),
                            config.speaker_frames)

    def renormalise(self, heard: NDArray[np.float32], recipe: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return an utterance (frames, dim), normalised as `recipe` says, as it is with this prior in its place.

        InputError: a recipe without running normalisation, or of another dimension.
        """
        features = _running_config(recipe)
        if features is None or features.static_dim != len(self.mean):
            raise InputError(f"a prior of {len(self.mean)} values a frame for running normalisation, but the features "
                             f"of kind {recipe.get('kind')!r} have normalisation {recipe.get('normalisation')!r}")
        own = features.model_copy(update={
            "running_prior_mean": self.mean.tolist(), "running_prior_variance": self.variance.tolist(),
            "running_prior_frames": self.frames})
        normalised = normalise_utterance(_undone(heard, features), own)
        return add_deltas(normalised, features.deltas) if features.deltas else normalised


def _running_config(recipe: Mapping[str, Any]) -> FeatureConfig | None:
    if recipe.get("normalisation") != "running":
        return None
    return FeatureConfig(**{name: recipe[name] for name in FeatureConfig.model_fields if name in recipe})


def _undone(heard: NDArray[np.float32], features: FeatureConfig) -> NDArray[np.float32]:
    """The static features before normalisation."""
    mean, variance, window, frames, with_variance = running_settings(features)
    return undo_running(heard[:, :features.static_dim], mean, variance, window=window, prior_frames=frames,
                        variance=with_variance)
