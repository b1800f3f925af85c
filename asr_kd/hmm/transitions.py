"""Transition-ids: one for each arc of each (phone, HMM state, pdf), as in Kaldi's TransitionModel."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from asr_kd.hmm.topology import Topology
from asr_kd.hmm.tree import DecisionTree

# Log-probabilities of 1 may be above 0 by as much.
_ROUNDING = 1e-3


class TransitionModel:
    """Transition-ids from 1 to `num_transition_ids` and their probabilities.

    A *transition state* is a tuple (phone, HMM state, pdf); they are sorted, and each one's arcs (in the topology's
    order) take the next transition-ids. Arrays have one entry per transition-id, entry 0 is unused: `pdf_ids`,
    `phones`, `hmm_states`, `next_state` (HMM state the arc goes to), `is_self_loop`, `arc_indices`, `states` (index
    of the transition state), `log_probs` (natural logarithm).
    """

    def __init__(self, topology: Topology, tuples: Iterable[tuple[int, int, int]], log_probs: np.ndarray | None = None
                 ) -> None:
        self.topology = topology
        self.tuples = sorted({(int(a), int(b), int(c)) for a, b, c in tuples})
        rows, probs = [(0, 0, 0, -1, 0, 0, 0)], [1.0]
        self.first_ids = np.zeros(len(self.tuples) + 1, dtype=np.int32)
        for index, (phone, hmm_state, pdf) in enumerate(self.tuples):
            self.first_ids[index] = len(rows)
            for arc, (to, prob) in enumerate(topology.states(phone)[hmm_state].arcs):
                rows.append((phone, hmm_state, pdf, to, arc, index, int(to == hmm_state)))
                probs.append(prob)
        self.first_ids[-1] = len(rows)
        table = np.array(rows, dtype=np.int32)
        self.phones, self.hmm_states, self.pdf_ids, self.next_state, self.arc_indices, self.states, loops = (
            np.ascontiguousarray(column) for column in table.T)
        self.pdf_ids[0] = -1
        self.is_self_loop = loops.astype(bool)
        self.log_probs = np.log(np.array(probs)) if log_probs is None else np.asarray(log_probs, dtype=np.float64)
        if self.log_probs.shape != (len(rows),):
            raise ValueError(f"{len(self.log_probs) - 1} probabilities for {len(rows) - 1} transition-ids")

    @staticmethod
    def from_tree(topology: Topology, tree: DecisionTree) -> "TransitionModel":
        """All transition states that the tree can give (whatever the context)."""
        return TransitionModel(topology, [
            (phone, number, pdf)
            for phone in range(1, topology.num_phones + 1)
            for number, state in enumerate(topology.states(phone))
            for pdf in tree.possible_pdfs(phone, state.pdf_class)])

    def check(self, num_pdfs: int) -> None:
        """ValueError where a tuple is not of the topology or has a pdf of `num_pdfs` or more, or a log-probability
        is above 0 or not finite."""
        for phone, hmm_state, pdf in self.tuples:
            if not (0 <= hmm_state < len(self.topology.states(phone)) and 0 <= pdf < num_pdfs):
                raise ValueError(f"transition state {(phone, hmm_state, pdf)} of {num_pdfs} pdfs")
        if not np.isfinite(self.log_probs).all() or self.log_probs.max() > _ROUNDING:
            raise ValueError("transition probabilities out of range")

    @property
    def num_transition_ids(self) -> int:
        return len(self.phones) - 1

    @property
    def num_pdfs(self) -> int:
        return int(self.pdf_ids.max()) + 1

    def transition_id(self, phone: int, hmm_state: int, pdf: int, arc_index: int) -> int:
        """The id of an arc (its index in the topology's state). KeyError where there is none."""
        index = self._index[(phone, hmm_state, pdf)]
        tid = int(self.first_ids[index]) + arc_index
        if not arc_index >= 0 or tid >= self.first_ids[index + 1]:
            raise KeyError(f"state {hmm_state} of phone {phone} has no arc {arc_index}")
        return tid

    @cached_property
    def self_loop_of(self) -> np.ndarray:
        """For each transition-id the self-loop of the same transition state, 0 where that has none."""
        loops = np.zeros(len(self.tuples), dtype=np.int32)
        ids = np.flatnonzero(self.is_self_loop)
        loops[self.states[ids]] = ids
        result = loops[self.states].astype(np.int32)
        result[0] = 0
        return result

    def scaled_log_probs(self, transition_scale: float = 1.0, self_loop_scale: float = 0.1) -> np.ndarray:
        """The log-probabilities that graphs carry, per transition-id (entry 0 is 0), as Kaldi's graphs have them.

        Self-loop: `self_loop_scale · log p_loop`. Others: `transition_scale · log(p / (1 − p_loop)) +
        self_loop_scale · log(1 − p_loop)`.
        """
        loops = self.self_loop_of
        p_loop = np.where(loops > 0, np.exp(self.log_probs[loops]), 0.0)
        log_leave = np.log(np.maximum(1.0 - p_loop, 1e-10))
        result = np.where(self.is_self_loop, self_loop_scale * self.log_probs,
                          transition_scale * (self.log_probs - log_leave) + self_loop_scale * log_leave)
        result[0] = 0.0
        return result

    def reestimated(self, counts: np.ndarray, floor: float = 0.01, min_count: float = 5.0) -> "TransitionModel":
        """Maximum-likelihood probabilities from counts per transition-id (entry 0 ignored).

        Transition states seen less than `min_count` times keep theirs; probabilities are floored and normalised
        (three rounds, as Kaldi's `TransitionModel::MleUpdate`).
        """
        sizes = np.diff(self.first_ids)
        starts = self.first_ids[:-1] - 1
        old = np.exp(self.log_probs[1:])
        counts = np.asarray(counts, dtype=np.float64)[1:]
        totals = np.repeat(np.add.reduceat(counts, starts), sizes)
        probs = counts / np.maximum(totals, 1e-30)
        for _ in range(3):
            probs = np.maximum(probs, floor)
            probs /= np.repeat(np.add.reduceat(probs, starts), sizes)
        probs = np.where((totals >= min_count) & (np.repeat(sizes, sizes) > 1), np.maximum(probs, floor), old)
        return TransitionModel(self.topology, self.tuples, np.concatenate([[0.0], np.log(probs)]))

    @cached_property
    def _index(self) -> dict[tuple[int, int, int], int]:
        return {key: i for i, key in enumerate(self.tuples)}

    def as_json(self) -> dict[str, Any]:
        """The transition states as JSON values (the probabilities are kept apart)."""
        return {"tuples": [list(t) for t in self.tuples]}
