"""From states and arcs in a file's order to lattices that keep our rules: trimmed, sorted, frames counted."""

import heapq
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.lattices.lattice import LARGEST_COST, Lattice
from asr_kd.lattices.word_lattice import WordLattice


class LatticeFault(ValueError):
    """A fault of a lattice, in a few words; `line` (from 0, in the lattice's text) where that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class UnsortedLattice:
    """A lattice as a file has it: states in any order, arcs in the file's, a run of transition-ids on each.

    sources, targets, words, begins, ends: int32 (arcs,); graph_costs, acoustic_costs: float32 (arcs,).
    final_states, final_begins, final_ends: int32 (finals,); final_graph_costs, final_acoustic_costs: float32
    (finals,). transition_ids: int32 (n,), where the runs lie. For messages: names (states,) of the states in the
    file; arc_lines, final_lines: the lines of arcs and final states; each empty where there are none.
    """

    start: int
    states: int
    sources: np.ndarray
    targets: np.ndarray
    words: np.ndarray
    graph_costs: np.ndarray
    acoustic_costs: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    final_states: np.ndarray
    final_graph_costs: np.ndarray
    final_acoustic_costs: np.ndarray
    final_begins: np.ndarray
    final_ends: np.ndarray
    transition_ids: np.ndarray
    names: np.ndarray
    arc_lines: np.ndarray
    final_lines: np.ndarray

    def name(self, state: int) -> int:
        return int(self.names[state]) if len(self.names) else state

    def line_of_arc(self, arcs: np.ndarray) -> int | None:
        """Line of the first of the arcs that a mask (arcs,) has."""
        return int(self.arc_lines[arcs][0]) if len(self.arc_lines) and arcs.any() else None

    def line_of_final(self, finals: np.ndarray) -> int | None:
        return int(self.final_lines[finals][0]) if len(self.final_lines) and finals.any() else None

    def line_of_state(self, state: int) -> int | None:
        """Return the line that first names the state, None where no line does."""
        lines = [self.line_of_arc((self.sources == state) | (self.targets == state)),
                 self.line_of_final(self.final_states == state)]
        return min((line for line in lines if line is not None), default=None)


def sorted_word_lattice(raw: UnsortedLattice, trim: bool = False) -> WordLattice:
    """The lattice with states in topological order, by frame; an order that is both already stays as it is.

    States that no path reaches or that reach no final state are left out if `trim`, else a fault. LatticeFault:
    those, a cycle, a state reached after different numbers of frames, paths of different lengths, a cost that is
    not finite, a label out of range.
    """
    _check_values(raw)
    order = np.argsort(raw.sources, kind="stable")
    sources, targets = raw.sources[order], raw.targets[order]
    kept = _states_on_paths(raw, sources, targets, trim)
    if trim:
        order = order[kept[sources] & kept[targets]]
        sources, targets = raw.sources[order], raw.targets[order]
    if not kept.any():
        return _empty()
    offsets = _offsets(sources, raw.states)
    lengths = (raw.ends - raw.begins)[order]
    sequence = _topological(offsets, targets, raw.start)
    if len(sequence) < kept.sum():
        inside = np.setdiff1d(np.flatnonzero(kept), sequence)
        state = int(inside[0])
        raise LatticeFault(f"a cycle that state {raw.name(state)} is on or behind; a lattice has none",
                           raw.line_of_state(state))
    frames, wrong = _frames(offsets, targets, lengths, sequence, raw.states)
    if wrong >= 0:
        source, target = sources[wrong], targets[wrong]
        raise LatticeFault(
            f"state {raw.name(target)} is reached after {frames[target]} and after {frames[source] + lengths[wrong]} "
            "frames; expected paths of equal lengths", raw.line_of_arc(np.arange(len(raw.sources)) == order[wrong]))
    sequence = sequence[np.argsort(frames[sequence], kind="stable")]
    rank = np.full(raw.states, -1, np.int32)
    rank[sequence] = np.arange(len(sequence), dtype=np.int32)
    finals = np.flatnonzero(kept[raw.final_states])
    _check_ends(raw, frames, finals)
    return _renumbered(raw, order, sequence, rank, frames, finals)


def sorted_lattice(raw: UnsortedLattice, trim: bool = False) -> Lattice:
    """As `sorted_word_lattice`, with one arc for each transition-id."""
    lattice = sorted_word_lattice(raw, trim)
    lengths = lattice.ends - lattice.begins
    if lengths.max(initial=0) > 1 or lattice.final_ends.max(initial=0) > 0 or lattice.final_acoustic_costs.any():
        return lattice.expand()
    tids = np.zeros(lattice.num_arcs, np.int32)
    tids[lengths == 1] = lattice.transition_ids[lattice.begins[lengths == 1]]
    return Lattice(lattice.frames, lattice.offsets, lattice.final_graph_costs, lattice.targets, tids, lattice.words,
                   lattice.graph_costs, lattice.acoustic_costs)


def _check_values(raw: UnsortedLattice) -> None:
    finite = (np.abs(raw.graph_costs) <= LARGEST_COST) & (np.abs(raw.acoustic_costs) <= LARGEST_COST)
    if not finite.all():
        arc = int(np.flatnonzero(~finite)[0])
        raise LatticeFault(f"an arc from state {raw.name(raw.sources[arc])} costs "
                           f"{raw.graph_costs[arc]},{raw.acoustic_costs[arc]}; expected finite numbers up to "
                           f"{LARGEST_COST:g}",
                           raw.line_of_arc(~finite))
    finite = (np.abs(raw.final_graph_costs) <= LARGEST_COST) & (np.abs(raw.final_acoustic_costs) <= LARGEST_COST)
    if not finite.all():
        final = int(np.flatnonzero(~finite)[0])
        raise LatticeFault(f"the final state {raw.name(raw.final_states[final])} costs "
                           f"{raw.final_graph_costs[final]},{raw.final_acoustic_costs[final]}; expected finite "
                           f"numbers up to {LARGEST_COST:g}", raw.line_of_final(~finite))
    if (raw.words < 0).any():
        raise LatticeFault(f"word {raw.words.min()}; expected 0 or more", raw.line_of_arc(raw.words < 0))
    if (raw.transition_ids < 1).any():
        place = int(np.flatnonzero(raw.transition_ids < 1)[0])
        raise LatticeFault(f"transition-id {raw.transition_ids[place]}; expected 1 or more",
                           raw.line_of_arc((raw.begins <= place) & (place < raw.ends)))


def _states_on_paths(raw: UnsortedLattice, sources: np.ndarray, targets: np.ndarray, trim: bool) -> np.ndarray:
    """bool (states,): on a path from the start to a final state."""
    if raw.states == 0:
        return np.zeros(0, bool)
    begin = np.array([raw.start], np.int32)
    reached = _reached(_offsets(sources, raw.states), targets, begin)
    back = np.argsort(targets, kind="stable")
    reaches = _reached(_offsets(targets[back], raw.states), sources[back], raw.final_states)
    if not trim and not reached.all():
        state = int(np.flatnonzero(~reached)[0])
        raise LatticeFault(f"no path from the start reaches state {raw.name(state)}; remove it, or read with trim",
                           raw.line_of_state(state))
    if not trim and not reaches.all():
        state = int(np.flatnonzero(~reaches)[0])
        raise LatticeFault(f"a dead end: state {raw.name(state)} reaches no final state; remove it, or read with trim",
                           raw.line_of_state(state))
    return reached & reaches


def _check_ends(raw: UnsortedLattice, frames: np.ndarray, finals: np.ndarray) -> None:
    lengths = frames[raw.final_states[finals]] + (raw.final_ends - raw.final_begins)[finals]
    if (lengths != lengths[0]).any():
        different = finals[int(np.flatnonzero(lengths != lengths[0])[0])]
        raise LatticeFault(f"paths of {lengths[0]} and of {lengths[lengths != lengths[0]][0]} frames; expected equal "
                           "lengths", raw.line_of_final(np.arange(len(raw.final_states)) == different))


def _renumbered(
    raw: UnsortedLattice, order: np.ndarray, sequence: np.ndarray, rank: np.ndarray, frames: np.ndarray,
    finals: np.ndarray,
) -> WordLattice:
    order = order[np.argsort(rank[raw.sources[order]], kind="stable")]
    final_states = rank[raw.final_states[finals]]
    graph = np.full(len(sequence), np.inf, np.float32)
    acoustic = np.zeros(len(sequence), np.float32)
    begins, ends = np.zeros((2, len(sequence)), np.int32)
    graph[final_states] = raw.final_graph_costs[finals]
    acoustic[final_states] = raw.final_acoustic_costs[finals]
    # An empty run is nowhere in particular: a rule, so that equal lattices have equal arrays.
    lengths = (raw.final_ends - raw.final_begins)[finals]
    begins[final_states] = np.where(lengths > 0, raw.final_begins[finals], 0)
    ends[final_states] = begins[final_states] + lengths
    return WordLattice(
        frames[sequence], _offsets(rank[raw.sources[order]], len(sequence)), rank[raw.targets[order]],
        raw.words[order], raw.graph_costs[order], raw.acoustic_costs[order], raw.begins[order], raw.ends[order],
        graph, acoustic, begins, ends, raw.transition_ids)


def _empty() -> WordLattice:
    ints, floats = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return WordLattice(ints, np.zeros(1, np.int32), ints, ints, floats, floats, ints, ints, floats, floats, ints, ints,
                       ints)


def _offsets(sources: np.ndarray, states: int) -> np.ndarray:
    """Return the begin of each state's arcs among arcs sorted by `sources`, int32 (states + 1,)."""
    return np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=states))]).astype(np.int32)


