"""Small random word lattices for tests, and the paths of both kinds of lattice in one form."""

import numpy as np

from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import paths_of

Labels = tuple[tuple[int, ...], tuple[int, ...]]


def random_word_lattice(seed: int, frames: int = 6, states: int = 5, words: int = 4) -> WordLattice:
    """All states on paths; empty runs, wordless arcs, and final states with runs and acoustic costs among them."""
    rng = np.random.default_rng(seed)
    state_frames = np.sort(np.concatenate([[0], rng.integers(0, frames + 1, states - 1)])).astype(np.int32)
    pairs = {(int(rng.integers(0, s)), s) for s in range(1, states)}
    pairs |= {(s, int(rng.integers(s + 1, states))) for s in range(states - 1) if rng.random() < 0.8}
    arcs = np.array(sorted(pairs)).reshape(-1, 2)
    arcs = arcs[np.sort(rng.integers(0, len(arcs), len(arcs) // 2).tolist() + list(range(len(arcs))))]
    leaving = np.bincount(arcs[:, 0], minlength=states)
    final = (leaving == 0) | (rng.random(states) < 0.3)
    lengths = state_frames[arcs[:, 1]] - state_frames[arcs[:, 0]]
    final_lengths = np.where(final, frames - state_frames, 0)
    ends = np.cumsum(np.concatenate([lengths, final_lengths])).astype(np.int32)
    begins = ends - np.concatenate([lengths, final_lengths]).astype(np.int32)
    n = len(arcs)
    return WordLattice(
        state_frames, np.concatenate([[0], np.cumsum(leaving)]).astype(np.int32), arcs[:, 1].astype(np.int32),
        rng.integers(0, words + 1, n).astype(np.int32), rng.uniform(0, 4, n).astype(np.float32),
        rng.normal(30, 20, n).astype(np.float32), begins[:n], ends[:n],
        np.where(final, rng.uniform(0, 2, states), np.inf).astype(np.float32),
        np.where(final & (rng.random(states) < 0.7), rng.normal(3, 2, states), 0).astype(np.float32),
        begins[n:], ends[n:], rng.integers(1, 9, ends[-1] if len(ends) else 0).astype(np.int32))


def labelled_paths(lattice: Lattice | WordLattice) -> list[tuple[Labels, float, float]]:
    """All paths as ((words, transition-ids), graph cost, acoustic cost), sorted."""
    if isinstance(lattice, Lattice):
        return sorted(((words, tuple(int(t) for t in lattice.transition_ids[list(arcs)] if t)), graph, acoustic)
                      for arcs, graph, acoustic, words in paths_of(lattice))
    found: list[tuple[Labels, float, float]] = []

    def walk(state: int, words: tuple[int, ...], tids: tuple[int, ...], graph: float, acoustic: float) -> None:
        if np.isfinite(lattice.final_graph_costs[state]):
            found.append(((words, (*tids, *lattice.final_run(state).tolist())),
                          graph + float(lattice.final_graph_costs[state]),
                          acoustic + float(lattice.final_acoustic_costs[state])))
        for arc in range(lattice.offsets[state], lattice.offsets[state + 1]):
            word = int(lattice.words[arc])
            walk(int(lattice.targets[arc]), (*words, word) if word else words, (*tids, *lattice.run(arc).tolist()),
                 graph + float(lattice.graph_costs[arc]), acoustic + float(lattice.acoustic_costs[arc]))

    walk(0, (), (), 0.0, 0.0)
    return sorted(found)


def assert_same_paths(first: Lattice | WordLattice, second: Lattice | WordLattice) -> None:
    """The same labels with the same costs, float32 sums apart."""
    a, b = labelled_paths(first), labelled_paths(second)
    assert [path[0] for path in a] == [path[0] for path in b]
    # Paths with the same labels are sorted by costs, which may differ in rounding.
    np.testing.assert_allclose(sorted(path[1] for path in a), sorted(path[1] for path in b), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose([path[1] + path[2] for path in a], [path[1] + path[2] for path in b], rtol=1e-5,
                               atol=1e-3)
