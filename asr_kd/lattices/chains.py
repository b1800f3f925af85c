"""Chains of arcs joined to one: a state-level lattice as a word lattice, nothing else changed."""

import numpy as np
from numba import njit

from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice


def join_chains(lattice: Lattice) -> WordLattice:
    """The word lattice with the same paths, in which a chain of arcs with its word on the first is one arc.

    States with one arc in, one wordless arc out and no final cost disappear; the others keep their order. Kaldi's
    conversion to a compact lattice (fstext/factor.h). Nothing is determinised: `determinization` does that.
    """
    outer, ends, words, graph_costs, acoustic_costs, begins, stops, tids = _joined(
        lattice.offsets, lattice.targets, lattice.transition_ids, lattice.words,
        lattice.graph_costs.astype(np.float64), lattice.acoustic_costs.astype(np.float64), lattice.final_costs)
    counts = np.diff(lattice.offsets)[outer]
    rank = (np.cumsum(outer) - 1).astype(np.int32)
    states = int(outer.sum())
    return WordLattice(
        lattice.frames[outer], np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), rank[ends], words,
        graph_costs.astype(np.float32), acoustic_costs.astype(np.float32), begins, stops,
        lattice.final_costs[outer], np.zeros(states, np.float32), np.zeros(states, np.int32),
        np.zeros(states, np.int32), tids)


@njit(nogil=True, cache=True)
def _joined(offsets, targets, tids, words, graph_costs, acoustic_costs, final_costs):  # type: ignore[no-untyped-def]
    states = len(final_costs)
    entering = np.zeros(states, np.int32)
    for t in targets:
        entering[t] += 1
    outer = np.ones(states, np.bool_)
    arcs = 0
    for s in range(states):
        begin = offsets[s]
        outer[s] = (s == 0 or entering[s] != 1 or offsets[s + 1] - begin != 1 or words[begin] > 0
                    or final_costs[s] < np.inf)
        arcs += offsets[s + 1] - begin if outer[s] else 0
    ends, new_words = np.zeros(arcs, np.int32), np.zeros(arcs, np.int32)
    graph, acoustic = np.zeros(arcs), np.zeros(arcs)
    begins, stops = np.zeros(arcs, np.int32), np.zeros(arcs, np.int32)
    run = np.zeros(len(targets), np.int32)
    arc, tid = 0, 0
    for s in range(states):
        if not outer[s]:
            continue
        for first in range(offsets[s], offsets[s + 1]):
            a = first
            begins[arc] = tid
            new_words[arc] = words[a]
            while True:
                graph[arc] += graph_costs[a]
                acoustic[arc] += acoustic_costs[a]
                if tids[a] > 0:
                    run[tid] = tids[a]
                    tid += 1
                if outer[targets[a]]:
                    break
                a = offsets[targets[a]]
            ends[arc] = targets[a]
            stops[arc] = tid
            arc += 1
    return outer, ends, new_words, graph, acoustic, begins, stops, run[:tid].copy()
