"""One matrix applied to every frame, or to every window of frames, on the calling thread alone."""

import numpy as np
from numba import njit


def apply_affine(matrix: np.ndarray, transform: np.ndarray, left: int = 0, right: int = 0) -> np.ndarray:
    """`(frames, dim)` to `(frames, out)` float32: `transform` times each frame and its neighbours.

    `transform` is `(out, width)` or, with an offset in its last column, `(out, width + 1)`, where `width` is
    `(left + 1 + right) * dim`: `left` frames back to `right` ahead in order of time, the edge frames repeated beyond
    the edges. ValueError where the widths do not fit.
    """
    if matrix.ndim != 2:
        raise ValueError(f"features of shape {matrix.shape}, expected (frames, dim)")
    width = (left + 1 + right) * matrix.shape[1]
    if transform.shape[1] not in (width, width + 1):
        raise ValueError(f"a transform of shape {transform.shape} for windows of {width} values")
    weights = np.ascontiguousarray(transform[:, :width].T, dtype=np.float32)
    offset = np.zeros(len(transform), dtype=np.float32)
    if transform.shape[1] > width:
        offset[:] = transform[:, width]
    result = np.empty((len(matrix), len(transform)), dtype=np.float32)
    _transform_windows(np.ascontiguousarray(matrix, dtype=np.float32), left, right, weights, offset, result)
    return result


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _transform_windows(matrix, left, right, weights, offset, result):  # type: ignore[no-untyped-def]
    frames, dim = matrix.shape
    for t in range(frames):
        row = result[t]
        row[:] = offset
        k = 0
        for neighbour in range(t - left, t + right + 1):
            source = matrix[min(max(neighbour, 0), frames - 1)]
            for i in range(dim):
                value = source[i]
                for d in range(len(row)):
                    row[d] += value * weights[k, d]
                k += 1
