"""Local epsilon removal: the same weighted paths in no more arcs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.graph.epsilons import remove_epsilons_locally
from asr_kd.graph.fst import Fst

Paths = dict[tuple[tuple[int, ...], tuple[int, ...]], float]


def random_acyclic(seed: int, states: int = 7) -> Fst:
    rng = np.random.default_rng(seed)
    rows = [(s, int(rng.integers(0, 3)), int(rng.integers(0, 2)), float(rng.uniform(0, 3)),
             int(rng.integers(s + 1, states))) for s in range(states - 1) for _ in range(rng.integers(1, 4))]
    return Fst.from_lists(0, {states - 1: 0.25, int(rng.integers(1, states)): 0.5}, rows)


def paths_of(fst: Fst) -> Paths:
    """Least cost of each pair of label sequences."""
    best: Paths = {}

    def walk(state: int, ilabels: tuple[int, ...], olabels: tuple[int, ...], cost: float) -> None:
        if np.isfinite(fst.finals[state]):
            total = cost + float(fst.finals[state])
            best[ilabels, olabels] = min(total, best.get((ilabels, olabels), np.inf))
        for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
            ilabel, olabel = int(arc["ilabel"]), int(arc["olabel"])
            walk(int(arc["nextstate"]), (*ilabels, ilabel) if ilabel else ilabels,
                 (*olabels, olabel) if olabel else olabels, cost + float(arc["weight"]))

    walk(fst.start, (), (), 0.0)
    return best


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6))
def test_paths_and_costs_stay(seed: int) -> None:
    fst = random_acyclic(seed)
    smaller = remove_epsilons_locally(fst)
    before, after = paths_of(fst), paths_of(smaller)
    assert before.keys() == after.keys()
    assert [after[key] for key in before] == pytest.approx(list(before.values()), abs=1e-4)
    assert smaller.num_arcs <= fst.num_arcs


def test_a_chain_of_half_empty_arcs_becomes_one_arc() -> None:
    fst = Fst.from_lists(0, {3: 0.0}, [(0, 5, 0, 1.0, 1), (1, 0, 7, 2.0, 2), (2, 0, 0, 3.0, 3)])
    arcs = remove_epsilons_locally(fst).arcs
    assert [tuple(arc) for arc in arcs.tolist()] == [(5, 7, 6.0, 3)]
