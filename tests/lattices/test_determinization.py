"""Determinised lattices against the enumeration of all paths."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr_kd.lattices.determinization import determinize, determinize_within
from asr_kd.lattices.lattice import Lattice
from tests.lattices.random_lattice import random_lattice
from tests.lattices.word_readings import SCALE, best_readings, readings_of, shared_acoustics, total


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6), st.floats(0, 12), st.integers(1, 6), st.integers(1, 4), st.booleans())
@example(22, 0.0, 6, 4, False)
def test_each_word_sequence_within_the_beam_once_with_its_best_path(
    seed: int, beam: float, frames: int, width: int, few_ids: bool,
) -> None:
    lattice = random_lattice(seed, frames, width)
    if few_ids:  # many equal alignments, so that subsets share what they begin with
        lattice.transition_ids[:] = np.minimum(lattice.transition_ids, 1)
    wanted = best_readings(lattice)
    best = min(map(total, wanted.values()))
    result = determinize(lattice, beam, SCALE)
    assert result.fault() is None
    assert (result.words > 0).all()
    found = readings_of(result)
    assert len({words for words, _ in found}) == len(found)
    by_words = dict(found)
    for words, reading in wanted.items():
        if total(reading) <= best + beam - 1e-3:
            assert words in by_words
    for words, (graph, acoustic, tids) in found:
        if total(wanted[words]) <= best + beam - 1e-3:
            assert tids == wanted[words][2]
            assert graph == pytest.approx(wanted[words][0], abs=1e-3)
            assert acoustic == pytest.approx(wanted[words][1], abs=1e-3)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_an_arcs_acoustic_cost_is_that_of_its_own_frames(seed: int) -> None:
    lattice, scores = shared_acoustics(seed)
    result = determinize(lattice, 10.0, SCALE)
    for arc, source in enumerate(result.sources):
        run = result.run(arc)
        expected = scores[result.frames[source] + np.arange(len(run)), run].sum()
        assert -result.acoustic_costs[arc] == pytest.approx(expected, abs=1e-3)
    for state in np.flatnonzero(np.isfinite(result.final_graph_costs)):
        run = result.final_run(int(state))
        expected = scores[result.frames[state] + np.arange(len(run)), run].sum()
        assert -result.final_acoustic_costs[state] == pytest.approx(expected, abs=1e-3)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12))
def test_a_limit_shrinks_the_beam_and_says_to_what(seed: int, max_arcs: int) -> None:
    lattice = random_lattice(seed, frames=5, width=4)
    wanted = best_readings(lattice)
    best = min(map(total, wanted.values()))
    result, reached = determinize_within(lattice, 12.0, SCALE, max_arcs=max_arcs)
    found = dict(readings_of(result))
    within = {words for words, reading in wanted.items() if total(reading) < best + reached - 1e-3}
    assert within <= set(found)
    assert min(total(reading) for reading in found.values()) == pytest.approx(best, abs=1e-3)
    assert reached == 12.0 or result.num_arcs <= max_arcs + 10


def test_a_shrunken_beam_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    lattice = random_lattice(1, frames=6, width=4)
    with caplog.at_level("WARNING"):
        determinize(lattice, 12.0, SCALE)
        assert not caplog.records
        determinize(lattice, 12.0, SCALE, max_bytes=1)
    assert "its beam is" in caplog.text


def test_the_same_words_are_the_same_lattice_whatever_the_order_of_arcs() -> None:
    lattice = random_lattice(4, frames=6, width=4)
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(lattice.num_arcs), lattice.sources))
    shuffled = Lattice(lattice.frames, lattice.offsets, lattice.final_costs, *(
        values[order] for values in (lattice.targets, lattice.transition_ids, lattice.words, lattice.graph_costs,
                                     lattice.acoustic_costs)))
    first, second = determinize(lattice, 8.0, SCALE), determinize(shuffled, 8.0, SCALE)
    np.testing.assert_array_equal(first.words, second.words)
    np.testing.assert_array_equal(first.targets, second.targets)
    np.testing.assert_array_equal(first.transition_ids, second.transition_ids)


def test_a_lattice_without_words_keeps_its_best_path() -> None:
    lattice = random_lattice(7, silent=True)
    result = determinize(lattice, 5.0, SCALE)
    assert result.num_states == 1 and result.num_arcs == 0
    (_, reading), = readings_of(result)
    assert total(reading) == pytest.approx(total(best_readings(lattice)[()]), abs=1e-3)


def test_an_empty_lattice_stays_empty() -> None:
    empty = Lattice(*(np.zeros(n, dtype) for n, dtype in (
        (0, np.int32), (1, np.int32), (0, np.float32), (0, np.int32), (0, np.int32), (0, np.int32), (0, np.float32),
        (0, np.float32))))
    assert determinize(empty, 5.0, SCALE).num_states == 0
