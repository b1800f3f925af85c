"""The quality and size of a lattice: its least word errors against a reference, and its counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

# One number holds errors, then substitutions, then insertions: the least one is the path to report.
_ERROR = 1 << 40
# Of the table of states and words, eight bytes each.
_MOST_CELLS = 1 << 26
_SUBSTITUTION, _INSERTION, _DELETION = _ERROR + (1 << 20), _ERROR + 1, _ERROR


@dataclass(frozen=True)
class OracleErrors:
    """Errors of the path nearest to the reference, and its word ids."""

    insertions: int
    deletions: int
    substitutions: int
    words: list[int]

    @property
    def errors(self) -> int:
        return self.insertions + self.deletions + self.substitutions


def oracle_errors(lattice: Lattice | WordLattice, reference: Sequence[int]) -> OracleErrors:
    """The least edit distance between `reference` (word ids) and a path of the lattice (Kaldi's lattice-oracle).

    Among paths with as many errors the one with the fewest substitutions counts, then that with the fewest
    insertions. A reference word that is in no table can be any negative number. A lattice without states has the
    empty path only. InputError: a table of more than half a gigabyte.
    """
    if lattice.num_states == 0:
        return OracleErrors(0, len(reference), 0, [])
    if lattice.num_states * (len(reference) + 1) > _MOST_CELLS:
        raise InputError(f"{lattice.num_states} states of a lattice against {len(reference)} reference words are too "
                         "many for its oracle errors; decode shorter utterances or with a smaller lattice beam")
    words = np.asarray(reference, np.int64)
    is_final = np.isfinite(lattice.final_costs if isinstance(lattice, Lattice) else lattice.final_graph_costs)
    total, path = _nearest(lattice.offsets, lattice.targets, lattice.words, is_final, words)
    errors, rest = divmod(int(total), _ERROR)
    substitutions, insertions = divmod(rest, 1 << 20)
    return OracleErrors(insertions, errors - substitutions - insertions, substitutions, path.tolist())


def lattice_statistics(lattice: Lattice | WordLattice) -> dict[str, float]:
    """frames, states, arcs, word_arcs (arcs with a word), arcs_per_frame, and depth.

    depth: arcs that a frame crosses, on average over frames (Kaldi's lattice-depth); arcs without transition-ids
    cross none.
    """
    if isinstance(lattice, Lattice):
        crossings = int((lattice.transition_ids > 0).sum())
    else:
        crossings = int((lattice.ends - lattice.begins).sum() + (lattice.final_ends - lattice.final_begins).sum())
    frames = lattice.num_frames
    return {
        "frames": frames, "states": lattice.num_states, "arcs": lattice.num_arcs,
        "word_arcs": int((lattice.words > 0).sum()), "arcs_per_frame": lattice.num_arcs / max(frames, 1),
        "depth": crossings / max(frames, 1),
    }


@njit(nogil=True, cache=True)
def _nearest(offsets, targets, words, is_final, reference):  # type: ignore[no-untyped-def]
    """Packed errors of the best path from the start, and its words."""
    states, length = len(is_final), len(reference)
    never = np.int64(1) << 62
    # least[s, j]: errors from state s on with reference[j:] still to come.
    least = np.full((states, length + 1), never)
    for s in range(states - 1, -1, -1):
        if is_final[s]:
            for j in range(length + 1):
                least[s, j] = (length - j) * _DELETION
        for a in range(offsets[s], offsets[s + 1]):
            t, word = targets[a], words[a]
            if word == 0:
                for j in range(length + 1):
                    least[s, j] = min(least[s, j], least[t, j])
                continue
            for j in range(length):
                matched = least[t, j + 1] + (0 if word == reference[j] else _SUBSTITUTION)
                least[s, j] = min(least[s, j], matched, least[t, j] + _INSERTION)
            least[s, length] = min(least[s, length], least[t, length] + _INSERTION)
        for j in range(length - 1, -1, -1):
            least[s, j] = min(least[s, j], least[s, j + 1] + _DELETION)

    path = []
    s, j = 0, 0
    while True:
        left = least[s, j]
        if is_final[s] and left == (length - j) * _DELETION:
            break
        if j < length and left == least[s, j + 1] + _DELETION:
            j += 1
            continue
        for a in range(offsets[s], offsets[s + 1]):
            t, word = targets[a], words[a]
            if word == 0 and left == least[t, j]:
                s = t
                break
            if word > 0 and left == least[t, j] + _INSERTION:
                path.append(word)
                s = t
                break
            if word > 0 and j < length and left == least[t, j + 1] + (0 if word == reference[j] else _SUBSTITUTION):
                path.append(word)
                s, j = t, j + 1
                break
        else:
            break
    return least[0, 0], np.array(path, np.int64)
