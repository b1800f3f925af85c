import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.features.cmvn import CmvnStatistics, normalise_running, undo_running
from asr_kd.features.deltas import add_deltas

RANDOM = np.random.default_rng(3)


@given(cut=st.integers(1, 29))
def test_statistics_of_parts_add_up_to_those_of_the_whole(cut: int) -> None:
    features = RANDOM.normal(5, 2, (30, 4))
    whole, parts = CmvnStatistics.of(features), CmvnStatistics.of(features[:cut]) + CmvnStatistics.of(features[cut:])
    np.testing.assert_allclose(parts.to_kaldi(), whole.to_kaldi(), rtol=1e-12)
    np.testing.assert_array_equal(CmvnStatistics.from_kaldi(whole.to_kaldi()).to_kaldi(), whole.to_kaldi())


def test_normalised_features_have_mean_zero_and_variance_one() -> None:
    features = RANDOM.normal(12, 3, (500, 4))
    normalised = CmvnStatistics.of(features).normalise(features)
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std(axis=0), 1, rtol=1e-6)


def test_a_column_that_does_not_vary_is_only_centred() -> None:
    features = np.full((50, 2), -15.942385, dtype=np.float32)
    np.testing.assert_allclose(CmvnStatistics.of(features).normalise(features), 0, atol=1e-5)
    np.testing.assert_allclose(CmvnStatistics.of(features[:1]).normalise(features[:1]), 0, atol=1e-5)


def test_a_mean_of_no_frames_and_a_matrix_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="no frames"):
        CmvnStatistics.zero(3).normalise(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"expected \(2, dim \+ 1\)"):
        CmvnStatistics.from_kaldi(np.zeros((3, 4)))


@given(frame=st.integers(0, 79))
def test_running_normalisation_is_causal_and_equals_its_definition(frame: int) -> None:
    features = RANDOM.normal(12, 3, (80, 3))
    mean, variance = np.array([10.0, 12.0, 14.0]), np.array([4.0, 9.0, 16.0])
    whole = normalise_running(features, mean, variance, window=20, prior_frames=7)
    so_far = normalise_running(features[: frame + 1], mean, variance, window=20, prior_frames=7)
    np.testing.assert_allclose(so_far, whole[: frame + 1], atol=1e-6)
    seen = features[max(0, frame - 19) : frame + 1]
    count = len(seen) + 7
    expected_mean = (seen.sum(axis=0) + 7 * mean) / count
    second = ((seen - mean) ** 2).sum(axis=0) + 7 * variance
    expected_variance = second / count - (expected_mean - mean) ** 2
    np.testing.assert_allclose(
        whole[frame], (features[frame] - expected_mean) / np.sqrt(expected_variance), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("variance", [True, False])
def test_running_normalisation_can_be_undone(variance: bool, dtype: type) -> None:
    features = RANDOM.normal(12, 3, (900, 3))
    features[0] = 40.0  # far from the prior
    settings = {"window": 200, "prior_frames": 50, "variance": variance}
    mean, spread = np.array([10.0, 12.0, 14.0]), np.array([4.0, 9.0, 16.0])
    stored = normalise_running(features, mean, spread, **settings).astype(dtype)
    undone = undo_running(stored, mean, spread, **settings)
    np.testing.assert_allclose(undone, features, atol=1e-3 if dtype is np.float32 else 0.1)
    again = normalise_running(undone, mean, spread, **settings)
    np.testing.assert_allclose(again, stored, atol=1e-4 if dtype is np.float32 else 1e-2)


@given(order=st.integers(0, 3), frames=st.integers(0, 12))
def test_deltas_of_a_constant_are_zero_and_static_values_come_first(order: int, frames: int) -> None:
    features = np.full((frames, 3), 2.5, dtype=np.float32)
    with_deltas = add_deltas(features, order)
    assert with_deltas.shape == (frames, 3 * (order + 1))
    np.testing.assert_array_equal(with_deltas[:, :3], features)
    np.testing.assert_allclose(with_deltas[:, 3:], 0, atol=1e-6)


def test_delta_of_a_ramp_is_its_slope() -> None:
    ramp = 3.0 * np.arange(20)[:, None]
    with_deltas = add_deltas(ramp, 2)
    np.testing.assert_allclose(with_deltas[4:-4, 1], 3.0, rtol=1e-6)
    np.testing.assert_allclose(with_deltas[4:-4, 2], 0.0, atol=1e-5)
