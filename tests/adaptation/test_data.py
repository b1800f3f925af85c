"""Minibatches for adaptation: which frames, what they teach, and how they are weighed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.adaptation.config import AdaptationConfig, AdaptationTrainingConfig
from asr_kd.adaptation.data import ANCHOR_WEIGHTS, AdaptationData, TaughtUtterance
from asr_kd.adaptation.posteriors import FramePosteriors
from asr_kd.adaptation.training import adapt_parameters
from asr_kd.core.errors import InputError
from tests.adaptation.speech import DIM, saved_network, taught_utterances


def numbered(frames: int, first: int = 0, name: str = "u0") -> TaughtUtterance:
    """An utterance whose frames hold their own numbers, from `first`, and learn the pdf of number modulo 5."""
    numbers = np.arange(first, first + frames)
    features = np.repeat(numbers[:, None], DIM, 1).astype(np.float32)
    return TaughtUtterance(name, features, FramePosteriors.of_alignment(numbers % 5))


def unadapted(features: np.ndarray) -> FramePosteriors:
    """What a network said before: the pdf after that of `numbered`."""
    return FramePosteriors.of_alignment((features[:, 0].astype(np.int64) + 1) % 5)


def weighted(utterance: TaughtUtterance, weights: list[float]) -> TaughtUtterance:
    return replace(utterance, posteriors=utterance.posteriors.weighted(np.array(weights)))


def test_every_frame_comes_once_an_epoch_in_another_order_and_the_same_for_a_seed() -> None:
    data = AdaptationData(taught_utterances(2, frames=30), left=1, right=1)
    epochs = [np.concatenate(data.batches(16, seed=4, epoch=epoch)) for epoch in range(2)]
    assert all(sorted(epoch) == list(range(60)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(np.concatenate(data.batches(16, seed=4, epoch=0)), epochs[0])
    assert not np.array_equal(np.concatenate(data.batches(16, seed=5, epoch=0)), epochs[0])


def test_replayed_frames_are_drawn_from_the_whole_reserve_and_the_same_for_a_seed() -> None:
    reserve = [np.zeros((10, DIM), np.float32), np.zeros((15, DIM), np.float32)]
    data = AdaptationData(taught_utterances(2, frames=30), left=1, right=1, reserve=reserve, replay_share=0.25,
                          unadapted=unadapted)
    first, second = (data.batches(16, seed=0, epoch=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all((batch >= 60).sum() == 4 for batch in first)
    drawn = np.concatenate([batch for epoch in range(20) for batch in data.batches(16, 0, epoch)])
    assert set(drawn[drawn >= 60]) == set(range(60, 85))
    assert data.utterances(np.array([60, 69, 70, 0])) == ["u0", "reserve-0", "reserve-1"]


@pytest.mark.parametrize("kl_weight", [0.0, 0.25])
def test_a_minibatch_holds_its_frames_posteriors_and_weights(kl_weight: float) -> None:
    utterance = weighted(numbered(6), [1, 0.5, 1, 0, 1, 1])
    data = AdaptationData([utterance], left=1, right=1, kl_weight=kl_weight, unadapted=unadapted)
    minibatch = data.minibatch(np.array([4, 1, 0]))
    # The frame's neighbours stand beside it, and at the ends of the utterance the last frame is repeated.
    spliced = minibatch.inputs.reshape(3, 3, DIM)[:, :, 0]
    assert spliced.tolist() == [[3, 4, 5], [0, 1, 2], [0, 0, 1]]
    assert minibatch.targets["soft_pdf_ids"][:, 0].tolist() == [4, 1, 0]
    assert minibatch.targets["soft_log_probs"].eq(0).all() and minibatch.targets["soft_log_tail"].isneginf().all()
    assert minibatch.pdf_ids.eq(-1).all()
    torch.testing.assert_close(minibatch.frame_weights, (1 - kl_weight) * torch.tensor([1, 0.5, 1]))
    assert (ANCHOR_WEIGHTS in minibatch.targets) == (kl_weight > 0)
    if kl_weight:
        assert minibatch.targets[ANCHOR_WEIGHTS].eq(kl_weight).all()
        assert minibatch.targets["anchor_pdf_ids"][:, 0].tolist() == [0, 2, 1]


def test_utterances_and_reserve_are_spliced_each_for_itself() -> None:
    data = AdaptationData([numbered(3), numbered(3, first=10, name="u1")], [numbered(2, first=20, name="u2")], left=1,
                          right=1, reserve=[np.full((2, DIM), 30, np.float32)], replay_share=0.5, unadapted=unadapted)
    spliced = data.minibatch(np.arange(10)).inputs.reshape(10, 3, DIM)[:, :, 0]
    assert spliced.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2], [10, 10, 11], [10, 11, 12], [11, 12, 12],
                                [20, 20, 21], [20, 21, 21], [30, 30, 30], [30, 30, 30]]


def test_frames_of_weight_0_are_neither_trained_on_nor_judged() -> None:
    data = AdaptationData([weighted(numbered(4), [1, 0, 0.2, 1])], [weighted(numbered(3, name="u1"), [0, 1, 1])],
                          left=0, right=0)
    assert data.train_frames.tolist() == [0, 2, 3]
    assert np.concatenate(data.cv_batches(1)).tolist() == [5, 6]


def test_frames_trained_on_are_judged_where_nothing_is_held_out() -> None:
    data = AdaptationData(taught_utterances(2, frames=500), left=1, right=1)
    assert 256 <= len(data.cv_frames) <= 512 and set(data.cv_frames) <= set(data.train_frames)
    assert np.array_equal(np.concatenate(data.cv_batches(100)), data.cv_frames)
    assert max(map(len, data.cv_batches(100))) == 100


def test_the_digest_is_of_all_that_training_depends_on() -> None:
    reserve = [np.ones((9, DIM), np.float32)]
    plain: dict[str, Any] = {"utterances": taught_utterances(2), "left": 1, "right": 1, "reserve": reserve,
                             "unadapted": unadapted}
    variants: list[dict[str, Any]] = [
        plain, plain | {"utterances": taught_utterances(2, seed=1)}, plain | {"left": 2}, plain | {"kl_weight": 0.5},
        plain | {"utterances": plain["utterances"][:1], "held_out": plain["utterances"][1:]},
        plain | {"replay_share": 0.5}, plain | {"replay_share": 0.5, "reserve": [2 * reserve[0]]},
        plain | {"kl_weight": 0.5, "unadapted": lambda features: FramePosteriors.of_alignment(np.zeros(len(features)))},
        plain | {"utterances": [weighted(one, [0.5] * 40) for one in plain["utterances"]]}]
    assert len({AdaptationData(**variant).digest for variant in variants}) == len(variants)
    assert AdaptationData(**plain).digest == AdaptationData(**{**plain, "utterances": taught_utterances(2)}).digest


def test_the_digest_is_of_where_utterances_end() -> None:
    together, apart = [numbered(6)], [numbered(3), numbered(3, first=3, name="u1")]
    first, second = (AdaptationData(utterances, left=1, right=1) for utterances in (together, apart))
    assert not torch.equal(first.minibatch(np.arange(6)).inputs, second.minibatch(np.arange(6)).inputs)
    assert first.digest != second.digest


def test_a_reserve_without_a_share_is_left_alone() -> None:
    utterances = taught_utterances(2)
    data = AdaptationData(utterances, left=1, right=1, reserve=[np.ones((9, DIM + 1), np.float32)])
    assert max(np.concatenate(data.batches(16, 0, 0))) < 80
    assert data.digest == AdaptationData(utterances, left=1, right=1).digest


def test_what_cannot_be_adapted_on_is_refused() -> None:
    utterances = taught_utterances(2)
    silent = [weighted(one, [0.0] * 40) for one in utterances]
    for nothing in ([], silent):
        with pytest.raises(InputError, match="no frames to adapt on"):
            AdaptationData(nothing, utterances, left=1, right=1)
    with pytest.raises(InputError, match="there is no reserve"):
        AdaptationData(utterances, left=1, right=1, replay_share=0.5)
    with pytest.raises(InputError, match=r"features of \[4, 5\] dimensions"):
        AdaptationData(utterances, left=1, right=1, replay_share=0.5, reserve=[np.ones((9, DIM + 1), np.float32)])
    with pytest.raises(ValueError, match="unadapted network's posteriors"):
        AdaptationData(utterances, left=1, right=1, kl_weight=0.5)


def test_replay_stays_finite_where_the_first_frame_of_the_set_has_no_posteriors(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    (utterance,) = taught_utterances(1)
    frames = np.arange(1, 40)
    taught = replace(utterance, posteriors=FramePosteriors.of_entries(frames, frames % 5, np.ones(39), 40, 6))
    config = AdaptationConfig(replay_share=0.5, training=AdaptationTrainingConfig(epochs=1, batch_size=20))
    adapted = adapt_parameters(network, card, [taught], config, reserve=[utterance.features])
    assert all(value.isfinite().all() for value in adapted.tensors.values())


@pytest.mark.parametrize(("frames", "share"), [(50, 0.5), (300, 0.5), (300, 0.0)])
def test_minibatches_have_at_most_their_size_and_the_share_of_replayed_frames(frames: int, share: float) -> None:
    data = AdaptationData(taught_utterances(1, frames=frames), left=1, right=1, replay_share=share,
                          reserve=[np.ones((9, DIM), np.float32)], unadapted=unadapted)
    for batch in data.batches(256, 0, 0):
        assert len(batch) <= 256
        assert np.mean(batch >= frames) == pytest.approx(share, abs=0.02)


def test_held_out_frames_are_judged_alike_whatever_holds_the_others_back() -> None:
    taught = taught_utterances(3, frames=30)
    for kl_weight in (0.0, 0.5):
        data = AdaptationData(taught[:2], taught[2:], left=1, right=1, kl_weight=kl_weight, unadapted=unadapted)
        weights = data.minibatch(np.arange(90)).frame_weights
        assert weights is not None
        assert weights[:60].eq(1 - kl_weight).all() and weights[60:].eq(1.0).all()
