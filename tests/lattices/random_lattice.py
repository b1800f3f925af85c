"""Small random lattices for tests."""

import numpy as np

from asr_kd.lattices.lattice import Lattice


def random_lattice(seed: int, frames: int = 4, width: int = 3, silent: bool = False) -> Lattice:
    """A lattice whose states and arcs are all on paths; `silent`: no words."""
    rng = np.random.default_rng(seed)
    layers = [1, *rng.integers(1, width + 1, frames).tolist()]
    state_frames = np.repeat(np.arange(frames + 1), layers)
    rows: set[tuple[int, int, int, int]] = set()
    first = np.concatenate([[0], np.cumsum(layers)])
    for t in range(frames):
        here, there = np.arange(first[t], first[t + 1]), np.arange(first[t + 1], first[t + 2])
        for s in here:
            rows.add((s, rng.choice(there), rng.integers(1, 9), rng.integers(0, 4)))
        for s in there:
            rows.add((rng.choice(here), s, rng.integers(1, 9), rng.integers(0, 4)))
        if len(there) > 1 and rng.random() < 0.5:
            rows.add((there[0], there[-1], 0, rng.integers(0, 3)))
    table = np.array(sorted(rows), np.int32)
    finals = np.full(len(state_frames), np.inf, np.float32)
    finals[first[frames] :] = rng.uniform(0, 2, layers[-1])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(table[:, 0], minlength=len(state_frames)))])
    graph_costs = rng.uniform(0, 4, len(table)).astype(np.float32)
    acoustic = np.where(table[:, 2] > 0, rng.normal(30, 20, len(table)), 0).astype(np.float32)
    words = table[:, 3] * (not silent)
    return Lattice(state_frames.astype(np.int32), offsets.astype(np.int32), finals, table[:, 1].copy(),
                   table[:, 2].copy(), words.astype(np.int32), graph_costs, acoustic)


Path = tuple[tuple[int, ...], float, float, tuple[int, ...]]


def paths_of(lattice: Lattice) -> list[Path]:
    """All paths: arcs, graph cost (final cost included), acoustic cost, words."""
    found: list[Path] = []

    def walk(state: int, arcs: tuple[int, ...], graph: float, acoustic: float, words: tuple[int, ...]) -> None:
        if np.isfinite(lattice.final_costs[state]):
            found.append((arcs, graph + float(lattice.final_costs[state]), acoustic, words))
        for arc in range(lattice.offsets[state], lattice.offsets[state + 1]):
            word = int(lattice.words[arc])
            walk(int(lattice.targets[arc]), (*arcs, arc), graph + float(lattice.graph_costs[arc]),
                 acoustic + float(lattice.acoustic_costs[arc]), (*words, word) if word else words)

    walk(0, (), 0.0, 0.0, ())
    return found
