"""All word sequences of small lattices, with their costs and transition-ids."""

import numpy as np

from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import paths_of, random_lattice

SCALE = 0.1

Words = tuple[int, ...]
# Graph cost, acoustic cost, transition-ids.
Reading = tuple[float, float, tuple[int, ...]]


def best_readings(lattice: Lattice) -> dict[Words, Reading]:
    """Each word sequence with its best path."""
    found: dict[Words, Reading] = {}
    for arcs, graph, acoustic, words in paths_of(lattice):
        tids = tuple(t for t in lattice.transition_ids[list(arcs)].tolist() if t)
        if words not in found or graph + SCALE * acoustic < found[words][0] + SCALE * found[words][1]:
            found[words] = (graph, acoustic, tids)
    return found


def readings_of(lattice: WordLattice) -> list[tuple[Words, Reading]]:
    """All paths of a word lattice."""
    found: list[tuple[Words, Reading]] = []

    def walk(state: int, words: Words, graph: float, acoustic: float, tids: tuple[int, ...]) -> None:
        if np.isfinite(lattice.final_graph_costs[state]):
            found.append((words, (graph + float(lattice.final_graph_costs[state]),
                                  acoustic + float(lattice.final_acoustic_costs[state]),
                                  (*tids, *lattice.final_run(state).tolist()))))
        for arc in range(lattice.offsets[state], lattice.offsets[state + 1]):
            word = int(lattice.words[arc])
            walk(int(lattice.targets[arc]), (*words, word) if word else words,
                 graph + float(lattice.graph_costs[arc]), acoustic + float(lattice.acoustic_costs[arc]),
                 (*tids, *lattice.run(arc).tolist()))

    if lattice.num_states:
        walk(0, (), 0.0, 0.0, ())
    return found


def total(reading: Reading) -> float:
    return reading[0] + SCALE * reading[1]


def shared_acoustics(seed: int) -> tuple[Lattice, np.ndarray]:
    """A lattice whose acoustic costs are -log_likelihoods[frame, transition-id], as a search makes them; and those."""
    lattice = random_lattice(seed, frames=6)
    scores = np.random.default_rng(seed).normal(-30, 20, (6, 10)).astype(np.float32)
    taken = np.minimum(lattice.frames[lattice.sources], 5)
    lattice.acoustic_costs[:] = np.where(lattice.transition_ids > 0, -scores[taken, lattice.transition_ids], 0)
    return lattice, scores
