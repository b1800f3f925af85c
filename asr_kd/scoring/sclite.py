"""The alignment of NIST's sclite: substitution 4, insertion 3, deletion 3, with its tie-break.

Words are compared as they are written, as `sclite -s` does; without -s it lowers ASCII letters (text filter `lower`).
sclite reads some words as notation: `{ a / b }`, `@` and `(uh)` are read by `scoring.notation`; a `*` at the end and
what follows `;` are not.
Its speaker is what stands before the first hyphen of a trn id.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from asr_kd.core.errors import InputError

MOST_CELLS = 1 << 31
"""Cells of the table (reference words times hypothesis words) that are filled: 46,000 words a side."""

SUBSTITUTION, GAP = 4, 3
_TAGS = ("equal", "replace", "delete", "insert")
# Costs that are held at a time, four bytes each; a larger table is filled twice, a block of rows at a time.
_CELLS_AT_ONCE = 1 << 23


def align_as_sclite(reference: Sequence[int], hypothesis: Sequence[int]) -> list[str]:
    """Operations ("equal", "replace", "delete", "insert") from the first word to the last.

    Of the steps by which a cell of the table is reached at the lowest cost, the diagonal one (match or
    substitution) is kept before the others, and an insertion before a deletion (sclite's net_dp.c). Two
    substitutions cost more than an insertion and a deletion around a match: the number of errors may be larger than
    with unit costs. InputError: more than `MOST_CELLS`.
    """
    check_size(len(reference), len(hypothesis), MOST_CELLS)
    lowest, highest = _band(reference, hypothesis)
    rows = max(1, _CELLS_AT_ONCE // (len(hypothesis) + 1))
    from asr_kd.scoring.sclite_kernel import cheapest_steps  # numba takes a second to import

    steps = cheapest_steps(np.asarray(reference, np.int32), np.asarray(hypothesis, np.int32), lowest, highest, rows)
    return [_TAGS[step] for step in steps.tolist()]


def check_size(reference: int, hypothesis: int, most: int) -> None:
    """Refuse two word sequences whose table of alignment has more than `most` cells (InputError)."""
    if reference * hypothesis > most:
        raise InputError(
            f"{reference} reference words against {hypothesis} hypothesis words are too many to align as one "
            f"utterance (their product is above {most:.1e}); score them in segments, as STM and CTM"
        )


def _band(reference: Sequence[int], hypothesis: Sequence[int]) -> tuple[int, int]:
    """Least and largest j - i of cells that can lie on a cheapest path.

    No error costs more than a substitution, so that the edit distance bounds the cost of the cheapest path. A path
    through a cell has at least |j - i| insertions or deletions before it, and as many behind it as it is then away
    from the last cell.
    """
    longer = len(hypothesis) - len(reference)
    bound = SUBSTITUTION * Levenshtein.distance(reference, hypothesis)
    detour = (bound // GAP - abs(longer)) // 2
    return min(0, longer) - detour, max(0, longer) + detour
