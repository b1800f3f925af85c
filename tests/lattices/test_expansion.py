"""Expanded word lattices have the same paths, one arc for each frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import paths_of
from tests.lattices.word_readings import SCALE, Reading, Words, readings_of, shared_acoustics


def expanded_readings(lattice: Lattice) -> dict[Words, Reading]:
    found: dict[Words, Reading] = {}
    for arcs, graph, acoustic, words in paths_of(lattice):
        assert words not in found
        found[words] = (graph, acoustic, tuple(t for t in lattice.transition_ids[list(arcs)].tolist() if t))
    return found


def assert_same(found: dict[Words, Reading], wanted: dict[Words, Reading]) -> None:
    assert set(found) == set(wanted)
    for words, (graph, acoustic, tids) in wanted.items():
        assert found[words][2] == tids
        assert found[words][0] == pytest.approx(graph, abs=1e-3)
        assert found[words][1] == pytest.approx(acoustic, abs=1e-3)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_expansion_keeps_words_costs_and_transition_ids(seed: int, with_scores: bool) -> None:
    lattice, scores = shared_acoustics(seed)
    compact = determinize(lattice, 8.0, SCALE)
    expanded = compact.expand(scores, np.arange(10)) if with_scores else compact.expand()
    assert expanded.fault() is None
    assert expanded.num_frames == lattice.num_frames
    assert_same(expanded_readings(expanded), dict(readings_of(compact)))
    assert expanded.num_arcs <= max(len(compact.transition_ids), 1) + compact.num_arcs + compact.num_states


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_with_scores_every_arc_has_its_own_frames_cost(seed: int) -> None:
    lattice, scores = shared_acoustics(seed)
    expanded = determinize(lattice, 8.0, SCALE).expand(scores, np.arange(10))
    frames = expanded.frames[expanded.sources]
    for arc in range(expanded.num_arcs):
        tid = expanded.transition_ids[arc]
        assert expanded.acoustic_costs[arc] == (-scores[frames[arc], tid] if tid else 0)


def word_lattice(runs: list[list[int]], final_acoustic: float = 0.0) -> WordLattice:
    """Parallel words 1, 2, ... with these runs."""
    lengths = [len(run) for run in runs]
    ends = np.cumsum(lengths).astype(np.int32)
    none = np.zeros(2, np.int32)
    costs = np.arange(len(runs), dtype=np.float32)
    return WordLattice(
        np.array([0, lengths[0]], np.int32), np.array([0, len(runs), len(runs)], np.int32),
        np.ones(len(runs), np.int32), np.arange(1, len(runs) + 1, dtype=np.int32), costs, 10 * costs,
        (ends - lengths).astype(np.int32), ends, np.array([np.inf, 0.5], np.float32),
        np.array([0, final_acoustic], np.float32), none, none, np.concatenate(runs).astype(np.int32))


def test_runs_share_the_arcs_of_their_common_end() -> None:
    expanded = word_lattice([[7, 5, 6], [4, 5, 6], [4, 3, 6]]).expand()
    assert expanded.num_arcs == 3 + 2 + 1
    assert expanded.acoustic_costs.sum() == 30 and expanded.acoustic_costs[expanded.words == 0].sum() == 0


def test_an_acoustic_cost_of_a_final_state_is_kept() -> None:
    expanded = word_lattice([[7, 5]], final_acoustic=4.0).expand()
    (path,) = paths_of(expanded)
    assert path[1:] == (0.5, 4.0, (1,))


def test_scores_of_another_length_are_refused() -> None:
    lattice = word_lattice([[7, 5]])
    with pytest.raises(ValueError, match="3 frames of scores for a lattice of 2"):
        lattice.expand(np.zeros((3, 9)), np.arange(9))
    with pytest.raises(ValueError, match="go together"):
        lattice.expand(np.zeros((2, 9)))


def test_nothing_expands_to_nothing() -> None:
    none, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
    empty = WordLattice(none, np.zeros(1, np.int32), none, none, costs, costs, none, none, costs, costs, none, none,
                        none)
    assert empty.expand().num_states == 0