@njit(nogil=True, cache=True)
def _reached(offsets, targets, begin):  # type: ignore[no-untyped-def]
    reached = np.zeros(len(offsets) - 1, np.bool_)
    reached[begin] = True
    stack = [s for s in begin]
    while stack:
        s = stack.pop()
        for a in range(offsets[s], offsets[s + 1]):
            if not reached[targets[a]]:
                reached[targets[a]] = True
                stack.append(targets[a])
    return reached


@njit(nogil=True, cache=True)
def _topological(offsets, targets, start):  # type: ignore[no-untyped-def]
    """States in topological order, the lowest first of those that may come next; fewer than all behind a cycle."""
    waiting = np.zeros(len(offsets) - 1, np.int32)
    for t in targets:
        waiting[t] += 1
    heap = [start]
    if waiting[start]:
        heap.pop()
    order = []
    while heap:
        s = heapq.heappop(heap)
        order.append(s)
        for a in range(offsets[s], offsets[s + 1]):
            waiting[targets[a]] -= 1
            if waiting[targets[a]] == 0:
                heapq.heappush(heap, np.int64(targets[a]))
    return np.array(order, np.int64)


@njit(nogil=True, cache=True)
def _frames(offsets, targets, lengths, order, states):  # type: ignore[no-untyped-def]
    """Frames before each state, int32 (states,), and an arc that contradicts them, or -1."""
    frames = np.full(states, -1, np.int32)
    frames[order[0]] = 0
    for s in order:
        for a in range(offsets[s], offsets[s + 1]):
            t, frame = targets[a], frames[s] + lengths[a]
            if frames[t] < 0:
                frames[t] = frame
            elif frames[t] != frame:
                return frames, a
    return frames, -1
