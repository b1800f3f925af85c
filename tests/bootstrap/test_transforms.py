import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from asr_kd.bootstrap.gmm_training import accumulate
from asr_kd.bootstrap.lda import LdaStatistics, accumulate_lda, lda_transform
from asr_kd.bootstrap.mllt import MlltStatistics, accumulate_mllt, mllt_objective, mllt_transform
from asr_kd.bootstrap.sorted_frames import AlignedFrames, SortedFrames
from asr_kd.core.errors import InputError
from asr_kd.hmm.gmm import DiagonalGmms
from tests.bootstrap.test_fmllr import gaussian_posteriors
from tests.hmm.test_gmm import random_gmms


def labelled(seed: int = 0, frames: int = 300, dim: int = 2, classes: int = 9
             ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Three utterances whose frames lie about means of their class; class -1 is noise to leave out."""
    generator = np.random.default_rng(seed)
    means = 3 * generator.standard_normal((classes + 1, dim))
    label = {f"u{i}": np.repeat(generator.integers(-1, classes, frames // 6), 2) for i in range(3)}
    features = {u: means[c] + generator.standard_normal((len(c), dim)) for u, c in label.items()}
    return {u: x.astype(np.float32) for u, x in features.items()}, label


def spliced(features: dict[str, np.ndarray], classes: dict[str, np.ndarray], left: int, right: int
            ) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for x in features.values():
        index = np.clip(np.arange(len(x))[:, None] + np.arange(-left, right + 1), 0, len(x) - 1)
        rows.append(x[index].reshape(len(x), -1))
    joined, labels = np.concatenate(rows).astype(np.float64), np.concatenate([classes[u] for u in features])
    return joined[labels >= 0], labels[labels >= 0]


def test_lda_statistics_are_those_of_spliced_frames_with_a_class() -> None:
    features, classes = labelled()
    found = accumulate_lda(features.__getitem__, classes, 9, 2, 1, workers=2)
    x, labels = spliced(features, classes, 2, 1)
    np.testing.assert_array_equal(found.counts, np.bincount(labels, minlength=9))
    np.testing.assert_allclose(found.sums, [x[labels == c].sum(0) for c in range(9)], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.squares, x.T @ x, rtol=1e-4, atol=1e-2)


def test_lda_whitens_within_classes_and_keeps_the_directions_of_the_generalised_eigenproblem() -> None:
    features, classes = labelled()
    transform = lda_transform(accumulate_lda(features.__getitem__, classes, 9, 1, 1), 4)
    x, labels = spliced(features, classes, 1, 1)
    means = np.stack([x[labels == c].mean(0) for c in range(9)])
    within = np.cov((x - means[labels]).T, bias=True)
    between = np.cov(means[labels].T, bias=True)
    np.testing.assert_allclose(transform @ within @ transform.T, np.eye(4), atol=1e-3)
    values = eigh(between, within, eigvals_only=True)[::-1]
    np.testing.assert_allclose(transform @ between @ transform.T, np.diag(values[:4]), rtol=1e-2, atol=1e-2)


def test_lda_to_too_many_dimensions_or_without_full_rank_is_refused() -> None:
    features, classes = labelled()
    with pytest.raises(InputError, match="more than 9 pdfs"):
        lda_transform(accumulate_lda(features.__getitem__, classes, 9, 2, 2), 9)
    flat = LdaStatistics(np.full(4, 10.0), np.outer(np.arange(4.0), np.ones(3)), np.zeros((3, 3)))
    with pytest.raises(InputError, match="full rank"):
        lda_transform(flat, 2)


def test_threads_of_matrix_products_do_not_change_a_bit_of_the_transform() -> None:
    """As workers do not: whatever stands on them is then the same on one core and on many."""
    generator = np.random.default_rng(8)
    spread = generator.standard_normal((2000, 91))
    lda = LdaStatistics(np.full(200, 10.0), 10 * generator.standard_normal((200, 91)), 9 * spread.T @ spread)
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads, user_api="blas"):
            found.append(lda_transform(lda, 40).tobytes())
    assert found[0] == found[1]


def mllt_case(seed: int, dim: int = 3, frames: int = 3000) -> tuple[DiagonalGmms, np.ndarray, np.ndarray]:
    """Frames whose covariance is not diagonal, and a diagonal model of them."""
    generator = np.random.default_rng(seed)
    gmms = random_gmms(seed, dim=dim)
    component = generator.integers(gmms.num_gaussians, size=frames)
    noise = generator.standard_normal((frames, dim)) @ (np.eye(dim) + 0.5 * generator.standard_normal((dim, dim)))
    return gmms, (gmms.means[component] + noise).astype(np.float32), gmms.pdf_of_gaussian[component]


def mllt_statistics(gmms: DiagonalGmms, x: np.ndarray, pdfs: np.ndarray, left_out: tuple[int, ...] = (),
                    workers: int | None = None) -> MlltStatistics:
    half = len(x) // 2
    blocks = [AlignedFrames(x[:half], pdfs[:half], gmms.num_pdfs), AlignedFrames(x[half:], pdfs[half:], gmms.num_pdfs)]
    return accumulate_mllt(gmms, blocks, np.isin(np.arange(gmms.num_pdfs), left_out), workers)


def test_mllt_statistics_equal_plain_sums() -> None:
    gmms, x, pdfs = mllt_case(0)
    found = mllt_statistics(gmms, x, pdfs, left_out=(1,))
    x, pdfs = x[pdfs != 1].astype(np.float64), pdfs[pdfs != 1]
    posteriors = gaussian_posteriors(gmms, x, pdfs)
    offsets = x[:, None] - gmms.means
    expected = np.einsum("tg,gd,tgi,tgj->dij", posteriors, 1 / gmms.variances, offsets, offsets, optimize=True)
    np.testing.assert_allclose(found.quadratic, expected, rtol=1e-3, atol=0.5)
    assert found.frames == pytest.approx(len(x), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_mllt_is_the_numerical_optimum(seed: int) -> None:
    statistics = mllt_statistics(*mllt_case(seed))
    matrix, gain = mllt_transform(statistics)
    scaled = MlltStatistics(1.0, statistics.quadratic / statistics.frames)
    found = minimize(lambda m: -mllt_objective(scaled, m.reshape(3, 3)), np.eye(3).ravel(), method="BFGS")
    assert mllt_objective(scaled, matrix) >= -found.fun - 1e-6
    assert gain == pytest.approx(mllt_objective(scaled, matrix) - mllt_objective(scaled, np.eye(3)), rel=1e-6)


def test_transformed_frames_and_means_gain_what_mllt_says() -> None:
    gmms, x, pdfs = mllt_case(1)
    matrix, gain = mllt_transform(mllt_statistics(gmms, x, pdfs))
    turned = DiagonalGmms(gmms.offsets, gmms.weights, gmms.means @ matrix.T, gmms.variances)
    posteriors = gaussian_posteriors(gmms, x, pdfs)

    def expected(model: DiagonalGmms, frames: np.ndarray) -> float:
        scores = norm.logpdf(frames[:, None], model.means, np.sqrt(model.variances)).sum(-1)
        return float((posteriors * scores).sum(axis=1).mean())

    after = expected(turned, x @ matrix.T) + np.linalg.slogdet(matrix)[1]
    assert after - expected(gmms, x.astype(np.float64)) == pytest.approx(gain, rel=1e-3)


def test_workers_do_not_change_mllt() -> None:
    case = mllt_case(2)
    one, three = mllt_statistics(*case, workers=1), mllt_statistics(*case, workers=3)
    np.testing.assert_array_equal(one.quadratic, three.quadratic)


def test_mllt_without_enough_frames_is_refused() -> None:
    with pytest.raises(InputError, match="MLLT"):
        mllt_transform(MlltStatistics(2.0, np.zeros((3, 3, 3))))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 17), st.integers(0, 99))
def test_blocks_hold_every_frame_once_sorted_by_pdf(lengths: list[int], block: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features = {f"u{i}": generator.standard_normal((n, 2)).astype(np.float32) for i, n in enumerate(lengths)}
    pdfs = {u: generator.integers(-1, 3, len(x)) for u, x in features.items()}
    with SortedFrames(features.__getitem__, pdfs, 3, workers=2, block_frames=block) as frames:
        for _ in range(2):
            found: list[list[tuple[float, ...]]] = [[], [], []]
            for part in frames:
                assert part.num_frames <= block
                for pdf in range(3):
                    found[pdf] += [tuple(c) for c in part.frames[:, part.bounds[pdf] : part.bounds[pdf + 1]].T]
            for pdf in range(3):
                expected = [tuple(x) for u in features for x in features[u][pdfs[u] == pdf]]
                assert sorted(found[pdf]) == sorted(expected)
        assert frames.num_frames == sum(len(f) for f in found)


def test_statistics_of_blocks_are_those_of_all_frames() -> None:
    gmms, x, pdfs = mllt_case(3)
    whole = accumulate(gmms, [AlignedFrames(x, pdfs, gmms.num_pdfs)])
    with SortedFrames({"a": x[:100], "b": x[100:]}.__getitem__, {"a": pdfs[:100], "b": pdfs[100:]}, gmms.num_pdfs,
                      block_frames=250) as blocks:
        parts = accumulate(gmms, blocks)
    np.testing.assert_allclose(parts.second, whole.second, rtol=1e-4, atol=1e-2)
    assert parts.num_frames == whole.num_frames == len(x)
    assert parts.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-6)


def test_statistics_of_two_features_take_posteriors_from_the_first() -> None:
    gmms, x, pdfs = mllt_case(4)
    other = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    both = accumulate(gmms, [AlignedFrames(np.concatenate([x, other], axis=1), pdfs, gmms.num_pdfs)])
    posteriors = gaussian_posteriors(gmms, x, pdfs)
    np.testing.assert_allclose(both.occupancy, posteriors.sum(0), rtol=1e-4)
    np.testing.assert_allclose(both.first, posteriors.T @ other, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(both.second, posteriors.T @ (other * other), rtol=1e-3, atol=0.05)


def test_frames_that_do_not_fit_their_alignment_are_refused() -> None:
    x = np.zeros((4, 2), np.float32)
    with pytest.raises(InputError, match="u: 3 frames aligned, 4 frames"):
        SortedFrames({"u": x}.__getitem__, {"u": np.zeros(3, int)}, 1)
    with pytest.raises(InputError, match="u: features that are not finite"):
        SortedFrames({"u": x * np.nan}.__getitem__, {"u": np.zeros(4, int)}, 1)
