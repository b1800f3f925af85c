"""Frame posteriors: from alignments and lattice entries, weighted, widened and joined."""

import numpy as np
import pytest

from asr_kd.adaptation.posteriors import FramePosteriors, join_posteriors, mix_posteriors


def as_distribution(posteriors: FramePosteriors, num_pdfs: int) -> np.ndarray:
    """Probabilities (frames, pdfs), float64."""
    result = np.zeros((len(posteriors), num_pdfs))
    np.add.at(result, (np.arange(len(posteriors))[:, None], posteriors.pdf_ids), np.exp(posteriors.log_probs))
    return result


def example() -> FramePosteriors:
    """Three frames of five pdfs; the first frame has two entries of one pdf."""
    frames, pdf_ids = np.array([0, 0, 0, 1, 2, 2]), np.array([3, 1, 3, 2, 4, 0])
    return FramePosteriors.of_entries(frames, pdf_ids, np.array([0.25, 0.5, 0.25, 1.0, 0.2, 0.8]), 3, 5)


def test_an_alignment_has_all_mass_on_its_pdf() -> None:
    posteriors = FramePosteriors.of_alignment(np.array([2, 0, 1], np.int32))
    assert len(posteriors) == 3 and posteriors.width == 1 and posteriors.pdf_ids.dtype == np.int64
    np.testing.assert_array_equal(as_distribution(posteriors, 3), np.eye(3)[[2, 0, 1]])
    assert np.all(np.exp(posteriors.log_tail) == 0) and np.all(posteriors.weights == 1)


def test_entries_of_one_pdf_in_a_frame_are_added_up() -> None:
    expected = np.array([[0, 0.5, 0, 0.5, 0], [0, 0, 1, 0, 0], [0.8, 0, 0, 0, 0.2]])
    np.testing.assert_allclose(as_distribution(example(), 5), expected, atol=1e-6)
    np.testing.assert_array_equal(example().weights, 1)


@pytest.mark.parametrize("most", [1, 2, 5, 50])
def test_the_likeliest_pdfs_are_kept_and_sum_to_one(most: int) -> None:
    generator = np.random.default_rng(0)
    sums = generator.random((20, 12)) * (generator.random((20, 12)) < 0.6) + np.eye(20, 12) + np.eye(20, 12, -12)
    frames, pdf_ids = np.nonzero(sums)
    posteriors = FramePosteriors.of_entries(frames, pdf_ids, sums[frames, pdf_ids], 20, 12, most)
    kept = np.where(sums >= np.sort(sums, 1)[:, -min(most, 12)][:, None], sums, 0)
    np.testing.assert_allclose(as_distribution(posteriors, 12), kept / kept.sum(1, keepdims=True), atol=1e-6)
    assert posteriors.width <= min(most, 12)
    assert all(len(set(row)) == posteriors.width for row in posteriors.pdf_ids.tolist())


def test_a_frame_without_entries_has_weight_0() -> None:
    posteriors = FramePosteriors.of_entries(np.array([1]), np.array([2]), np.array([0.7]), 3, 4)
    np.testing.assert_array_equal(posteriors.weights, [0, 1, 0])
    np.testing.assert_allclose(as_distribution(posteriors, 4)[1], [0, 0, 1, 0], atol=1e-6)
    nothing = np.zeros(0, np.int64)
    assert not FramePosteriors.of_entries(nothing, nothing, np.zeros(0), 3, 4).weights.any()


def test_weights_are_multiplied_and_the_distribution_stays() -> None:
    posteriors = example().weighted(np.array([0.5, 0.0, 1.0])).weighted(np.array([0.5, 1.0, 1.0]))
    np.testing.assert_array_equal(posteriors.weights, [0.25, 0.0, 1.0])
    np.testing.assert_array_equal(as_distribution(posteriors, 5), as_distribution(example(), 5))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_widened_posteriors_are_the_same_distribution_and_name_no_pdf_twice(width: int) -> None:
    wide = example().widened(width)
    assert wide.width == max(width, 2)
    np.testing.assert_array_equal(as_distribution(wide, 5), as_distribution(example(), 5))
    assert all(len(set(row)) == wide.width and max(row) < 5 for row in wide.pdf_ids.tolist())


def test_joined_posteriors_are_those_of_all_frames_in_order() -> None:
    alignment = FramePosteriors.of_alignment(np.array([4, 0])).weighted(np.array([0.5, 1.0]))
    joined = join_posteriors([alignment, example()])
    expected = np.concatenate([as_distribution(alignment, 5), as_distribution(example(), 5)])
    np.testing.assert_array_equal(as_distribution(joined, 5), expected)
    np.testing.assert_array_equal(joined.weights, [0.5, 1, 1, 1, 1])


def test_the_digest_is_of_every_array() -> None:
    def changed(name: str) -> FramePosteriors:
        arrays = {key: np.array(value) for key, value in vars(example()).items()}
        arrays[name].flat[0] += 1
        return FramePosteriors(**arrays)

    assert example().digest == example().digest
    digests = {changed(name).digest for name in ("pdf_ids", "log_probs", "weights")} | {example().digest}
    with_tail = FramePosteriors(**{**vars(example()), "log_tail": np.zeros(3, np.float32)})
    assert len(digests | {with_tail.digest}) == 5


def test_an_alignment_mixed_with_soft_targets_is_their_weighted_sum() -> None:
    rng = np.random.default_rng(0)
    num_pdfs, frames, width = 12, 40, 4
    dense = rng.dirichlet(np.ones(num_pdfs), frames)
    order = np.argsort(-dense, 1)[:, :width]
    kept = np.take_along_axis(dense, order, 1)
    soft = FramePosteriors(order, np.log(kept).astype(np.float32), np.log(1 - kept.sum(1)).astype(np.float32),
                           rng.random(frames).astype(np.float32))
    aligned = rng.integers(num_pdfs, size=frames)
    mixed = mix_posteriors(FramePosteriors.of_alignment(aligned), soft, 0.3)
    assert all(len(set(row)) == mixed.width for row in mixed.pdf_ids)
    found = np.zeros((frames, num_pdfs))
    np.put_along_axis(found, mixed.pdf_ids, np.exp(mixed.log_probs), 1)
    wanted = np.zeros((frames, num_pdfs))
    np.put_along_axis(wanted, order, 0.3 * kept, 1)
    wanted[np.arange(frames), aligned] += 0.7
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(found.sum(1) + np.exp(mixed.log_tail), 1, atol=1e-5)
    np.testing.assert_array_equal(mixed.weights, soft.weights)
    # Neither of its parts is changed by it.
    np.testing.assert_array_equal(soft.pdf_ids, order)
