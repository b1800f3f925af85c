import tracemalloc

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from asr_kd.bootstrap.gmm_training import GmmConfig, accumulate, split, split_targets, update
from asr_kd.bootstrap.sorted_frames import AlignedFrames
from asr_kd.hmm.gmm import DiagonalGmms


def random_gmms(seed: int = 0, sizes: tuple[int, ...] = (1, 4, 3, 7), dim: int = 5) -> DiagonalGmms:
    generator = np.random.default_rng(seed)
    weights = np.concatenate([generator.dirichlet(np.ones(n)) for n in sizes])
    total = sum(sizes)
    return DiagonalGmms(np.concatenate([[0], np.cumsum(sizes)]), weights, generator.normal(0, 3, (total, dim)),
                        generator.uniform(0.3, 2.0, (total, dim)))


def reference(gmms: DiagonalGmms, x: np.ndarray) -> np.ndarray:
    component = norm.logpdf(x[:, None], gmms.means, np.sqrt(gmms.variances)).sum(-1) + np.log(gmms.weights)
    return np.stack([logsumexp(component[:, a:b], axis=1)
                     for a, b in zip(gmms.offsets[:-1], gmms.offsets[1:], strict=True)], axis=1)


def test_log_likelihoods_equal_the_densities() -> None:
    gmms = random_gmms()
    x = np.random.default_rng(1).normal(0, 3, (37, gmms.dim)).astype(np.float32)
    found = gmms.log_likelihoods(x)
    assert found.dtype == np.float32 and found.shape == (37, 4)
    np.testing.assert_allclose(found, reference(gmms, x.astype(np.float64)), rtol=1e-4, atol=1e-3)


def test_chosen_pdfs_have_the_same_log_likelihoods() -> None:
    gmms = random_gmms()
    x = np.random.default_rng(1).normal(0, 3, (11, gmms.dim)).astype(np.float32)
    np.testing.assert_array_equal(gmms.log_likelihoods(x, [3, 1]), gmms.log_likelihoods(x)[:, [3, 1]])


def test_features_of_another_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="dimension 5"):
        random_gmms().log_likelihoods(np.zeros((3, 4), np.float32))


def test_no_frames_have_no_log_likelihoods() -> None:
    assert random_gmms().log_likelihoods(np.zeros((0, 5), np.float32)).shape == (0, 4)


def test_a_long_recording_does_not_take_memory_for_the_scores_of_all_its_gaussians() -> None:
    gmms = random_gmms(sizes=(40, 60, 20))
    x = np.random.default_rng(1).normal(0, 3, (9000, gmms.dim)).astype(np.float32)
    gmms.log_likelihoods(x[:2])
    tracemalloc.start()
    found = gmms.log_likelihoods(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < gmms.num_gaussians * len(x) * 4 / 2
    np.testing.assert_allclose(found[-5:], gmms.log_likelihoods(x[-5:]), rtol=1e-5)


def aligned(gmms: DiagonalGmms, frames: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    component = generator.integers(gmms.num_gaussians, size=frames)
    x = gmms.means[component] + np.sqrt(gmms.variances[component]) * generator.standard_normal((frames, gmms.dim))
    return x.astype(np.float32), gmms.pdf_of_gaussian[component]


def test_statistics_equal_plain_posterior_sums() -> None:
    gmms = random_gmms()
    x, pdfs = aligned(gmms)
    statistics = accumulate(gmms, [AlignedFrames(x, pdfs, gmms.num_pdfs)], workers=2)
    component = norm.logpdf(x[:, None].astype(np.float64), gmms.means, np.sqrt(gmms.variances)).sum(-1)
    component += np.log(gmms.weights)
    component[gmms.pdf_of_gaussian != pdfs[:, None]] = -np.inf
    posteriors = np.exp(component - logsumexp(component, axis=1, keepdims=True))
    np.testing.assert_allclose(statistics.occupancy, posteriors.sum(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.first, posteriors.T @ x, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(statistics.second, posteriors.T @ (x * x), rtol=1e-3, atol=0.05)
    assert statistics.log_likelihood == pytest.approx(logsumexp(component, axis=1).sum(), rel=1e-5)


def test_frames_with_a_negative_pdf_are_left_out() -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    frames = AlignedFrames(x, np.array([1, -1, 0, 1, -1, 2]), 3)
    assert frames.frames.T.tolist() == x[[2, 0, 3, 5]].tolist() and frames.bounds.tolist() == [0, 1, 3, 4]


def test_sorting_frames_by_pdf_makes_one_copy_of_them_not_two() -> None:
    generator = np.random.default_rng(3)
    x = generator.standard_normal((150_000, 39), dtype=np.float32)
    pdfs = generator.integers(-1, 50, len(x)).astype(np.int32)
    tracemalloc.start()
    frames = AlignedFrames(x, pdfs, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * x.nbytes
    order = np.argsort(pdfs, kind="stable")[np.sum(pdfs < 0):]
    np.testing.assert_array_equal(frames.frames, x[order].T)


def test_each_update_raises_the_likelihood() -> None:
    gmms = random_gmms()
    x, pdfs = aligned(gmms)
    frames = AlignedFrames(x, pdfs, gmms.num_pdfs)
    current = random_gmms(seed=9)
    history = []
    for _ in range(6):
        statistics = accumulate(current, [frames])
        history.append(statistics.log_likelihood)
        current = update(current, statistics, GmmConfig())
    assert all(b >= a for a, b in zip(history, history[1:], strict=False)) and history[-1] > history[0] + 100


def test_workers_do_not_change_the_statistics() -> None:
    gmms = random_gmms()
    frames = AlignedFrames(*aligned(gmms), gmms.num_pdfs)
    one, two = accumulate(gmms, [frames], workers=1), accumulate(gmms, [frames], workers=2)
    np.testing.assert_array_equal(one.first, two.first)
    assert one.log_likelihood == two.log_likelihood


def test_rare_gaussians_go_but_every_pdf_keeps_one() -> None:
    gmms = random_gmms(sizes=(2, 2))
    statistics = accumulate(gmms, [AlignedFrames(gmms.means[:1].repeat(200, 0).astype(np.float32),
                                                 np.zeros(200, int), 2)])
    new = update(gmms, statistics, GmmConfig())
    assert np.diff(new.offsets).tolist() == [1, 1]
    assert new.variances.min() >= GmmConfig().min_variance
    np.testing.assert_allclose(new.means[0], gmms.means[0], atol=1e-3)
    assert new.means[1].tolist() in gmms.means[2:].tolist()
    np.testing.assert_allclose(new.weights, 1.0)


def test_targets_grow_with_occupancy_and_leave_frames_for_each() -> None:
    targets = split_targets(np.array([10000.0, 625.0, 35.0, 0.0]), 14, 0.25, 20.0)
    assert targets[3] == 1 and targets[2] == 1
    assert targets.sum() == 14 and targets[0] / targets[1] == pytest.approx(2.0, abs=0.5)
    assert split_targets(np.array([100.0, 100.0]), 50, 0.25, 20.0).tolist() == [4, 4]


def test_splitting_keeps_weight_and_mean() -> None:
    gmms = random_gmms()
    bigger = split(gmms, np.full(4, 1e6), 40, GmmConfig(), np.random.default_rng(0))
    assert bigger.num_gaussians == 40
    for pdf in range(4):
        new, old = (slice(g.offsets[pdf], g.offsets[pdf + 1]) for g in (bigger, gmms))
        assert bigger.weights[new].sum() == pytest.approx(1.0)
        np.testing.assert_allclose(bigger.weights[new] @ bigger.means[new], gmms.weights[old] @ gmms.means[old])
