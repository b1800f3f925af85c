"""The lattice's rules, and pruning against all paths."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lattices.lattice import Lattice, prune
from tests.lattices.random_lattice import paths_of, random_lattice

SCALE = 0.1


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 12))
def test_pruning_keeps_exactly_the_arcs_on_paths_within_the_beam(seed: int, beam: float) -> None:
    lattice = random_lattice(seed)
    costs = {path[0]: path[1] + SCALE * path[2] for path in paths_of(lattice)}
    best = min(costs.values())
    if any(abs(cost - best - beam) < 1e-3 for cost in costs.values()):
        return
    kept = {arc for arcs, cost in costs.items() if cost <= best + beam for arc in arcs}
    pruned = prune(lattice, beam, SCALE)
    assert pruned.fault() is None
    assert pruned.num_arcs == len(kept)
    left = sorted(path[1] + SCALE * path[2] for path in paths_of(pruned))
    # Paths above the beam may survive, made of arcs that better paths need; none within it may go.
    within = sorted(cost for cost in costs.values() if cost <= best + beam)
    assert left[: len(within)] == pytest.approx(within, abs=1e-4)


def test_rounding_at_the_beams_edge_leaves_no_arc_without_its_states() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        # Two paths of three arcs; the worse one lies exactly at the beam when its costs are summed from the left.
        acoustic = generator.uniform(1, 9, 3).astype(np.float32)
        costs = SCALE * acoustic.astype(np.float64)
        lattice = Lattice(
            np.array([0, 1, 1, 2, 2, 3], np.int32), np.array([0, 2, 3, 4, 5, 6, 6], np.int32),
            np.array([np.inf] * 5 + [0], np.float32), np.array([1, 2, 3, 4, 5, 5], np.int32),
            np.ones(6, np.int32), np.arange(1, 7, dtype=np.int32), np.zeros(6, np.float32),
            np.array([acoustic[0], 0, acoustic[1], 0, acoustic[2], 0], np.float32))
        pruned = prune(lattice, float((costs[0] + costs[1]) + costs[2]), SCALE)
        assert pruned.fault() is None
        assert all(path in ([1, 3, 5], [2, 4, 6]) for path in _words_of_paths(pruned))


def _words_of_paths(lattice: Lattice) -> list[list[int]]:
    return [lattice.words[list(path[0])].tolist() for path in paths_of(lattice)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda x: replace(x, targets=np.zeros_like(x.targets)), "higher state"),
        (lambda x: replace(x, offsets=x.offsets[:-1]), "arc counts"),
        (lambda x: replace(x, frames=x.frames[::-1].copy()), "out of order"),
        (lambda x: replace(x, transition_ids=np.zeros_like(x.transition_ids)), "frames that its transition-id"),
        (lambda x: replace(x, graph_costs=np.full_like(x.graph_costs, np.nan)), "not finite"),
        (lambda x: replace(x, final_costs=np.full_like(x.final_costs, np.nan)), "not finite"),
        (lambda x: replace(x, final_costs=np.full_like(x.final_costs, -np.inf)), "not finite"),
        (lambda x: replace(x, words=-x.words - 1), "negative"),
        (lambda x: replace(x, final_costs=np.full_like(x.final_costs, np.inf)), "dead end"),
        (lambda x: replace(x, final_costs=np.zeros_like(x.final_costs)), "before the last frame"),
        (lambda x: replace(x, targets=np.where(x.targets == 1, 2, x.targets)), "no path reaches"),
    ],
)
def test_faults_are_named(change, fault: str) -> None:  # type: ignore[no-untyped-def]
    lattice = random_lattice(3)
    assert lattice.fault() is None
    assert fault in (change(lattice).fault() or "")
