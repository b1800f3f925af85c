"""The union of word lattices: the paths of both, no other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.union import union
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import random_lattice
from tests.lattices.random_word_lattice import labelled_paths, random_word_lattice

SEEDS = st.integers(0, 10**6)
EMPTY = determinize(replace(random_lattice(0), final_costs=np.full(random_lattice(0).num_states, np.inf, np.float32)),
                    1.0, 0.1)


def start_is_final(lattice: WordLattice) -> bool:
    return bool(np.isfinite(lattice.final_graph_costs[0]))


def closed(lattice: WordLattice) -> WordLattice:
    """No path ends in the start, which needs an arc then."""
    assert lattice.offsets[1] > 0
    finals, acoustic = lattice.final_graph_costs.copy(), lattice.final_acoustic_costs.copy()
    ends = lattice.final_ends.copy()
    finals[0], acoustic[0], ends[0] = np.inf, 0.0, lattice.final_begins[0]
    return replace(lattice, final_graph_costs=finals, final_acoustic_costs=acoustic, final_ends=ends)


@settings(deadline=None, max_examples=150)
@given(SEEDS, SEEDS, st.integers(0, 8), st.integers(2, 7), st.integers(2, 7))
def test_paths_are_those_of_both_lattices(one: int, other: int, frames: int, few: int, many: int) -> None:
    first, second = random_word_lattice(one, frames, few), random_word_lattice(other, frames, many)
    if start_is_final(first) and start_is_final(second):
        second = closed(second)
    both = union(first, second)
    assert both.fault() is None
    assert labelled_paths(both) == sorted(labelled_paths(first) + labelled_paths(second))
    assert (both.num_states, both.num_arcs) == (
        first.num_states + second.num_states - 1, first.num_arcs + second.num_arcs)


@settings(deadline=None, max_examples=60)
@given(SEEDS, SEEDS)
def test_of_two_starts_that_are_final_the_cheaper_end_is_kept(one: int, other: int) -> None:
    first, second = (end_in_start(random_word_lattice(seed), seed) for seed in (one, other))
    both = union(first, second)
    assert both.fault() is None
    ends = [labelled_paths(only_start(lattice))[0] for lattice in (first, second)]
    kept = min(ends, key=lambda end: end[1] + end[2])
    rest = [path for lattice in (first, second) for path in labelled_paths(closed(lattice))]
    assert labelled_paths(both) == sorted([*rest, kept])


def end_in_start(lattice: WordLattice, seed: int) -> WordLattice:
    """A path of its own, drawn at random, ends in the start."""
    rng = np.random.default_rng(seed)
    run = rng.integers(1, 9, lattice.num_frames).astype(np.int32)
    graph, acoustic = lattice.final_graph_costs.copy(), lattice.final_acoustic_costs.copy()
    begins, ends = lattice.final_begins.copy(), lattice.final_ends.copy()
    graph[0], acoustic[0] = rng.uniform(0, 2), rng.normal(3, 2)
    begins[0] = len(lattice.transition_ids)
    ends[0] = begins[0] + len(run)
    return replace(lattice, final_graph_costs=graph, final_acoustic_costs=acoustic, final_begins=begins,
                   final_ends=ends, transition_ids=np.concatenate([lattice.transition_ids, run]))


def only_start(lattice: WordLattice) -> WordLattice:
    none, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return replace(
        lattice, frames=lattice.frames[:1], offsets=np.zeros(2, np.int32), targets=none, words=none, graph_costs=costs,
        acoustic_costs=costs, begins=none, ends=none, final_graph_costs=lattice.final_graph_costs[:1],
        final_acoustic_costs=lattice.final_acoustic_costs[:1], final_begins=lattice.final_begins[:1],
        final_ends=lattice.final_ends[:1])


@settings(deadline=None, max_examples=30)
@given(SEEDS, SEEDS)
def test_determinised_lattices_can_be_joined_and_expanded(one: int, other: int) -> None:
    first, second = (determinize(random_lattice(seed, frames=5), 5.0, 0.1) for seed in (one, other))
    both = union(first, second)
    assert both.fault() is None
    expanded = both.expand()
    assert isinstance(expanded, Lattice) and expanded.num_frames == 5
    assert [path[0] for path in labelled_paths(expanded)] == [path[0] for path in labelled_paths(both)]


def test_with_an_empty_lattice_the_other_is_all() -> None:
    lattice = random_word_lattice(4)
    assert union(EMPTY, lattice) is lattice and union(lattice, EMPTY) is lattice
    assert union(EMPTY, EMPTY).num_states == 0


def test_lattices_of_other_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="lattices of 6 and 7 frames"):
        union(random_word_lattice(1, frames=6), random_word_lattice(1, frames=7))
