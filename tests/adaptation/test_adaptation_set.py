"""Adaptation to a set: what is chosen inside it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.adaptation.adaptation_set import (
    AdaptationBase,
    AdaptationOutcome,
    AdaptationSet,
    adapt_to_set,
    part_utterances,
)
from asr_kd.adaptation.config import AdaptationConfig, AdaptationTrainingConfig
from asr_kd.adaptation.recognition import SpokenUtterance
from asr_kd.adaptation.training import adapt_parameters
from asr_kd.features.running_prior import RunningPrior, RunningPriorConfig
from tests.adaptation.speech import RUNNING, saved_network, taught_utterances

TRAINING = AdaptationTrainingConfig(epochs=6, batch_size=32, learning_rate=0.1)


def speech(count: int, frames: int = 40) -> AdaptationSet:
    """Utterances with posteriors that their features tell."""
    taught = taught_utterances(count, frames)
    return AdaptationSet({one.id: SpokenUtterance(one.id, one.features) for one in taught},
                         {one.id: one.posteriors for one in taught}, 0.01)


def base_network(folder: Path, trained: bool = False) -> AdaptationBase:
    """A network that knows nothing yet, or that knows already what utterances teach."""
    network, card = saved_network(folder / "model")
    if trained:
        config = AdaptationConfig(parameters=["all"], kl_weight=0.0, training=TRAINING.model_copy(
            update={"epochs": 100}))
        known = adapt_parameters(network, card, taught_utterances(20, seed=5), config)
        network.load_state_dict(known.tensors)
    return AdaptationBase(network, card, folder)


def adapted(base: AdaptationBase, given: AdaptationSet, learning_rate: float = 0.1, **settings: Any
            ) -> AdaptationOutcome:
    training = TRAINING.model_copy(update={"learning_rate": learning_rate})
    return adapt_to_set(base, given, AdaptationConfig(training=training, **settings), None, workers=1)


def test_the_best_epoch_on_parts_not_adapted_on_is_chosen_and_all_is_adapted_as_long(tmp_path: Path) -> None:
    base, given = base_network(tmp_path, trained=True), speech(6, frames=3)
    outcome = adapted(base, given, 0.5, kl_weight=0.0)
    assert outcome.epochs == 1 + int(np.argmin(outcome.part_losses)) < 6
    fresh = adapt_parameters(base.network, base.card, taught_utterances(6, frames=3), AdaptationConfig(
        kl_weight=0.0, training=TRAINING.model_copy(update={"epochs": outcome.epochs, "learning_rate": 0.5})))
    for name, value in fresh.tensors.items():
        assert torch.equal(value, outcome.tensors[name])


@pytest.mark.parametrize(("trained", "frames", "rate", "weight"), [(False, 40, 0.1, 0.0), (True, 3, 0.5, 0.9)])
def test_too_little_speech_is_held_back_and_enough_is_not(
        tmp_path: Path, trained: bool, frames: int, rate: float, weight: float) -> None:
    outcome = adapted(base_network(tmp_path, trained), speech(6, frames), rate, kl_weights=[0.0, 0.9])
    assert outcome.kl_weight == weight
    best = {one: min(losses) for one, losses in outcome.tried.items()}
    assert best[weight] == min(best.values())


def test_what_is_given_is_not_chosen(tmp_path: Path) -> None:
    outcome = adapted(base_network(tmp_path), speech(4), kl_weight=0.3, choose_epochs=False)
    assert (outcome.kl_weight, outcome.epochs, outcome.part_losses) == (0.3, 6, [])


def test_a_set_of_one_utterance_takes_the_most_careful_settings(tmp_path: Path) -> None:
    outcome = adapted(base_network(tmp_path), speech(1), kl_weights=[0.1, 0.6])
    assert (outcome.kl_weight, outcome.epochs, outcome.part_losses) == (0.6, 6, [])


def test_a_stream_begins_with_the_mean_of_the_set_where_features_are_normalised_as_streams(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model", recipe=RUNNING)
    base, given = AdaptationBase(network, card, tmp_path), speech(4)
    outcome = adapted(base, given)
    expected = RunningPrior.estimate([one.features for one in given.utterances.values()], RUNNING, RunningPriorConfig())
    assert outcome.prior is not None and expected is not None
    np.testing.assert_allclose(outcome.prior.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(outcome.prior.variance, expected.variance, rtol=1e-6)
    without = adapted(base, given, running_prior=None)
    assert without.prior is None
    assert any(not torch.equal(value, without.tensors[name]) for name, value in outcome.tensors.items())
    assert adapted(base_network(tmp_path / "speakers"), given).prior is None


def test_parts_have_about_equally_many_frames() -> None:
    parts = part_utterances(speech(7))
    assert sorted(name for part in parts for name in part) == sorted(speech(7).posteriors)
    assert sorted(map(len, parts)) == [2, 2, 3]
