"""A speaker's own prior of running normalisation: estimated from, and put into, features that were normalised."""

from typing import Any

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.features.config import FeatureConfig
from asr_kd.features.deltas import add_deltas
from asr_kd.features.extract import normalise_utterance
from asr_kd.features.running_prior import RunningPrior, RunningPriorConfig

DIM = 5
OWN_MEAN, OWN_DEVIATION = np.array([18.0, 9.0, 15.0, 16.0, 11.0]), np.array([2.0, 4.0, 1.0, 3.0, 5.0])


def config(**others: Any) -> FeatureConfig:
    return FeatureConfig(**{
        "num_mel_bins": DIM, "normalisation": "running", "running_prior_mean": [15.0] * DIM,
        "running_prior_variance": [16.0] * DIM, **others})


def speech(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(OWN_MEAN, OWN_DEVIATION, (frames, DIM)).astype(np.float32)


def heard(features: np.ndarray, used: FeatureConfig) -> np.ndarray:
    normalised = normalise_utterance(features, used)
    return add_deltas(normalised, used.deltas) if used.deltas else normalised


@pytest.mark.parametrize("deltas", [0, 2])
def test_renormalised_features_are_those_that_begin_with_the_prior(deltas: int) -> None:
    used = config(deltas=deltas)
    prior = RunningPrior(OWN_MEAN.astype(np.float32), (OWN_DEVIATION**2).astype(np.float32), 600)
    own = used.model_copy(update={"running_prior_mean": OWN_MEAN.tolist(), "running_prior_frames": 600,
                                  "running_prior_variance": (OWN_DEVIATION**2).tolist()})
    features = speech(300, 1)
    np.testing.assert_allclose(prior.renormalise(heard(features, used), used.recipe()), heard(features, own), atol=1e-3)


def test_many_frames_give_the_speakers_own_mean_and_variance_and_none_those_of_training() -> None:
    utterances = [heard(speech(1000, seed), config()) for seed in range(10)]
    much = RunningPrior.estimate(utterances, config().recipe(), RunningPriorConfig(global_frames=0))
    assert much is not None and much.frames == 600
    np.testing.assert_allclose(much.mean, OWN_MEAN, atol=0.2)
    np.testing.assert_allclose(much.variance, OWN_DEVIATION**2, rtol=0.1)
    smoothed = RunningPrior.estimate(utterances[:1], config().recipe(), RunningPriorConfig(global_frames=10**7))
    assert smoothed is not None
    np.testing.assert_allclose(smoothed.mean, 15.0, atol=0.01)
    np.testing.assert_allclose(smoothed.variance, 16.0, atol=0.1)


def test_other_normalisation_has_no_prior_and_takes_none() -> None:
    recipe = config(normalisation="speaker").recipe()
    assert RunningPrior.estimate([speech(10, 0)], recipe, RunningPriorConfig()) is None
    assert RunningPrior.estimate([], config().recipe(), RunningPriorConfig()) is None
    prior = RunningPrior(np.zeros(DIM, np.float32), np.ones(DIM, np.float32), 100)
    with pytest.raises(InputError, match="normalisation 'speaker'"):
        prior.renormalise(speech(10, 0), recipe)
    with pytest.raises(InputError, match="prior of 5 values"):
        prior.renormalise(np.zeros((9, 3), np.float32), {**config().recipe(), "num_mel_bins": 3,
                                                         "running_prior_mean": [], "running_prior_variance": []})
