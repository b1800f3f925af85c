"""The table of sclite's alignment, compiled: filled within a band, a block of rows at a time."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from asr_kd.scoring.sclite import GAP, SUBSTITUTION

_EQUAL, _REPLACE, _DELETE, _INSERT = range(4)
_NEVER = np.int32(1 << 30)


@njit(nogil=True, cache=True)
def cheapest_steps(
    reference: NDArray[np.int32], hypothesis: NDArray[np.int32], lowest: int, highest: int, rows: int
) -> NDArray[np.uint8]:
    """Steps on the cheapest path, first to last; cells whose j - i is outside lowest..highest are left out.

    Costs are held for `rows` rows (reference words) at a time. Of the rows before, each `rows`-th is kept, from which
    a block is filled again when the path comes into it.
    """
    length, width = len(reference), len(hypothesis)
    blocks = max(1, -(-length // rows))
    kept = np.empty((blocks, width + 1), np.int32)
    for j in range(width + 1):
        kept[0, j] = GAP * j
    costs = np.empty((min(rows, length) + 1, width + 1), np.int32)
    for block in range(blocks - 1):
        costs[0] = kept[block]
        _fill(costs, reference, hypothesis, block * rows, (block + 1) * rows, lowest, highest)
        kept[block + 1] = costs[rows]

    path = np.empty(length + width, np.uint8)
    place = len(path)
    i, j = length, width
    for block in range(blocks - 1, -1, -1):
        begin = block * rows
        costs[0] = kept[block]
        _fill(costs, reference, hypothesis, begin, i, lowest, highest)
        while i > begin:
            row = i - begin
            place -= 1
            equal = j > 0 and reference[i - 1] == hypothesis[j - 1]
            across = costs[row - 1, j - 1] + (0 if equal else SUBSTITUTION) if j > 0 else _NEVER
            if across == costs[row, j]:
                path[place] = _EQUAL if equal else _REPLACE
                i, j = i - 1, j - 1
            elif j > 0 and costs[row, j - 1] + GAP == costs[row, j]:
                path[place] = _INSERT
                j -= 1
            else:
                path[place] = _DELETE
                i -= 1
    path[place - j : place] = _INSERT
    return path[place - j :]


@njit(nogil=True, cache=True)
def _fill(costs, reference, hypothesis, begin, end, lowest, highest):  # type: ignore[no-untyped-def]
    """Costs (rows + 1, hypothesis + 1) after each of reference[begin:end]; row 0 holds those before them."""
    width = len(hypothesis)
    for i in range(begin, end):
        row = i - begin
        word = reference[i]
        first, last = max(1, i + 1 + lowest), min(width, i + 1 + highest)
        left = _NEVER
        if i + 1 + lowest <= 0:
            left = costs[row, 0] + GAP
        costs[row + 1, first - 1] = left
        diagonal = costs[row, first - 1]
        for j in range(first, last + 1):
            above = costs[row, j]
            across = diagonal + (0 if hypothesis[j - 1] == word else SUBSTITUTION)
            left = min(min(across, above + GAP), left + GAP)
            costs[row + 1, j] = left
            diagonal = above
        if last < width:
            costs[row + 1, last + 1] = _NEVER
