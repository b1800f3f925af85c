"""Outer products of frames with themselves as rows of a matrix, so that their sums are matrix products."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def upper_size(dim):  # type: ignore[no-untyped-def]
    """Entries of the upper triangle of a `(dim, dim)` matrix."""
    return dim * (dim + 1) // 2


@njit(nogil=True, cache=True)
def upper_products(frames):  # type: ignore[no-untyped-def]
    """Upper triangles of x xᵀ, row by row: `(dim, frames)` to `(entries, frames)`, zeros to a multiple of four."""
    dim, num_frames = frames.shape
    result = np.zeros((-(-upper_size(dim) // 4) * 4, num_frames), dtype=np.float32)
    k = 0
    for i in range(dim):
        for j in range(i, dim):
            for t in range(num_frames):
                result[k, t] = frames[i, t] * frames[j, t]
            k += 1
    return result


def symmetric(sums: np.ndarray, dim: int) -> np.ndarray:
    """`(n, entries)` upper triangles as symmetric matrices `(n, dim, dim)` float64."""
    upper = np.triu_indices(dim)
    result = np.zeros((len(sums), dim, dim))
    result[:, upper[0], upper[1]] = sums[:, : len(upper[0])]
    result[:, upper[1], upper[0]] = sums[:, : len(upper[0])]
    return result
