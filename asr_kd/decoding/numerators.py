"""Forced alignments as paths of a decoding graph: the numerators of sequence training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numba import njit

from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.lattices.chains import join_chains
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

# The score of pdfs that are not the alignment's: outside of any beam.
_ELSEWHERE = -1e6


def numerator_path(
    graph: DecodingGraph, words: Sequence[int], pdf_ids: np.ndarray, search: SearchConfig
) -> Lattice | None:
    """The cheapest path of the graph that says these words through these pdfs, as a lattice of this one path.

    words: word ids of the transcript; pdf_ids int (frames,): of its forced alignment. Acoustic costs are 0. None where
    the graph has no such path. No beam applies.
    """
    log_likelihoods = np.full((len(pdf_ids), graph.num_pdfs), _ELSEWHERE, np.float32)
    log_likelihoods[np.arange(len(pdf_ids)), pdf_ids] = 0.0
    # However dear the path is for a while, nothing but paths through these pdfs competes with it.
    beam = -_ELSEWHERE / 2 * search.acoustic_scale
    found = decode(graph, log_likelihoods, search.model_copy(update={
        "min_active": 0, "beam": beam, "lattice_beam": beam, "max_active": 1_000_000}))
    if not found.reached_final or found.frames != len(pdf_ids) or found.best.acoustic_cost > -_ELSEWHERE / 2:
        return None
    arcs = arcs_saying(found.lattice, words, pdf_ids, transition_pdfs(graph))
    return None if arcs is None else _alone(found.lattice, arcs)


def with_scores(path: Lattice, scores: np.ndarray) -> WordLattice:
    """A numerator's path as a word lattice with acoustic costs; scores (frames,), log-likelihoods of its pdfs."""
    acoustic = np.zeros(path.num_arcs, np.float32)
    acoustic[path.transition_ids > 0] = -scores
    return join_chains(replace(path, acoustic_costs=acoustic))


def arcs_saying(
    lattice: Lattice, words: Sequence[int], pdf_ids: np.ndarray, pdfs: np.ndarray
) -> np.ndarray | None:
    """The arcs, int64 (n,), of the path with the least graph cost that says `words` through `pdf_ids`; None: none does.

    pdfs: int (transition-ids + 1,), the pdf of each transition-id.
    """
    if lattice.num_states == 0 or lattice.num_frames != len(pdf_ids):
        return None
    arc_pdfs = np.where(lattice.transition_ids > 0, pdfs[lattice.transition_ids], -1)
    arcs = _cheapest(lattice.offsets, lattice.targets, lattice.words, arc_pdfs, lattice.frames,
                     lattice.graph_costs.astype(np.float64), lattice.final_costs.astype(np.float64),
                     np.asarray(words, np.int64), np.asarray(pdf_ids, np.int64))
    return arcs if len(arcs) else None


def transition_pdfs(graph: DecodingGraph) -> np.ndarray:
    """int64 (highest transition-id of the graph + 1,): the pdf of each, -1 for those that it does not have."""
    pdfs = np.full(int(graph.transition_ids.max(initial=0)) + 1, -1, np.int64)
    pdfs[graph.transition_ids] = graph.arc_ints[:, 0]
    return pdfs


def _alone(lattice: Lattice, arcs: np.ndarray) -> Lattice:
    """The path over these arcs, from the start to a final state, as a lattice without acoustic costs."""
    states = np.concatenate([[0], lattice.targets[arcs]])
    numbers = np.arange(len(states), dtype=np.int32)
    finals = np.full(len(states), np.inf, np.float32)
    finals[-1] = lattice.final_costs[states[-1]]
    return Lattice(
        lattice.frames[states], np.append(numbers, numbers[-1]), finals, numbers[1:], lattice.transition_ids[arcs],
        lattice.words[arcs], lattice.graph_costs[arcs], np.zeros(len(arcs), np.float32))


@njit(nogil=True, cache=True)
def _cheapest(offsets, targets, words, pdfs, frames, costs, finals, said, pdf_ids):  # type: ignore[no-untyped-def]
    """The arcs of the cheapest path; none where there is no path."""
    states, length = len(finals), len(said)
    # Least cost from a state on, with said[j:] still to be said.
    least = np.full((states, length + 1), np.inf)
    best = np.full((states, length + 1), -1)
    for s in range(states - 1, -1, -1):
        least[s, length] = finals[s]
        for a in range(offsets[s], offsets[s + 1]):
            if pdfs[a] >= 0 and pdfs[a] != pdf_ids[frames[s]]:
                continue
            t, word = targets[a], words[a]
            for j in range(length + 1):
                if word > 0 and (j == length or said[j] != word):
                    continue
                cost = costs[a] + least[t, j + (word > 0)]
                if cost < least[s, j]:
                    least[s, j], best[s, j] = cost, a
    path = []
    if least[0, 0] < np.inf:
        s, j = 0, 0
        while best[s, j] >= 0:
            a = best[s, j]
            path.append(a)
            s = targets[a]
            j += words[a] > 0
    return np.array(path, np.int64)
