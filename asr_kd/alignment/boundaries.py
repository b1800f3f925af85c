"""From transition-ids to phone segments, and back to those of another tree."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree


@dataclass(frozen=True)
class PhoneSegments:
    """The phones of one utterance in order: `phones`, `starts` and `frames` (segments,), in frames."""

    phones: np.ndarray
    starts: np.ndarray
    frames: np.ndarray

    def __len__(self) -> int:
        return len(self.phones)


def phone_segments(alignment: np.ndarray, transitions: TransitionModel) -> PhoneSegments:
    """Return the beginning and length of each phone (Kaldi's `ali-to-phones`).

    `alignment` is transition-ids `(frames,)`. InputError where an id is none of the model's.
    """
    alignment = np.asarray(alignment)
    if len(alignment) and not 1 <= alignment.min() <= alignment.max() <= transitions.num_transition_ids:
        raise InputError(f"transition-ids {alignment.min()}..{alignment.max()}, the model has "
                         f"1..{transitions.num_transition_ids}; the alignment belongs to another model")
    starts = _segment_starts(alignment, _is_final(transitions), transitions.is_self_loop, transitions.states)
    return PhoneSegments(transitions.phones[alignment[starts]], starts,
                         np.diff(np.append(starts, len(alignment))).astype(np.int32))


def windows(alignment: np.ndarray, transitions: TransitionModel) -> np.ndarray:
    """For each frame its phone's window (left, phone, right), int32 `(frames, 3)`; 0 beyond the edges."""
    segments = phone_segments(alignment, transitions)
    around = np.concatenate([[0], segments.phones, [0]])
    triples = np.stack([around[:-2], around[1:-1], around[2:]], axis=1).astype(np.int32)
    return np.repeat(triples, segments.frames, axis=0)


class AlignmentConverter:
    """Alignments of one model as those of another tree over the same phones and topology (Kaldi's `convert-ali`).

    InputError where the topologies differ.
    """

    def __init__(self, source: TransitionModel, tree: DecisionTree, target: TransitionModel) -> None:
        if tree.context_width != 3:
            raise ValueError("conversion is to triphone trees")
        if source.topology != target.topology:
            raise InputError(f"alignments of {source.topology.num_phones} phones cannot be converted to a model of "
                             f"{target.topology.num_phones} phones with other HMMs; align with the model itself")
        self._source = source
        self._tree = tree
        self._target = target
        self._index = {key: i for i, key in enumerate(target.tuples)}
        self._first_ids: dict[tuple[int, int, int, int], int] = {}

    def __call__(self, alignment: np.ndarray) -> np.ndarray:
        """Transition-ids `(frames,)` of the target."""
        source = self._source
        keys = np.column_stack([windows(alignment, source), source.hmm_states[alignment]])
        changes = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
        firsts = np.concatenate([[0], changes])
        bases = [self._first_id(*map(int, keys[t])) for t in firsts]
        lengths = np.diff(np.append(firsts, len(alignment)))
        return (np.repeat(bases, lengths) + source.arc_indices[alignment]).astype(np.int32)

    def _first_id(self, left: int, phone: int, right: int, hmm_state: int) -> int:
        key = (left, phone, right, hmm_state)
        if key not in self._first_ids:
            pdf_class = self._target.topology.states(phone)[hmm_state].pdf_class
            pdf = self._tree.pdf_id((left, phone, right), pdf_class)
            self._first_ids[key] = int(self._target.first_ids[self._index[phone, hmm_state, pdf]])
        return self._first_ids[key]


def _is_final(transitions: TransitionModel) -> np.ndarray:
    num_states = np.array([0] + [len(transitions.topology.states(p))
                                 for p in range(1, transitions.topology.num_phones + 1)])
    return transitions.next_state == num_states[transitions.phones]


@njit(nogil=True, cache=True)
def _segment_starts(alignment, is_final, is_self_loop, states):  # type: ignore[no-untyped-def]
    """A phone is over once the arc that leaves it was seen and what follows is not a self-loop of the same state."""
    starts = np.empty(len(alignment), dtype=np.int32)
    count = 0
    left_by = -1
    for t in range(len(alignment)):
        tid = alignment[t]
        if t == 0 or (left_by >= 0 and not (is_self_loop[tid] and states[tid] == left_by)):
            starts[count] = t
            count += 1
            left_by = -1
        if is_final[tid]:
            left_by = states[tid]
    return starts[:count].copy()
