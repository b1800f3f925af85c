"""State-level lattices as arrays."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.core.bounds import AcousticScale, LatticeBeam, check_bounds

LARGEST_COST = 1e16  # a sum over an utterance of what a search takes of a frame is less
COST_FAULT = f"a cost is not finite, or beyond {LARGEST_COST:g}"


@dataclass(frozen=True)
class Lattice:
    """The paths that a search kept of one utterance; state 0 is the start, every arc leads to a higher state.

    Costs are negative natural logarithms, at most LARGEST_COST, acoustic ones unscaled. A word of 0 is none; an arc
    with transition-id 0 takes no frame, all others take one. Every state is on a path from the start to a final
    state, and final states are in the last frame.

    frames: int32 (states,), frames consumed before the state; offsets: int32 (states + 1,), the arcs of state s are
    offsets[s] to offsets[s + 1]; final_costs: float32 (states,), infinite where not final; targets, transition_ids,
    words: int32 (arcs,); graph_costs, acoustic_costs: float32 (arcs,).
    """

    frames: np.ndarray
    offsets: np.ndarray
    final_costs: np.ndarray
    targets: np.ndarray
    transition_ids: np.ndarray
    words: np.ndarray
    graph_costs: np.ndarray
    acoustic_costs: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.frames)

    @property
    def num_arcs(self) -> int:
        return len(self.targets)

    @property
    def num_frames(self) -> int:
        return int(self.frames[-1]) if len(self.frames) else 0

    @property
    def sources(self) -> np.ndarray:
        """Source state of each arc, int32 (arcs,)."""
        return np.repeat(np.arange(self.num_states, dtype=np.int32), np.diff(self.offsets))

    def fault(self) -> str | None:
        """Describe in a few words what breaks the rules above; None where nothing does."""
        states, arcs = self.num_states, self.num_arcs
        if states == 0:
            return None if arcs == 0 else "arcs without states"
        disorder = order_fault(self.frames, self.offsets, self.targets)
        if disorder:
            return disorder
        sources = self.sources
        if (self.frames[self.targets] - self.frames[sources] != (self.transition_ids > 0)).any():
            return "an arc does not take the frames that its transition-id says"
        if (self.transition_ids < 0).any() or (self.words < 0).any():
            return "a negative transition-id or word"
        finals = self.final_costs
        if not sound_costs(self.graph_costs, self.acoustic_costs, finals[finals != np.inf]):
            return COST_FAULT
        if (self.frames[np.isfinite(finals)] < self.frames[-1]).any():
            return "a final state before the last frame"
        if len(np.unique(np.append(self.targets, np.int32(0)))) < states:
            return "a state that no path reaches"
        if (np.diff(self.offsets)[~np.isfinite(finals)] == 0).any():
            return "a dead end: a state that reaches no final state"
        return None


def check_beam(beam: float, acoustic_scale: float) -> None:
    """InputError where no paths are compared with these; the beam is in units of scaled cost."""
    check_bounds("lattice beam", beam, LatticeBeam)
    check_bounds("acoustic scale", acoustic_scale, AcousticScale)


def sound_costs(*costs: np.ndarray) -> bool:
    """True where all are finite and small enough for sums of a path to be compared."""
    return all(bool((np.abs(values) <= LARGEST_COST).all()) for values in costs)  # false for NaN


def order_fault(frames: np.ndarray, offsets: np.ndarray, targets: np.ndarray) -> str | None:
    """Describe what is wrong with the order of states and arcs, in either kind of lattice; there must be some."""
    states, arcs = len(frames), len(targets)
    if len(offsets) != states + 1 or offsets[0] != 0 or offsets[-1] != arcs:
        return "arc counts do not fit"
    if (np.diff(offsets) < 0).any() or (np.diff(frames) < 0).any() or frames[0] != 0:
        return "states out of order"
    if (targets <= np.repeat(np.arange(states), np.diff(offsets))).any() or (targets >= states).any():
        return "an arc does not lead to a higher state"
    return None


def prune(lattice: Lattice, beam: float, acoustic_scale: float) -> Lattice:
    """Keep the arcs on paths whose cost (graph + acoustic_scale · acoustic) is within `beam` of the best path's."""
    check_beam(beam, acoustic_scale)
    if lattice.num_states == 0:
        return lattice
    costs = lattice.graph_costs + acoustic_scale * lattice.acoustic_costs.astype(np.float64)
    finals = lattice.final_costs.astype(np.float64)
    forward, backward = best_costs(lattice, costs)
    sources = lattice.sources
    limit = backward[0] + beam + 1e-9 * abs(backward[0])
    arcs = forward[sources] + costs + backward[lattice.targets] <= limit
    final_costs = np.where(forward + finals <= limit, lattice.final_costs, np.inf).astype(np.float32)
    # A sum in another order may round to the other side of the limit: no state may stay without a whole path.
    states = _on_paths(lattice.offsets, lattice.targets, arcs, np.isfinite(final_costs))
    arcs &= states[sources] & states[lattice.targets]
    number = np.cumsum(states, dtype=np.int32) - 1
    counts = np.bincount(number[sources[arcs]], minlength=int(states.sum()))
    return Lattice(
        lattice.frames[states], np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), final_costs[states],
        number[lattice.targets[arcs]], lattice.transition_ids[arcs], lattice.words[arcs], lattice.graph_costs[arcs],
        lattice.acoustic_costs[arcs])


def best_costs(lattice: Lattice, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cost of the best path from the start to each state, and from each to an end, float64 (states,).

    `costs`: float64 (arcs,), in place of the lattice's own; final costs are the lattice's.
    """
    return _forward_backward(lattice.offsets, lattice.targets, costs, lattice.final_costs.astype(np.float64))


@njit(nogil=True, cache=True)
def _forward_backward(offsets, targets, costs, finals):  # type: ignore[no-untyped-def]
    """Cost of the best path to, and from, each state."""
    states = len(finals)
    forward = np.full(states, np.inf)
    backward = finals.copy()
    forward[0] = 0.0
    for s in range(states):
        for a in range(offsets[s], offsets[s + 1]):
            forward[targets[a]] = min(forward[targets[a]], forward[s] + costs[a])
    for s in range(states - 1, -1, -1):
        for a in range(offsets[s], offsets[s + 1]):
            backward[s] = min(backward[s], costs[a] + backward[targets[a]])
    return forward, backward


@njit(nogil=True, cache=True)
def _on_paths(offsets, targets, kept, final):  # type: ignore[no-untyped-def]
    """Find the states on a path of kept arcs from state 0 to a final state."""
    states = len(final)
    reaches = final.copy()
    for s in range(states - 1, -1, -1):
        for a in range(offsets[s], offsets[s + 1]):
            reaches[s] |= kept[a] and reaches[targets[a]]
    reached = np.zeros(states, np.bool_)
    reached[0] = True
    for s in range(states):
        if reached[s]:
            for a in range(offsets[s], offsets[s + 1]):
                reached[targets[a]] |= kept[a]
    return reached & reaches
