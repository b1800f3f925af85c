"""The best word sequences of a lattice in order."""

import heapq

import numpy as np

from asr_kd.core.bounds import MOST_HYPOTHESES
from asr_kd.core.errors import InputError
from asr_kd.decoding.rescoring import BestPath, check_weights, path_along
from asr_kd.lattices.word_lattice import WordLattice


def n_best(lattice: WordLattice, n: int, lm_weight: float, insertion_penalty: float = 0.0) -> list[BestPath]:
    """Up to `n` paths with different words, best first by graph + acoustic / lm_weight + insertion_penalty · words.

    Fewer where the lattice has fewer. Of the paths with the same words (in a lattice that is not determinised) the
    best one counts. A* over partial paths whose rest is known to cost at least what it does (Kaldi's
    `lattice-nbest`).
    """
    check_number(n)
    check_weights(lm_weight, insertion_penalty)
    if lattice.num_states == 0 or n < 1:
        return []
    scale = 1.0 / lm_weight
    costs = (lattice.graph_costs + scale * lattice.acoustic_costs.astype(np.float64)
             + insertion_penalty * (lattice.words > 0)).tolist()
    finals = (lattice.final_graph_costs + scale * lattice.final_acoustic_costs.astype(np.float64)).tolist()
    offsets, targets = lattice.offsets.tolist(), lattice.targets.tolist()
    words = lattice.words.tolist()
    rest = list(finals)
    for state in range(lattice.num_states - 1, -1, -1):
        for arc in range(offsets[state], offsets[state + 1]):
            rest[state] = min(rest[state], costs[arc] + rest[targets[arc]])

    # Entries of the trail: (entry before, arc). In the queue: cost with the best rest, entry, state (-1: complete),
    # cost so far, words so far. A state is left once with the same words: the first way to it is the best one.
    trail: list[tuple[int, int]] = [(-1, -1)]
    queue: list[tuple[float, int, int, float, tuple[int, ...]]] = [(rest[0], 0, 0, 0.0, ())]
    left: set[tuple[int, tuple[int, ...]]] = set()
    complete: set[tuple[int, ...]] = set()
    found: list[BestPath] = []
    while queue and len(found) < n:
        total, entry, state, cost, spoken = heapq.heappop(queue)
        if state < 0:
            if spoken not in complete:
                complete.add(spoken)
                found.append(_path(lattice, trail, entry))
            continue
        if (state, spoken) in left:
            continue
        left.add((state, spoken))
        if finals[state] < np.inf:
            heapq.heappush(queue, (cost + finals[state], entry, -1, cost, spoken))
        for arc in range(offsets[state], offsets[state + 1]):
            target = targets[arc]
            if rest[target] < np.inf:
                trail.append((entry, arc))
                heapq.heappush(queue, (cost + costs[arc] + rest[target], len(trail) - 1, target, cost + costs[arc],
                                       (*spoken, words[arc]) if words[arc] else spoken))
    return found


def check_number(n: int) -> None:
    """InputError where as many hypotheses of an utterance cannot be made."""
    if n > MOST_HYPOTHESES:
        raise InputError(f"{n} hypotheses of an utterance: expected at most {MOST_HYPOTHESES}")


def _path(lattice: WordLattice, trail: list[tuple[int, int]], entry: int) -> BestPath:
    arcs: list[int] = []
    while entry > 0:
        entry, arc = trail[entry]
        arcs.append(arc)
    end = int(lattice.targets[arcs[0]]) if arcs else 0
    return path_along(lattice, np.array(arcs[::-1], np.int64), end)
