"""Word lattices: Kaldi's CompactLattice as arrays."""

from dataclasses import dataclass

import numpy as np

from asr_kd.lattices.lattice import COST_FAULT, Lattice, order_fault, sound_costs


@dataclass(frozen=True)
class WordLattice:
    """Arcs with a word and the transition-ids of its frames; state 0 is the start, every arc leads to a higher state.

    Costs are negative natural logarithms, acoustic ones unscaled. A word of 0 is none. A run of transition-ids may be
    empty, and runs may share memory; each id in a run takes one frame.

    frames: int32 (states,), frames consumed before the state, never falling; offsets: int32 (states + 1,), the arcs
    of state s are offsets[s] to offsets[s + 1]; targets, words, begins, ends: int32 (arcs,), the arc's transition-ids
    are transition_ids[begin:end]; graph_costs, acoustic_costs: float32 (arcs,). final_graph_costs,
    final_acoustic_costs: float32 (states,), infinite and 0 where not final; final_begins, final_ends: int32
    (states,), the run of transition-ids that ends a path there; transition_ids: int32 (n,).
    """

    frames: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray
    words: np.ndarray
    graph_costs: np.ndarray
    acoustic_costs: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    final_graph_costs: np.ndarray
    final_acoustic_costs: np.ndarray
    final_begins: np.ndarray
    final_ends: np.ndarray
    transition_ids: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.frames)

    @property
    def num_arcs(self) -> int:
        return len(self.targets)

    @property
    def num_frames(self) -> int:
        """Frames of the utterance: those before a final state and in its own run."""
        final = np.isfinite(self.final_graph_costs)
        return int((self.frames + self.final_ends - self.final_begins)[final].max(initial=0))

    @property
    def sources(self) -> np.ndarray:
        """Source state of each arc, int32 (arcs,)."""
        return np.repeat(np.arange(self.num_states, dtype=np.int32), np.diff(self.offsets))

    def run(self, arc: int) -> np.ndarray:
        """The transition-ids of an arc, int32 (frames,)."""
        return self.transition_ids[self.begins[arc] : self.ends[arc]]

    def final_run(self, state: int) -> np.ndarray:
        """The transition-ids that end a path in a final state, int32 (frames,)."""
        return self.transition_ids[self.final_begins[state] : self.final_ends[state]]

    def expand(
        self, log_likelihoods: np.ndarray | None = None, transition_pdfs: np.ndarray | None = None
    ) -> Lattice:
        """The state-level lattice of the same paths; see `asr_kd.lattices.expansion.expand`."""
        from asr_kd.lattices.expansion import expand

        return expand(self, log_likelihoods, transition_pdfs)

    def fault(self) -> str | None:
        """Describe in a few words what breaks the rules above; None where nothing does."""
        states, arcs, tids = self.num_states, self.num_arcs, len(self.transition_ids)
        if states == 0:
            return None if arcs == 0 else "arcs without states"
        disorder = order_fault(self.frames, self.offsets, self.targets)
        if disorder:
            return disorder
        sources = self.sources
        for begins, ends in ((self.begins, self.ends), (self.final_begins, self.final_ends)):
            if (begins < 0).any() or (ends < begins).any() or (ends > tids).any():
                return "a run of transition-ids lies outside their array"
        if (self.transition_ids < 1).any() or (self.words < 0).any():
            return "a transition-id below 1 or a negative word"
        if (self.frames[self.targets] - self.frames[sources] != self.ends - self.begins).any():
            return "an arc does not take the frames of its transition-ids"
        final = self.final_graph_costs != np.inf
        if (self.frames + self.final_ends - self.final_begins != self.num_frames)[final].any():
            return "paths of different lengths"
        costs = (self.graph_costs, self.acoustic_costs, self.final_acoustic_costs, self.final_graph_costs[final])
        if not sound_costs(*costs):
            return COST_FAULT
        if len(np.unique(np.append(self.targets, np.int32(0)))) < states:
            return "a state that no path reaches"
        if (np.diff(self.offsets)[~final] == 0).any():
            return "a dead end: a state that reaches no final state"
        return None
