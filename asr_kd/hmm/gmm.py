"""Diagonal-covariance Gaussian mixtures of all pdfs in flat arrays, and their likelihoods."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

_LOG_2PI = float(np.log(2.0 * np.pi))


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
        quadratic, constants = self._coefficients
        offsets = self.offsets
        if pdfs is not None:
            pdfs = np.asarray(pdfs)
            sizes = np.diff(self.offsets)[pdfs]
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            chosen = np.repeat(self.offsets[:-1][pdfs] - offsets[:-1], sizes) + np.arange(offsets[-1])
            quadratic, constants = quadratic[chosen], constants[chosen]
        scores = component_scores(features, quadratic, constants)
        result = np.empty((len(features), len(offsets) - 1), dtype=np.float32)
        shift_by_maximum(scores, offsets, result)
        np.exp(scores, out=scores)
        sums = np.empty_like(result)
        sum_groups(scores, offsets, sums)
        result += np.log(sums, out=sums)
        return result

    def of_pdf(self, pdf: int) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients of one pdf's Gaussians for `component_scores`."""
        quadratic, constants = self._coefficients
        begin, end = self.offsets[pdf], self.offsets[pdf + 1]
        return quadratic[begin:end], constants[begin:end]

    @cached_property
    def _coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        inverse = 1.0 / self.variances
        constants = (np.log(np.maximum(self.weights, 1e-30))
                     - 0.5 * (self.dim * _LOG_2PI + np.log(self.variances).sum(1) + (self.means**2 * inverse).sum(1)))
        quadratic = np.concatenate([self.means * inverse, -0.5 * inverse], axis=1)
        return quadratic.astype(np.float32), constants.astype(np.float32)


def component_scores(features: np.ndarray, quadratic: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """log(weight · density) of each Gaussian, float32 `(frames, gaussians)`: one matrix product with `[x, x²]`."""
    extended = np.concatenate([features, features * features], axis=1, dtype=np.float32)
    scores = extended @ quadratic.T
    scores += constants
    return scores


@njit(nogil=True, cache=True)
def shift_by_maximum(scores: np.ndarray, offsets: np.ndarray, maxima: np.ndarray) -> None:
    """Subtract from each group of columns its row-wise maximum, which goes to `maxima` `(frames, groups)`."""
    for t in range(scores.shape[0]):
        for p in range(len(offsets) - 1):
            best = scores[t, offsets[p]]
            for g in range(offsets[p] + 1, offsets[p + 1]):
                best = max(best, scores[t, g])
            maxima[t, p] = best
            for g in range(offsets[p], offsets[p + 1]):
                scores[t, g] -= best


@njit(nogil=True, cache=True)
def sum_groups(scores: np.ndarray, offsets: np.ndarray, sums: np.ndarray) -> None:
    """Row-wise sum of each group of columns."""
    for t in range(scores.shape[0]):
        for p in range(len(offsets) - 1):
            total = np.float32(0.0)
            for g in range(offsets[p], offsets[p + 1]):
                total += scores[t, g]
            sums[t, p] = total
