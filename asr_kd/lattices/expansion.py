"""Word lattices as state-level lattices, one transition-id per arc."""

import numpy as np
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

_MOST_ARCS = 1 << 26


def expand(
    lattice: WordLattice, log_likelihoods: np.ndarray | None = None, transition_pdfs: np.ndarray | None = None
) -> Lattice:
    """The same paths with an arc for each frame; a word and its graph cost stand on the first arc of its run.

    With `log_likelihoods` (frames, pdfs) and `transition_pdfs` (transition-ids + 1,), the pdf of each transition-id,
    every arc has its own frame's acoustic cost; without them a run's whole cost stands on its first arc, as Kaldi's
    `lattice-copy --write-compact=false` leaves it. Runs into one state share the arcs of their common end. ValueError:
    scores of another number of frames, or only one of the two.
    """
    if (log_likelihoods is None) != (transition_pdfs is None):
        raise ValueError("log-likelihoods and the pdfs of transition-ids go together")
    if lattice.num_states == 0:
        none, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return Lattice(none, np.zeros(1, np.int32), costs, none, none, none, costs, costs)
    if log_likelihoods is not None and len(log_likelihoods) != lattice.num_frames:
        raise ValueError(f"{len(log_likelihoods)} frames of scores for a lattice of {lattice.num_frames}")
    finals = np.isfinite(lattice.final_graph_costs)
    with_arcs = np.flatnonzero(
        finals & ((lattice.final_ends > lattice.final_begins) | (lattice.final_acoustic_costs != 0)))
    end = lattice.num_states  # the state behind the runs of final states
    begins = np.concatenate([lattice.begins, lattice.final_begins[with_arcs]])
    ends = np.concatenate([lattice.ends, lattice.final_ends[with_arcs]])
    total = int((ends.astype(np.int64) - begins).sum())
    if total > _MOST_ARCS:
        raise InputError(f"a lattice of {total} arcs at the state level, expected at most {_MOST_ARCS}")
    firsts = np.concatenate([lattice.sources, with_arcs.astype(np.int32)])
    targets = np.concatenate([lattice.targets, np.full(len(with_arcs), end, np.int32)])
    entries, parents, tids, remaining = _suffix_tries(begins, ends, targets, end + 1, lattice.transition_ids)

    # Arcs into the tries (one for each run), then the arcs inside them.
    lengths = ends - begins
    sources = np.concatenate([firsts, np.arange(end + 1, len(parents), dtype=np.int32)])
    goals = np.concatenate([entries, parents[end + 1 :]])
    first_ids = np.zeros(len(begins), np.int32)
    first_ids[lengths > 0] = lattice.transition_ids[begins[lengths > 0]]
    arc_tids = np.concatenate([first_ids, tids[end + 1 :]])
    inside = np.zeros(len(parents) - end - 1, np.float32)
    words = np.concatenate([lattice.words, np.zeros(len(with_arcs) + len(inside), np.int32)])
    graph_costs = np.concatenate([lattice.graph_costs, lattice.final_graph_costs[with_arcs], inside])
    acoustic_costs = np.concatenate([lattice.acoustic_costs, lattice.final_acoustic_costs[with_arcs], inside])

    frames = np.full(len(parents), lattice.num_frames, np.int32)
    frames[:end] = lattice.frames
    frames[end + 1 :] = frames[remaining[end + 1 :]] - _depths(parents, end + 1)[end + 1 :]
    if log_likelihoods is not None and transition_pdfs is not None:
        taken = np.minimum(frames[sources], lattice.num_frames - 1)
        acoustic_costs = np.where(arc_tids > 0, -log_likelihoods[taken, transition_pdfs[arc_tids]], 0.0)

    final_costs = np.full(len(parents), np.inf, np.float32)
    without_arcs = finals.copy()
    without_arcs[with_arcs] = False
    final_costs[:end][without_arcs] = lattice.final_graph_costs[without_arcs]
    final_costs[end] = 0.0
    kept = np.arange(len(parents))
    if len(with_arcs) == 0:
        kept = np.delete(kept, end)
    # The state behind the final runs is the last one; states of one frame are in topological order otherwise.
    order = kept[np.lexsort((kept, kept == end, frames[kept]))]
    number = np.empty(len(parents), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    arcs = np.lexsort((words, arc_tids, number[goals], number[sources]))
    counts = np.bincount(number[sources], minlength=len(order))
    return Lattice(
        frames[order], np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), final_costs[order],
        number[goals][arcs], arc_tids[arcs].astype(np.int32), words[arcs], graph_costs[arcs].astype(np.float32),
        acoustic_costs[arcs].astype(np.float32))


@njit(nogil=True, cache=True)
def _suffix_tries(begins, ends, targets, roots, tids):  # type: ignore[no-untyped-def]
    """Runs as tries that grow backwards from their target states, which are nodes 0 to `roots`.

    Returns the node into which each run's first arc leads, and for each node its parent (the next node on the way to
    the target), the transition-id on the way there, and the target.
    """
    size = roots
    for run in range(len(begins)):
        size += max(ends[run] - begins[run] - 1, 0)
    parents = np.full(size, -1, np.int32)
    labels = np.zeros(size, np.int32)
    targets_of = np.arange(size).astype(np.int32)
    children = np.full(size, -1, np.int32)
    siblings = np.full(size, -1, np.int32)
    entries = np.empty(len(begins), np.int32)
    nodes = roots
    for run in range(len(begins)):
        node = targets[run]
        for i in range(ends[run] - 1, begins[run], -1):
            child = children[node]
            while child >= 0 and labels[child] != tids[i]:
                child = siblings[child]
            if child < 0:
                child = nodes
                nodes += 1
                parents[child], labels[child], targets_of[child] = node, tids[i], targets[run]
                siblings[child] = children[node]
                children[node] = child
            node = child
        entries[run] = node
    return entries, parents[:nodes], labels[:nodes], targets_of[:nodes]


@njit(nogil=True, cache=True)
def _depths(parents, roots):  # type: ignore[no-untyped-def]
    depths = np.zeros(len(parents), np.int32)
    for node in range(roots, len(parents)):
        depths[node] = depths[parents[node]] + 1
    return depths
