"""N-best lists against the enumeration of all paths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.decoding.n_best import n_best
from asr_kd.decoding.rescoring import best_path
from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import random_lattice
from tests.lattices.word_readings import SCALE, readings_of


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(3, 30), st.floats(0, 3))
def test_the_n_best_word_sequences_in_order(seed: int, n: int, weight: float, penalty: float) -> None:
    lattice = determinize(random_lattice(seed, frames=5), 12.0, SCALE)
    wanted = sorted((graph + acoustic / weight + penalty * len(words), words, tids)
                    for words, (graph, acoustic, tids) in readings_of(lattice))
    found = n_best(lattice, n, weight, penalty)
    assert len(found) == min(n, len(wanted))
    assert len({tuple(path.words) for path in found}) == len(found)
    for path, (cost, _, _) in zip(found, wanted, strict=False):
        total = path.graph_cost + path.acoustic_cost / weight + penalty * len(path.words)
        assert total == pytest.approx(cost, abs=1e-3)
    by_words = {words: (cost, tids) for cost, words, tids in wanted}
    for path in found:
        assert tuple(path.transition_ids.tolist()) == by_words[tuple(path.words)][1]
        assert len(path.word_frames) == len(path.words)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_the_first_is_the_best_path(seed: int) -> None:
    lattice = determinize(random_lattice(seed, frames=6), 12.0, SCALE)
    (first,), best = n_best(lattice, 1, 12.0, 0.5), best_path(lattice, 12.0, 0.5)
    assert first.graph_cost + first.acoustic_cost / 12.0 + 0.5 * len(first.words) == pytest.approx(
        best.graph_cost + best.acoustic_cost / 12.0 + 0.5 * len(best.words), abs=1e-4)


def test_words_that_a_lattice_has_twice_count_once_with_their_best_path() -> None:
    none = np.zeros(2, np.int32)
    lattice = WordLattice(
        np.array([0, 1], np.int32), np.array([0, 3, 3], np.int32), np.ones(3, np.int32), np.array([1, 1, 2], np.int32),
        np.array([3, 1, 2], np.float32), np.zeros(3, np.float32), np.arange(3, dtype=np.int32),
        np.arange(1, 4, dtype=np.int32), np.array([np.inf, 0], np.float32), np.zeros(2, np.float32), none, none,
        np.array([7, 8, 9], np.int32))
    paths = n_best(lattice, 5, 10.0)
    assert [path.words for path in paths] == [[1], [2]]
    assert paths[0].transition_ids.tolist() == [8]


def test_a_lattice_without_words_has_one_path_and_none_where_it_is_empty() -> None:
    lattice = determinize(random_lattice(7, silent=True), 5.0, SCALE)
    (path,) = n_best(lattice, 3, 10.0)
    assert path.words == [] and len(path.transition_ids) == 4
    assert n_best(lattice, 0, 10.0) == []
