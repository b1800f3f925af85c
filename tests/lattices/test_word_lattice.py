"""The word lattice's rules."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import random_lattice

LATTICE = determinize(random_lattice(3, frames=5), 10.0, 0.1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda x: replace(x, targets=np.zeros_like(x.targets)), "higher state"),
        (lambda x: replace(x, offsets=x.offsets[:-1]), "arc counts"),
        (lambda x: replace(x, frames=x.frames[::-1].copy()), "out of order"),
        (lambda x: replace(x, begins=x.begins - 1), "outside their array"),
        (lambda x: replace(x, ends=x.ends + len(x.transition_ids)), "outside their array"),
        (lambda x: replace(x, begins=x.ends), "frames of its transition-ids"),
        (lambda x: replace(x, transition_ids=x.transition_ids * 0), "below 1"),
        (lambda x: replace(x, words=-x.words), "negative word"),
        (lambda x: replace(x, graph_costs=x.graph_costs * np.float32(np.nan)), "not finite"),
        (lambda x: replace(x, final_begins=x.final_ends), "paths of different lengths"),
        (lambda x: replace(x, final_graph_costs=np.full_like(x.final_graph_costs, np.inf)), "dead end"),
    ],
)
def test_faults_are_named(change: Callable[[WordLattice], WordLattice], fault: str) -> None:
    assert LATTICE.fault() is None
    assert LATTICE.num_frames == 5 and (LATTICE.final_ends > LATTICE.final_begins).any()
    assert fault in (change(LATTICE).fault() or "")


def test_a_state_that_no_path_reaches_is_named() -> None:
    none = np.zeros(2, np.int32)
    lattice = WordLattice(
        np.zeros(2, np.int32), np.zeros(3, np.int32), none[:0], none[:0], np.zeros(0, np.float32),
        np.zeros(0, np.float32), none[:0], none[:0], np.zeros(2, np.float32), np.zeros(2, np.float32), none, none,
        none[:0])
    assert lattice.fault() == "a state that no path reaches"


def test_frames_of_runs_add_up_along_every_arc() -> None:
    for arc, source in enumerate(LATTICE.sources):
        assert len(LATTICE.run(arc)) == LATTICE.frames[LATTICE.targets[arc]] - LATTICE.frames[source]
