"""Determinisation of state-level lattices: each word sequence once, with its best alignment."""

import numpy as np
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.lattices.determinization_kernel import determinize_arrays
from asr_kd.lattices.lattice import COST_FAULT, Lattice, check_beam, sound_costs
from asr_kd.lattices.word_lattice import WordLattice

_LOG = get_logger(__name__)
# Subsets whose costs differ by less are one state: sums in single precision are no better than this.
_DELTA = 1e-5
# Sums of the same costs in another order differ by less; no path may fall out of a beam that its beginning was in.
_ROUNDING, _EPSILON = 1e-6, float(np.finfo(np.float64).eps)


def determinize(
    lattice: Lattice, beam: float, acoustic_scale: float, max_arcs: int = 200_000, max_bytes: int = 128 << 20
) -> WordLattice:
    """Each word sequence whose best path is within `beam` of the best path of all, once, with that path.

    Paths are compared by graph + acoustic_scale · acoustic; an arc's acoustic cost is that of its own frames where
    equal frames and transition-ids cost the same throughout the lattice. Beyond `max_arcs` arcs or `max_bytes` of
    working memory the beam shrinks to what fits, and a warning says so. Povey et al. 2012, "Generating exact lattices
    in the WFST framework"; Kaldi's `lattice-determinize-pruned`.
    """
    result, reached = determinize_within(lattice, beam, acoustic_scale, max_arcs, max_bytes)
    if reached < beam:
        _LOG.warning("determinisation stopped at %d arcs: its beam is %.2f, not %.2f", result.num_arcs, reached, beam)
    return result


def determinize_within(
    lattice: Lattice, beam: float, acoustic_scale: float, max_arcs: int = 200_000, max_bytes: int = 128 << 20
) -> tuple[WordLattice, float]:
    """As `determinize`; with the beam within which no word sequence is missing."""
    check_beam(beam, acoustic_scale)
    if lattice.num_states == 0:
        return _EMPTY, beam
    longest = 2 * lattice.num_frames + 2
    if not sound_costs(longest * lattice.graph_costs, longest * lattice.acoustic_costs):
        raise InputError(f"lattice: {COST_FAULT} for a path")
    sources = lattice.sources
    order = np.lexsort((lattice.words > 0, sources))
    begins = np.empty((lattice.num_states + 1, 2), np.int32)
    begins[:, 0] = lattice.offsets
    begins[:-1, 1] = lattice.offsets[:-1] + np.bincount(sources[lattice.words == 0], minlength=lattice.num_states)
    begins[-1, 1] = lattice.num_arcs
    targets, words, tids = lattice.targets[order], lattice.words[order], lattice.transition_ids[order]
    graph_costs = lattice.graph_costs[order].astype(np.float64)
    acoustic_costs = lattice.acoustic_costs[order].astype(np.float64)
    finals = lattice.final_costs.astype(np.float64)
    backward = _costs_to_end(lattice.offsets, targets, graph_costs + acoustic_scale * acoustic_costs, finals)
    if not np.isfinite(backward[0]):
        return _EMPTY, beam
    # The larger the sums, the more of them is lost to rounding.
    largest = np.abs(graph_costs).max(initial=0) + acoustic_scale * np.abs(acoustic_costs).max(initial=0)
    rounding = max(_ROUNDING, longest * longest * float(largest) * _EPSILON)
    *arrays, reached = determinize_arrays(
        begins, targets, words, tids, graph_costs, acoustic_costs, finals, backward, acoustic_scale, beam, _DELTA,
        rounding, max_arcs, max_bytes)
    return _assemble(*arrays), float(reached)


