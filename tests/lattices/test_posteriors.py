"""Forward-backward: against all paths, against Kaldi, and what may not change it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.posteriors import arc_posteriors, arc_scores, arcs_of_frames, frame_posteriors
from tests.lattices.random_lattice import paths_of, random_lattice

SCALES = st.tuples(st.sampled_from([0.0, 0.05, 0.1, 1.0]), st.sampled_from([0.0, 0.5, 1.0, 2.0]))


def enumerated(lattice: Lattice, acoustic_scale: float, lm_scale: float) -> tuple[np.ndarray, float]:
    """Arc posteriors and total log-likelihood, by all paths."""
    paths = paths_of(lattice)
    scores = np.array([-(lm_scale * graph + acoustic_scale * acoustic) for _, graph, acoustic, _ in paths])
    total = np.logaddexp.reduce(scores)
    posteriors = np.zeros(lattice.num_arcs)
    for (arcs, *_), score in zip(paths, scores, strict=True):
        posteriors[list(arcs)] += np.exp(score - total)
    return posteriors, float(total)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), SCALES)
def test_posteriors_and_total_equal_those_of_all_paths(seed: int, frames: int, scales: tuple[float, float]) -> None:
    lattice = random_lattice(seed, frames=frames)
    expected, expected_total = enumerated(lattice, *scales)
    posteriors, total = arc_posteriors(lattice, *scales)
    assert posteriors.dtype == np.float64
    assert total == pytest.approx(expected_total, abs=1e-9)
    np.testing.assert_allclose(posteriors, expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10**6), SCALES)
def test_frame_posteriors_are_the_arcs_merged_by_frame_and_transition_id(
    seed: int, scales: tuple[float, float]
) -> None:
    lattice = random_lattice(seed, frames=5, width=4)
    by_arc, _ = enumerated(lattice, *scales)
    expected: dict[tuple[int, int], float] = {}
    for arc, (source, tid) in enumerate(zip(lattice.sources, lattice.transition_ids, strict=True)):
        if tid:
            key = (int(lattice.frames[source]), int(tid))
            expected[key] = expected.get(key, 0.0) + by_arc[arc]
    frames, tids, posteriors = frame_posteriors(lattice, *scales)
    assert (frames.dtype, tids.dtype, posteriors.dtype) == (np.int32, np.int32, np.float32)
    found = dict(zip(zip(frames.tolist(), tids.tolist(), strict=True), posteriors.tolist(), strict=True))
    assert list(found) == sorted(found)
    assert {key: value for key, value in expected.items() if key not in found and value > 1e-30} == {}
    for key, value in found.items():
        assert value == pytest.approx(expected[key], abs=1e-7)
    np.testing.assert_allclose(np.bincount(frames, posteriors), 1.0, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.floats(-50, 50))
def test_a_constant_added_to_a_frames_acoustic_costs_changes_no_posterior(
    seed: int, frame: int, constant: float
) -> None:
    lattice = random_lattice(seed)
    acoustic = lattice.acoustic_costs.astype(np.float64)
    moved = acoustic + constant * ((lattice.frames[lattice.sources] == frame) & (lattice.transition_ids > 0))
    # Not cast to float32, so that nothing but the constant is added.
    before, total = arc_posteriors(replace(lattice, acoustic_costs=acoustic), 0.1)
    after, moved_total = arc_posteriors(replace(lattice, acoustic_costs=moved), 0.1)
    np.testing.assert_allclose(after, before, atol=1e-9)
    assert moved_total == pytest.approx(total - 0.1 * constant, abs=1e-9)


def test_costs_of_thousands_neither_overflow_nor_vanish() -> None:
    lattice = random_lattice(7, frames=6)
    huge = replace(lattice, acoustic_costs=lattice.acoustic_costs * np.float32(1e4))
    posteriors, total = arc_posteriors(huge, 1.0)
    assert np.isfinite(posteriors).all() and np.isfinite(total)
    np.testing.assert_allclose(np.add.reduceat(posteriors * (huge.transition_ids > 0), arcs_of_frames(huge)[:-2]), 1.0)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_arcs_of_frames_are_the_arcs_that_begin_there(seed: int, frames: int) -> None:
    lattice = random_lattice(seed, frames=frames)
    bounds = arcs_of_frames(lattice)
    assert len(bounds) == lattice.num_frames + 2 and bounds[-1] == lattice.num_arcs
    beginning = lattice.frames[lattice.sources]
    for frame in range(frames + 1):
        assert (beginning[bounds[frame] : bounds[frame + 1]] == frame).all()


def test_scores_are_scaled_negated_costs() -> None:
    lattice = random_lattice(1)
    expected = [-(2.0 * float(g) + 0.1 * float(a))
                for g, a in zip(lattice.graph_costs, lattice.acoustic_costs, strict=True)]
    np.testing.assert_allclose(arc_scores(lattice, 0.1, 2.0), expected)


def test_an_empty_lattice_has_no_posteriors() -> None:
    empty = Lattice(*(np.zeros(n, t) for n, t in
                      [(0, np.int32), (1, np.int32), (0, np.float32), (0, np.int32), (0, np.int32), (0, np.int32),
                       (0, np.float32), (0, np.float32)]))
    assert empty.fault() is None
    posteriors, total = arc_posteriors(empty, 0.1)
    assert len(posteriors) == 0 and total == -np.inf
    assert [len(part) for part in frame_posteriors(empty, 0.1)] == [0, 0, 0]
