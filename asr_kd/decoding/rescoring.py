"""Best paths of a lattice under other LM weights and word insertion penalties, without searching again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.core.bounds import InsertionPenalty, LmWeight, check_bounds
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice


@dataclass(frozen=True)
class BestPath:
    """One path of a lattice.

    words: word ids; word_frames: for each, the frame at which the path's arc with the word begins (the word itself
    may begin later or earlier: see `word_times`); transition_ids: int32 (frames,); graph_cost (final cost included),
    acoustic_cost (unscaled): sums over the path.
    """

    words: list[int]
    word_frames: list[int]
    transition_ids: np.ndarray
    graph_cost: float
    acoustic_cost: float


def best_path(lattice: Lattice | WordLattice, lm_weight: float, insertion_penalty: float) -> BestPath:
    """The path with the least graph + acoustic / lm_weight + insertion_penalty · words.

    A determinised lattice has for each word sequence the alignment that was best at its acoustic scale, no other.
    """
    return best_paths(lattice, [(lm_weight, insertion_penalty)])[0]


def best_paths(lattice: Lattice | WordLattice, weights: Sequence[tuple[float, float]]) -> list[BestPath]:
    """The best path for each (lm_weight, insertion_penalty), all in one pass over the lattice."""
    if lattice.num_states == 0 or not weights:
        return [BestPath([], [], np.zeros(0, np.int32), 0.0, 0.0) for _ in weights]
    for lm_weight, insertion_penalty in weights:
        check_weights(lm_weight, insertion_penalty)
    scales = np.array([1.0 / lm_weight for lm_weight, _ in weights])
    penalties = np.array([penalty for _, penalty in weights], np.float64)
    if isinstance(lattice, WordLattice):
        final_graph, final_acoustic = lattice.final_graph_costs, lattice.final_acoustic_costs
    else:
        final_graph, final_acoustic = lattice.final_costs, np.zeros_like(lattice.final_costs)
    ends, arrivals = _shortest(lattice.offsets, lattice.targets, lattice.words, lattice.graph_costs,
                               lattice.acoustic_costs, final_graph, final_acoustic, scales, penalties)
    sources = lattice.sources
    return [path_along(lattice, _arcs_back(int(ends[i]), arrivals[:, i], sources), int(ends[i]))
            for i in range(len(weights))]


def path_along(lattice: Lattice | WordLattice, arcs: np.ndarray, end: int) -> BestPath:
    """The path over these arcs, int (n,), in order from the start to the final state `end`."""
    words = lattice.words[arcs]
    spoken = words > 0
    starts = lattice.frames[lattice.targets[arcs]][spoken]
    graph = lattice.graph_costs[arcs].sum(dtype=np.float64)
    acoustic = lattice.acoustic_costs[arcs].sum(dtype=np.float64)
    if isinstance(lattice, WordLattice):
        tids = np.concatenate([*(lattice.run(arc) for arc in arcs), lattice.final_run(end)]).astype(np.int32)
        starts = starts - (lattice.ends - lattice.begins)[arcs[spoken]]
        graph += lattice.final_graph_costs[end]
        acoustic += lattice.final_acoustic_costs[end]
    else:
        tids = lattice.transition_ids[arcs]
        starts = starts - (tids[spoken] > 0)
        tids = tids[tids > 0]
        graph += lattice.final_costs[end]
    return BestPath(words[spoken].tolist(), starts.tolist(), tids, float(graph), float(acoustic))


def word_sequences(
    lattice: Lattice | WordLattice, weights: Sequence[tuple[float, float]], words: Sequence[str]
) -> list[list[str]]:
    """The words of the best path for each (lm_weight, insertion_penalty)."""
    return [[words[word] for word in path.words] for path in best_paths(lattice, weights)]


def check_weights(lm_weight: float, insertion_penalty: float) -> None:
    """InputError where paths cannot be compared with these."""
    check_bounds("LM weight", lm_weight, LmWeight)
    check_bounds("insertion penalty", insertion_penalty, InsertionPenalty)


@njit(nogil=True, cache=True)
def _arcs_back(end, arrivals, sources):  # type: ignore[no-untyped-def]
    path = []
    state = end
    while state > 0:
        path.append(arrivals[state])
        state = sources[arrivals[state]]
    return np.array(path[::-1], np.int64)


@njit(nogil=True, cache=True)
def _shortest(  # type: ignore[no-untyped-def]
    offsets, targets, words, graph_costs, acoustic_costs, final_graph, final_acoustic, scales, penalties
):
    """Best end state of each of the weights, and the arc by which each state is best reached (states, weights)."""
    states, lanes = len(final_graph), len(scales)
    costs = np.full((states, lanes), np.inf)
    arrivals = np.full((states, lanes), -1, np.int32)
    best = np.full(lanes, np.inf)
    ends = np.zeros(lanes, np.int64)
    costs[0] = 0.0
    for s in range(states):
        if final_graph[s] < np.inf:
            for i in range(lanes):
                cost = costs[s, i] + final_graph[s] + final_acoustic[s] * scales[i]
                if cost < best[i]:
                    best[i] = cost
                    ends[i] = s
        for arc in range(offsets[s], offsets[s + 1]):
            t = targets[arc]
            graph, acoustic = float(graph_costs[arc]), float(acoustic_costs[arc])
            spoken = 1.0 if words[arc] > 0 else 0.0
            for i in range(lanes):
                cost = costs[s, i] + graph + acoustic * scales[i] + spoken * penalties[i]
                better = cost < costs[t, i]
                costs[t, i] = cost if better else costs[t, i]
                arrivals[t, i] = arc if better else arrivals[t, i]
    return ends, arrivals
