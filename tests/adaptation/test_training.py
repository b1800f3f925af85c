"""Training of adapters: what moves, what holds it back, minibatches with replay."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd.adaptation.adapter import apply_tensors
from asr_kd.adaptation.config import AdaptationConfig, AdaptationTrainingConfig
from asr_kd.adaptation.data import ANCHOR_WEIGHTS, AdaptationData
from asr_kd.adaptation.posteriors import FramePosteriors
from asr_kd.adaptation.training import adapt_parameters
from asr_kd.core.errors import InputError
from tests.adaptation.speech import DIM, saved_network, taught_utterances

TRAINING = AdaptationTrainingConfig(epochs=3, batch_size=32, learning_rate=0.05)


@pytest.mark.parametrize(("groups", "pattern", "numbers"), [
    (["gates"], "gate", 128), (["lhuc"], "amplitudes", 24), (["biases"], "bias", 30), (["output_bias"], "output", 6),
    (["hidden_layers.0.*"], "hidden_layers.0", 72), (["gates", "lhuc"], "", 152)])
def test_the_named_parameters_move_and_no_others(
        tmp_path: Path, groups: list[str], pattern: str, numbers: int) -> None:
    network, card = saved_network(tmp_path / "model")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    adapted = adapt_parameters(network, card, taught_utterances(), AdaptationConfig(
        parameters=groups, training=TRAINING))
    assert sum(value.numel() for value in adapted.tensors.values()) == numbers
    assert all(pattern in name for name in adapted.tensors)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    for name, value in adapted.tensors.items():
        assert not torch.equal(value, before.get(name, torch.zeros_like(value)))


def test_adaptation_lowers_the_loss_and_is_the_same_again(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    config = AdaptationConfig(parameters=["all"], training=TRAINING)
    first, second = (adapt_parameters(network, card, taught_utterances(), config, seed=3) for _ in range(2))
    history = first.training.history
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    for name, value in first.tensors.items():
        assert torch.equal(value, second.tensors[name])


def test_a_network_in_training_mode_is_held_to_what_it_says_at_rest_and_stays_in_its_mode(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    config = AdaptationConfig(kl_weight=0.5, training=TRAINING)
    at_rest = adapt_parameters(network, card, taught_utterances(), config)
    network.dropout.probability = 0.5
    in_training = adapt_parameters(network.train(), card, taught_utterances(), config)
    assert network.training and all(value.requires_grad for value in network.parameters())
    for name, value in at_rest.tensors.items():
        assert torch.equal(value, in_training.tensors[name])


def test_the_numbers_of_fewer_epochs_are_those_of_a_shorter_training(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    longer, shorter = (adapt_parameters(network, card, taught_utterances(), AdaptationConfig(
        training=AdaptationTrainingConfig(epochs=epochs, batch_size=32, learning_rate=0.05)))
        for epochs in (3, 2))
    assert len(longer.after_epochs) == len(longer.held_out_losses) == 3
    for name, value in shorter.tensors.items():
        assert torch.equal(value, longer.after_epochs[1][name])
        assert not torch.equal(value, longer.tensors[name])


@pytest.mark.parametrize("held_back", [{"kl_weight": 0.95}, {"l2_weight": 100.0}])
def test_what_holds_back_keeps_outputs_near_the_unadapted_ones(tmp_path: Path, held_back: dict[str, float]) -> None:
    network, card = saved_network(tmp_path / "model")
    inputs = torch.randn(50, 3 * DIM)
    distances = []
    for settings in ({}, held_back):
        adapted = adapt_parameters(network, card, taught_utterances(), AdaptationConfig(
            parameters=["all"], training=TRAINING, **settings))
        with torch.no_grad():
            changed = apply_tensors(network, adapted.tensors)(inputs).log_softmax(-1)
            distances.append(float((changed - network(inputs).log_softmax(-1)).abs().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_each_minibatch_has_its_share_of_replayed_frames() -> None:
    utterances = taught_utterances(2, frames=30)
    reserve = [np.full((25, DIM), 7.0, np.float32)]
    data = AdaptationData(utterances, left=1, right=1, kl_weight=0.25, reserve=reserve, replay_share=0.5,
                          unadapted=lambda features: FramePosteriors.of_alignment(np.zeros(len(features))))
    batches = data.batches(20, seed=1, epoch=0)
    assert sorted(np.concatenate([batch[batch < 60] for batch in batches])) == list(range(60))
    for batch in batches:
        minibatch = data.minibatch(batch)
        is_replayed = (minibatch.inputs == 7.0).all(-1)
        assert int(is_replayed.sum()) == 10
        weights = minibatch.frame_weights
        assert weights is not None
        assert weights[is_replayed].eq(0).all() and weights[~is_replayed].eq(0.75).all()
        anchors = minibatch.targets[ANCHOR_WEIGHTS]
        assert anchors[is_replayed].eq(1).all() and anchors[~is_replayed].eq(0.25).all()


def test_held_out_utterances_are_judged_and_not_trained_on() -> None:
    utterances = taught_utterances(3, frames=30)
    data = AdaptationData(utterances[:2], utterances[2:], left=1, right=1)
    assert set(data.train_frames) == set(range(60)) and set(data.cv_frames) == set(range(60, 90))
    assert data.utterances(data.cv_frames) == ["u2"]


def test_nothing_to_learn_and_replay_without_reserve_are_refused(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    with pytest.raises(InputError, match="no frames to adapt on"):
        adapt_parameters(network, card, [], AdaptationConfig())
    with pytest.raises(InputError, match="no reserve"):
        adapt_parameters(network, card, taught_utterances(), AdaptationConfig(replay_share=0.5))
    with pytest.raises(InputError, match="group 'gate'"):
        adapt_parameters(network, card, taught_utterances(), AdaptationConfig(parameters=["gate"]))


@pytest.mark.parametrize(("groups", "rate"), [(["gates"], 1e-3), (["lhuc"], 0.03), (["gates", "lhuc"], 1e-3),
                                              (["biases"], 1e-3), (["all"], 1e-4)])
def test_what_moves_has_a_learning_rate_of_its_own_and_a_given_one_is_kept(groups: list[str], rate: float) -> None:
    assert AdaptationConfig(parameters=groups).training_settings().learning_rate == rate
    given = AdaptationConfig(parameters=groups, training=AdaptationTrainingConfig(learning_rate=0.1))
    assert given.training_settings().learning_rate == 0.1
