"""Small random decoding graphs, and all paths through them."""

import numpy as np

from asr_kd.decoding.graph import DecodingGraph
from asr_kd.graph.fst import Fst

NUM_PDFS = 4
WORDS = ["<eps>", "one", "two", "three", "#0"]
TRANSITION_PDFS = np.array([-1, 0, 1, 2, 3, 1, 2], np.int32)

Path = tuple[tuple[int, ...], tuple[int, ...], float]


def random_fst(seed: int, states: int = 5) -> Fst:
    """Emitting arcs anywhere, epsilon arcs to higher states only, at least one final state."""
    rng = np.random.default_rng(seed)
    rows = []
    for state in range(states):
        for _ in range(rng.integers(1, 4)):
            word = int(rng.integers(1, 4)) if rng.random() < 0.3 else 0
            rows.append((state, int(rng.integers(1, len(TRANSITION_PDFS))), word, float(rng.uniform(0, 3)),
                         int(rng.integers(0, states))))
        if state < states - 1 and rng.random() < 0.5:
            word = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
            rows.append((state, 0, word, float(rng.uniform(0, 3)), int(rng.integers(state + 1, states))))
    finals = {int(state): float(rng.uniform(0, 2)) for state in rng.choice(states, 2, replace=False)}
    return Fst.from_lists(0, finals, rows)


def graph_of(fst: Fst) -> DecodingGraph:
    return DecodingGraph.from_fst(fst, TRANSITION_PDFS, WORDS, NUM_PDFS, "digest")


def paths_through(fst: Fst, log_likelihoods: np.ndarray, acoustic_scale: float) -> list[Path]:
    """All complete paths (transition-ids, words, cost); none where no final state can be reached."""
    found: list[Path] = []

    def walk(state: int, tids: tuple[int, ...], words: tuple[int, ...], cost: float) -> None:
        if len(tids) == len(log_likelihoods) and np.isfinite(fst.finals[state]):
            found.append((tids, words, cost + float(fst.finals[state])))
        for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
            tid, word = int(arc["ilabel"]), int(arc["olabel"])
            if tid and len(tids) == len(log_likelihoods):
                continue
            extra = -acoustic_scale * float(log_likelihoods[len(tids), TRANSITION_PDFS[tid]]) if tid else 0.0
            walk(int(arc["nextstate"]), (*tids, tid) if tid else tids, (*words, word) if word else words,
                 cost + float(arc["weight"]) + extra)

    walk(fst.start, (), (), 0.0)
    return found