def _assemble(states: np.ndarray, ends: np.ndarray, arcs: np.ndarray, nodes: np.ndarray) -> WordLattice:
    """States in topological order, frames never falling, without dead ends; equal runs stored once."""
    if len(states) == 0:
        return _EMPTY
    frames = nodes["depth"][states["node"]]
    by_source = np.argsort(arcs["source"], kind="stable")
    arcs = arcs[by_source]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(arcs["source"], minlength=len(states)))])
    levels, alive = _levels(offsets, arcs["target"].copy(), np.isfinite(ends["graph"]))
    if not alive[0]:
        return _EMPTY
    order = np.lexsort((levels, frames))
    order = order[alive[order]]
    number = np.full(len(states), -1, np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    arcs = arcs[alive[arcs["source"]] & alive[arcs["target"]]]
    arcs = arcs[np.lexsort((number[arcs["target"]], arcs["word"], number[arcs["source"]]))]
    states, ends = states[order], ends[order]
    final = np.isfinite(ends["graph"])

    # All runs, those of the arcs and those of the final states: two ways up the trie each.
    from_nodes = np.concatenate([states["node"][number[arcs["source"]]], states["node"][final]])
    pieces = np.zeros((len(from_nodes), 3), np.int32)
    pieces[: len(arcs)] = np.stack([arcs["first"], arcs["middle"], arcs["last"]], axis=1)
    pieces[len(arcs) :, 0] = ends["node"][final]
    hashes = nodes["hash"]
    codes = hashes[pieces[:, 0]] - hashes[from_nodes] + hashes[pieces[:, 2]] - hashes[pieces[:, 1]]
    _, chosen, run_of = np.unique(codes, return_index=True, return_inverse=True)
    chosen_rank = np.argsort(np.argsort(chosen))  # runs stand in the order of the arcs
    chosen = np.sort(chosen)
    flat, run_begins = _runs(nodes["parent"].copy(), nodes["tid"].copy(), nodes["depth"].copy(), from_nodes[chosen],
                             pieces[chosen])
    run_of = chosen_rank[run_of]
    begins, run_ends = run_begins[run_of], run_begins[run_of + 1]

    final_begins, final_ends = np.zeros(len(order), np.int32), np.zeros(len(order), np.int32)
    final_begins[final], final_ends[final] = begins[len(arcs) :], run_ends[len(arcs) :]
    counts = np.bincount(number[arcs["source"]], minlength=len(order))
    return WordLattice(
        frames[order].astype(np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        number[arcs["target"]], arcs["word"].copy(), arcs["graph"].astype(np.float32),
        arcs["acoustic"].astype(np.float32), begins[: len(arcs)], run_ends[: len(arcs)],
        (ends["graph"] - states["graph"]).astype(np.float32),
        np.where(final, ends["acoustic"] - states["acoustic"], 0.0).astype(np.float32), final_begins, final_ends, flat)


@njit(nogil=True, cache=True)
def _costs_to_end(offsets, targets, costs, finals):  # type: ignore[no-untyped-def]
    backward = finals.copy()
    for s in range(len(finals) - 1, -1, -1):
        for arc in range(offsets[s], offsets[s + 1]):
            backward[s] = min(backward[s], costs[arc] + backward[targets[arc]])
    return backward


@njit(nogil=True, cache=True)
def _levels(offsets, targets, final):  # type: ignore[no-untyped-def]
    """Length of the longest way to each state, and whether a final state can be reached from it."""
    states = len(final)
    ways_in = np.zeros(states, np.int64)
    for target in targets:
        ways_in[target] += 1
    levels = np.zeros(states, np.int64)
    queue = np.zeros(states, np.int64)
    length, done = 1, 0
    while done < length:
        s = queue[done]
        done += 1
        for arc in range(offsets[s], offsets[s + 1]):
            t = targets[arc]
            levels[t] = max(levels[t], levels[s] + 1)
            ways_in[t] -= 1
            if ways_in[t] == 0:
                queue[length] = t
                length += 1
    alive = final.copy()
    for i in range(length - 1, -1, -1):
        s = queue[i]
        for arc in range(offsets[s], offsets[s + 1]):
            alive[s] |= alive[targets[arc]]
    return levels, alive


@njit(nogil=True, cache=True)
def _runs(parents, tids, depths, from_nodes, pieces):  # type: ignore[no-untyped-def]
    """Transition-ids of each run in one array, and where each begins (runs + 1)."""
    count = len(from_nodes)
    begins = np.zeros(count + 1, np.int32)
    for i in range(count):
        first, middle, last = pieces[i]
        begins[i + 1] = begins[i] + depths[first] - depths[from_nodes[i]] + depths[last] - depths[middle]
    flat = np.empty(begins[count], np.int32)
    for i in range(count):
        position = begins[i + 1]
        for side in (2, 0):
            node = pieces[i, side]
            floor = depths[pieces[i, 1]] if side == 2 else depths[from_nodes[i]]
            while depths[node] > floor:
                position -= 1
                flat[position] = tids[node]
                node = parents[node]
    return flat, begins


def _empty() -> WordLattice:
    none, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return WordLattice(none, np.zeros(1, np.int32), none, none, costs, costs, none, none, costs, costs, none, none,
                       none)


_EMPTY = _empty()
