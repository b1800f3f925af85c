"""Chains joined to one arc: the same paths, and nothing left to join."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lattices.chains import join_chains
from tests.lattices.random_lattice import random_lattice
from tests.lattices.random_word_lattice import assert_same_paths, random_word_lattice


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3))
def test_paths_stay(seed: int, frames: int, width: int) -> None:
    lattice = random_lattice(seed, frames=frames, width=width)
    joined = join_chains(lattice)
    assert joined.fault() is None
    assert_same_paths(lattice, joined)
    entering = np.bincount(joined.targets, minlength=joined.num_states)
    for state in range(1, joined.num_states):
        only = joined.offsets[state + 1] - joined.offsets[state] == 1 and entering[state] == 1
        assert not (only and joined.words[joined.offsets[state]] == 0
                    and np.isinf(joined.final_graph_costs[state]))


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_an_expanded_word_lattice_is_joined_again(seed: int) -> None:
    lattice = random_word_lattice(seed)
    expanded = lattice.expand()
    joined = join_chains(expanded)
    assert_same_paths(lattice, joined)
    assert joined.num_arcs <= expanded.num_arcs
