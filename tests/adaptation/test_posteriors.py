"""Posteriors to be learnt: of alignments, of lattices' entries, joined."""

import numpy as np
import pytest

from asr_kd.adaptation.posteriors import FramePosteriors, join_posteriors


def test_an_alignment_has_all_mass_on_its_pdfs() -> None:
    posteriors = FramePosteriors.of_alignment(np.array([3, 1, 1]))
    assert posteriors.pdf_ids.tolist() == [[3], [1], [1]]
    assert np.exp(posteriors.log_probs).tolist() == [[1.0]] * 3
    assert np.exp(posteriors.log_tail).tolist() == [0.0] * 3
    assert posteriors.weights.tolist() == [1.0] * 3


def test_entries_of_one_pdf_are_added_up_and_scaled_to_one() -> None:
    posteriors = FramePosteriors.of_entries(
        np.array([0, 0, 0, 2]), np.array([1, 1, 4, 2]), np.array([0.2, 0.4, 0.2, 1.0]), num_frames=3, num_pdfs=5)
    dense = np.zeros((3, 5))
    for frame in range(3):
        dense[frame, posteriors.pdf_ids[frame]] = np.exp(posteriors.log_probs[frame])
    assert dense[0] == pytest.approx([0, 0.75, 0, 0, 0.25])
    assert dense[2] == pytest.approx([0, 0, 1, 0, 0])
    assert posteriors.weights.tolist() == [1.0, 0.0, 1.0]


def test_only_the_likeliest_pdfs_are_kept() -> None:
    frames, pdfs = np.zeros(5, int), np.arange(5)
    posteriors = FramePosteriors.of_entries(frames, pdfs, np.array([0.1, 0.4, 0.2, 0.2, 0.1]), 1, 5, most=1)
    assert posteriors.pdf_ids.tolist() == [[1]] and posteriors.log_probs[0, 0] == pytest.approx(0, abs=1e-6)


def test_joined_posteriors_have_every_pdf_once_in_a_frame() -> None:
    wide = FramePosteriors.of_entries(np.zeros(3, int), np.array([0, 2, 5]), np.full(3, 1 / 3), 1, 7)
    joined = join_posteriors([FramePosteriors.of_alignment(np.array([1, 2, 6])), wide])
    assert joined.width == 3 and len(joined) == 4
    assert all(len(set(row)) == 3 for row in joined.pdf_ids.tolist())
    mass = np.exp(joined.log_probs).sum(1) + np.exp(joined.log_tail)
    assert mass == pytest.approx(np.ones(4))


def test_weights_multiply_and_change_the_digest() -> None:
    posteriors = FramePosteriors.of_alignment(np.array([3, 1]))
    weighted = posteriors.weighted(np.array([0.5, 1.0])).weighted(np.array([0.5, 0.0]))
    assert weighted.weights.tolist() == [0.25, 0.0]
    assert weighted.digest != posteriors.digest
