"""MLLT (a global semi-tied covariance): the linear transform after which diagonal covariances fit best."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.bootstrap.gmm_training import extended_frames, posteriors_of
from asr_kd.bootstrap.outer_products import symmetric, upper_products, upper_size
from asr_kd.bootstrap.sorted_frames import AlignedFrames
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads, one_blas_thread
from asr_kd.hmm.gmm import DiagonalGmms, padded, sum_products

_CHUNK = 512
# Tasks that a block's pdfs are shared out to, each with sums of its own: fixed, so that workers change nothing.
_TASKS = 8


@dataclass(frozen=True)
class MlltStatistics:
    """`frames`, and `quadratic` (dim, dim, dim): for each dimension d the sum over frames and Gaussians of posterior /
    variance[d] · (frame - mean) (frame - mean)ᵀ."""

    frames: float
    quadratic: np.ndarray


@one_blas_thread()
def accumulate_mllt(gmms: DiagonalGmms, blocks: Iterable[AlignedFrames], left_out: np.ndarray,
                    workers: int | None = None) -> MlltStatistics:
    """Statistics of all frames but those of the pdfs `left_out` `(pdfs,)` of bool (Kaldi's `gmm-acc-mllt`)."""
    dim = gmms.dim
    quadratic, constants = gmms.coefficients
    precisions, _ = gmms.natural_parameters
    occupancy = np.zeros(gmms.num_gaussians)
    sums = np.zeros((gmms.num_gaussians, padded(2 * dim)))
    products = np.zeros((dim, padded(upper_size(dim))))
    for block in blocks:

        def some_pdfs(first: int, block: AlignedFrames = block) -> np.ndarray:
            own = np.zeros((dim, padded(upper_size(dim))))
            for pdf in range(first, gmms.num_pdfs, _TASKS):
                if not left_out[pdf]:
                    _accumulate_pdf(block.frames[:, block.bounds[pdf] : block.bounds[pdf + 1]], quadratic, constants,
                                    precisions, gmms.offsets[pdf], gmms.offsets[pdf + 1], occupancy, sums, own)
            return own

        for own in map_threads(some_pdfs, range(_TASKS), workers):
            products += own
    # sum p/v (x - m)(x - m)' = sum p/v x x' - sum 1/v (m f' + f m') + sum n/v m m' with n, f each Gaussian's sums
    first_order = sums[:, :dim]
    result = symmetric(products, dim)
    inverse = 1.0 / gmms.variances
    for d in range(dim):
        cross = (inverse[:, d, None] * gmms.means).T @ first_order
        result[d] += (inverse[:, d, None] * occupancy[:, None] * gmms.means).T @ gmms.means - cross - cross.T
    return MlltStatistics(float(occupancy.sum()), result)


def mllt_transform(statistics: MlltStatistics, num_iterations: int = 200) -> tuple[np.ndarray, float]:
    """The transform `(dim, dim)` float64 and the growth of the objective per frame.

    InputError where the statistics do not determine it. Source: Gales (1999), "Semi-tied covariance matrices",
    equation 22, as Kaldi's `est-mllt`.
    """
    dim = len(statistics.quadratic)
    try:
        inverses = np.linalg.inv(statistics.quadratic)
    except np.linalg.LinAlgError as error:
        raise InputError(f"MLLT: {statistics.frames:.0f} frames do not determine a transform of {dim} dimensions; "
                         "train on more, or with fewer dimensions") from error
    matrix = np.eye(dim)
    for _ in range(num_iterations):
        _update_rows(matrix, np.linalg.inv(matrix), inverses, statistics.frames)
    gain = (mllt_objective(statistics, matrix) - mllt_objective(statistics, np.eye(dim))) / statistics.frames
    if not np.isfinite(matrix).all() or gain < 0:
        raise InputError(f"MLLT: no optimum found from {statistics.frames:.0f} frames (gain {gain:.3g})")
    return matrix, gain


def mllt_objective(statistics: MlltStatistics, matrix: np.ndarray) -> float:
    """The auxiliary function of a transform `(dim, dim)`, up to a constant."""
    _, log_det = np.linalg.slogdet(matrix)
    return float(statistics.frames * log_det
                 - 0.5 * np.einsum("di,dij,dj->", matrix, statistics.quadratic, matrix))


@njit(nogil=True, cache=True)
def _accumulate_pdf(frames, quadratic, constants, precisions, first, last, occupancy, sums, products):  # type: ignore[no-untyped-def]
    dim = len(frames)
    for begin in range(0, frames.shape[1], _CHUNK):
        end = min(begin + _CHUNK, frames.shape[1])
        extended = extended_frames(frames, begin, end, quadratic.shape[1])
        posteriors, _ = posteriors_of(extended, quadratic[first:last], constants[first:last])
        inverse = np.zeros((dim, end - begin), dtype=np.float32)
        for g in range(last - first):
            for t in range(end - begin):
                occupancy[first + g] += posteriors[g, t]
            for d in range(dim):
                precision = precisions[first + g, d]
                for t in range(end - begin):
                    inverse[d, t] += precision * posteriors[g, t]
        sum_products(posteriors, extended, sums[first:last])
        sum_products(inverse, upper_products(extended[:dim]), products)


@njit(nogil=True, cache=True)
def _update_rows(matrix, inverse, inverses, frames):  # type: ignore[no-untyped-def]
    """Each row in turn to its optimum, the others fixed; `inverse` of `matrix` is kept up to date."""
    dim = len(matrix)
    for d in range(dim):
        cofactors = inverse[:, d].copy()
        row = inverses[d] @ cofactors
        row *= np.sqrt(frames / (cofactors @ row))
        change = row - matrix[d]
        matrix[d] = row
        moved = change @ inverse
        denominator = 1.0 + change @ cofactors
        for i in range(dim):
            for j in range(dim):
                inverse[i, j] -= cofactors[i] * moved[j] / denominator
