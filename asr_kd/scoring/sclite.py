"""The alignment of NIST's sclite: substitution 4, insertion 3, deletion 3, with its tie-break.

Words are compared as they are written, as `sclite -s` does; without -s it lowers ASCII letters (text filter `lower`).
sclite reads some words as notation, which is not done here: `{ a / b }` and `@`, a `*` at the end, what follows `;`.
Its speaker is what stands before the first hyphen of a trn id.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SUBSTITUTION, _GAP = 4, 3
_DIAGONAL, _DELETION, _INSERTION = 0, 1, 2
_TAGS = {_DELETION: "delete", _INSERTION: "insert"}


def align_as_sclite(reference: Sequence[int], hypothesis: Sequence[int]) -> list[str]:
    """Operations ("equal", "replace", "delete", "insert") from the first word to the last.

    Of the steps by which a cell of the table is reached at the lowest cost, the diagonal one (match or
    substitution) is kept before the others, and an insertion before a deletion (sclite's net_dp.c). Two
    substitutions cost more than an insertion and a deletion around a match: the number of errors may be larger than
    with unit costs.
    """
    back = _back_pointers(np.asarray(reference, np.int64), np.asarray(hypothesis, np.int64))
    i, j = len(reference), len(hypothesis)
    tags: list[str] = []
    while i or j:
        step = int(back[i, j])
        i, j = i - (step != _INSERTION), j - (step != _DELETION)
        tags.append(_TAGS.get(step) or ("equal" if reference[i] == hypothesis[j] else "replace"))
    return tags[::-1]


def _back_pointers(reference: NDArray[np.int64], hypothesis: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The step into each cell, (reference + 1, hypothesis + 1)."""
    back = np.empty((len(reference) + 1, len(hypothesis) + 1), np.uint8)
    back[0], back[:, 0] = _INSERTION, _DELETION
    ramp = _GAP * np.arange(len(hypothesis) + 1, dtype=np.int64)
    above = ramp
    for i, word in enumerate(reference, start=1):
        diagonal = above[:-1] + np.where(hypothesis == word, 0, _SUBSTITUTION)
        deletion = above + _GAP
        # A run of insertions costs the same per word, so that the cheapest start of one is a running minimum.
        costs = np.minimum.accumulate(np.concatenate(([deletion[0]], np.minimum(diagonal, deletion[1:]))) - ramp) + ramp
        insertion = costs[:-1] + _GAP
        gap = np.where(deletion[1:] < insertion, _DELETION, _INSERTION)
        back[i, 1:] = np.where((diagonal <= deletion[1:]) & (diagonal <= insertion), _DIAGONAL, gap)
        above = costs
    return back
