"""Diagonal-covariance Gaussian mixtures of all pdfs in flat arrays, and their likelihoods."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

_LOG_2PI = float(np.log(2.0 * np.pi))
_CHUNK = 1024


@dataclass(frozen=True)
class DiagonalGmms:
    """The mixtures of all pdfs: Gaussians `offsets[pdf] : offsets[pdf + 1]` are those of `pdf`.

    Shapes: `offsets` (pdfs + 1,), `weights` (gaussians,), `means` and `variances` (gaussians, dim); float64 but for
    the offsets. Weights sum to one within a pdf.
    """

    offsets: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def check(self) -> None:
        """ValueError where the arrays do not fit together, or hold what no Gaussian has."""
        count = len(self.weights)
        shapes = (self.offsets.ndim, self.weights.shape, self.means.ndim, self.means.shape, self.variances.shape)
        if shapes != (1, (count,), 2, (count, self.means.shape[-1]), self.means.shape):
            raise ValueError(f"Gaussians of shapes {self.weights.shape}, {self.means.shape}, {self.variances.shape}")
        floats = (self.weights, self.means, self.variances)
        if self.offsets.dtype.kind not in "iu" or any(array.dtype.kind != "f" for array in floats):
            raise ValueError("Gaussians of another type of number")
        offsets = self.offsets.astype(np.int64)
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 1).any():
            raise ValueError("the pdfs' Gaussians do not follow each other")
        finite = all(np.isfinite(array).all() for array in floats)
        if not finite or (self.weights < 0).any() or (self.variances <= 0).any():
            raise ValueError("weights, means or variances out of range")

    @property
    def num_pdfs(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_gaussians(self) -> int:
        return len(self.weights)

    @property
    def dim(self) -> int:
        return int(self.means.shape[1])

    @cached_property
    def pdf_of_gaussian(self) -> np.ndarray:
        """Gaussian -> pdf."""
        return np.repeat(np.arange(self.num_pdfs), np.diff(self.offsets))

    def log_likelihoods(self, features: np.ndarray, pdfs: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """log p(frame | pdf), float32 `(frames, pdfs)`; `features` is `(frames, dim)`, `pdfs` may choose some pdfs.

        ValueError where the dimension is another one.
        """
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features of shape {features.shape}, the Gaussians have dimension {self.dim}")
        quadratic, constants = self.coefficients
        offsets = self.offsets
        if pdfs is not None:
            pdfs = np.asarray(pdfs)
            sizes = np.diff(self.offsets)[pdfs]
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            chosen = np.repeat(self.offsets[:-1][pdfs] - offsets[:-1], sizes) + np.arange(offsets[-1])
            quadratic, constants = quadratic[chosen], constants[chosen]
        result = np.empty((len(features), len(offsets) - 1), dtype=np.float32)
        # In parts: a long recording has many more scores of Gaussians than of pdfs.
        for begin in range(0, len(features), _CHUNK):
            part = features[begin : begin + _CHUNK]
            scores = component_scores(extend(part.T), quadratic, constants)
            maxima = np.empty((len(offsets) - 1, len(part)), dtype=np.float32)
            shift_by_maximum(scores, offsets, maxima)
            np.exp(scores, out=scores)
            sums = np.add.reduceat(scores, offsets[:-1], axis=0)
            maxima += np.log(sums, out=sums)
            result[begin : begin + _CHUNK] = maxima.T
        return result

    @cached_property
    def natural_parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """1 / variance and mean / variance, float32 `(gaussians, dim)` each."""
        inverse = 1.0 / self.variances
        return inverse.astype(np.float32), (self.means * inverse).astype(np.float32)

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """All Gaussians' coefficients for `component_scores`: of `extend`'s rows, and constants."""
        inverse = 1.0 / self.variances
        constants = (np.log(np.maximum(self.weights, 1e-30))
                     - 0.5 * (self.dim * _LOG_2PI + np.log(self.variances).sum(1) + (self.means**2 * inverse).sum(1)))
        quadratic = np.zeros((self.num_gaussians, padded(2 * self.dim)), dtype=np.float32)
        quadratic[:, : self.dim] = self.means * inverse
        quadratic[:, self.dim : 2 * self.dim] = -0.5 * inverse
        return quadratic, constants.astype(np.float32)


def extend(frames: np.ndarray) -> np.ndarray:
    """`[x, x²]` and zeros to a multiple of four rows, float32; `frames` is `(dim, frames)`."""
    dim, num_frames = frames.shape
    result = np.empty((padded(2 * dim), num_frames), dtype=np.float32)
    result[:dim] = frames
    np.multiply(result[:dim], result[:dim], out=result[dim : 2 * dim])
    result[2 * dim :] = 0.0
    return result


def padded(dim: int) -> int:
    """The next multiple of four: what the kernels below take at a time."""
    return -(-dim // 4) * 4


# A matrix product of our own, because BLAS libraries start threads beside ours and spin in them: on two cores that
# took six times the CPU time. It reaches half the speed of one BLAS thread.
@njit(nogil=True, cache=True, fastmath={"nsz", "arcp", "contract", "reassoc"})
def component_scores(extended, quadratic, constants):  # type: ignore[no-untyped-def]
    """log(weight · density) of each Gaussian, float32 `(gaussians, frames)`; `extended` from `extend`."""
    scores = np.empty((quadratic.shape[0], extended.shape[1]), dtype=np.float32)
    for g in range(quadratic.shape[0]):
        row = scores[g]
        row[:] = constants[g]
        for k in range(0, quadratic.shape[1], 4):
            a, b, c, d = quadratic[g, k], quadratic[g, k + 1], quadratic[g, k + 2], quadratic[g, k + 3]
            xa, xb, xc, xd = extended[k], extended[k + 1], extended[k + 2], extended[k + 3]
            for t in range(len(row)):
                row[t] += a * xa[t] + b * xb[t] + c * xc[t] + d * xd[t]
    return scores


@njit(nogil=True, cache=True, fastmath={"nsz", "arcp", "contract", "reassoc"})
def sum_products(posteriors, extended, sums):  # type: ignore[no-untyped-def]
    """Add the sum over frames of posterior · extended to float64 `sums` `(gaussians, rows of extended)`."""
    for g in range(posteriors.shape[0]):
        p = posteriors[g]
        for k in range(0, extended.shape[0], 4):
            xa, xb, xc, xd = extended[k], extended[k + 1], extended[k + 2], extended[k + 3]
            a = b = c = d = np.float32(0.0)
            for t in range(len(p)):
                a += p[t] * xa[t]
                b += p[t] * xb[t]
                c += p[t] * xc[t]
                d += p[t] * xd[t]
            sums[g, k] += a
            sums[g, k + 1] += b
            sums[g, k + 2] += c
            sums[g, k + 3] += d


@njit(nogil=True, cache=True)
def shift_by_maximum(scores, offsets, maxima):  # type: ignore[no-untyped-def]
    """Subtract from each group of rows its maximum in each column, which goes to `maxima` `(groups, frames)`."""
    for p in range(len(offsets) - 1):
        best = maxima[p]
        best[:] = scores[offsets[p]]
        for g in range(offsets[p] + 1, offsets[p + 1]):
            row = scores[g]
            for t in range(len(best)):
                best[t] = max(best[t], row[t])
        for g in range(offsets[p], offsets[p + 1]):
            row = scores[g]
            for t in range(len(best)):
                row[t] -= best[t]
