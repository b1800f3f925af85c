"""Cepstral mean and variance normalisation: per speaker, per utterance, or running."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit

from asr_kd.core.errors import InputError

# Kaldi's floor under a variance.
_VARIANCE_FLOOR = 1e-20


@dataclass(frozen=True)
class CmvnStatistics:
    """Frame count, sums and sums of squares `(dim,)` float64; statistics add up over utterances."""

    count: float
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def zero(cls, dim: int) -> Self:
        return cls(0.0, np.zeros(dim), np.zeros(dim))

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Statistics of `(frames, dim)`."""
        values = np.asarray(features, dtype=np.float64)
        return cls(float(len(values)), values.sum(axis=0), np.einsum("td,td->d", values, values))

    @classmethod
    def from_kaldi(cls, matrix: np.ndarray) -> Self:
        """From Kaldi's `(2, dim + 1)` matrix: sums and count, squares and 0. Another shape raises InputError."""
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != 2 or matrix.shape[1] < 2:
            raise InputError(f"CMVN statistics of shape {matrix.shape}; expected (2, dim + 1)")
        return cls(float(matrix[0, -1]), matrix[0, :-1].copy(), matrix[1, :-1].copy())

    def to_kaldi(self) -> np.ndarray:
        """Kaldi's `(2, dim + 1)` float64 matrix."""
        return np.vstack((np.append(self.sums, self.count), np.append(self.squares, 0.0)))

    def __add__(self, other: "CmvnStatistics") -> "CmvnStatistics":
        return CmvnStatistics(self.count + other.count, self.sums + other.sums, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        """`(dim,)`; without frames InputError."""
        if self.count <= 0:
            raise InputError("CMVN statistics of no frames: there is no mean")
        return self.sums / self.count

    @property
    def variance(self) -> np.ndarray:
        """`(dim,)`, floored as Kaldi does."""
        return np.maximum(self.squares / self.count - self.mean**2, _VARIANCE_FLOOR)

    def normalise(self, features: np.ndarray, variance: bool = True) -> np.ndarray:
        """`(frames, dim)` less the mean and, with `variance`, over the standard deviation; float32.

        Source: Kaldi's apply-cmvn. A column that does not vary is only centred.
        """
        centred = np.asarray(features, dtype=np.float64) - self.mean
        if variance:
            spread = self.variance
            # What cancellation leaves of a constant column is noise, not variance.
            varies = spread > 1e-12 * self.squares / self.count
            centred *= np.where(varies, 1.0 / np.sqrt(spread), 1.0)
        return centred.astype(np.float32)


def normalise_running(
    features: np.ndarray, prior_mean: np.ndarray, prior_variance: np.ndarray, *, window: int = 600,
    prior_frames: int = 100, variance: bool = True,
) -> np.ndarray:
    """`(frames, dim)` less the mean of the last `window` frames, this one included; float32.

    Causal: frame t depends on frames 0..t only. The prior, `(dim,)` each, counts for `prior_frames` frames,
    also in the variance.
    """
    values = np.asarray(features, dtype=np.float64) - prior_mean
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    count = (last - first + prior_frames)[:, None]
    mean = _sums_between(values, first, last) / count
    result = values - mean
    if variance:
        squares = _sums_between(values**2, first, last) + prior_frames * np.asarray(prior_variance)
        result /= np.sqrt(np.maximum(squares / count - mean**2, _VARIANCE_FLOOR))
    return result.astype(np.float32)


def undo_running(
    normalised: np.ndarray, prior_mean: np.ndarray, prior_variance: np.ndarray, *, window: int = 600,
    prior_frames: int = 100, variance: bool = True,
) -> np.ndarray:
    """The features `(frames, dim)` of which `normalise_running` with the same settings made `normalised`; float32.

    Frame by frame: with the frames before it known, a normalised value y is an increasing function of the value v that
    it was made of. With N the count, A and B the sums of v and v² of the window without v and of the prior, it is
    y = (v - (A + v) / N) / sqrt((B + v²) / N - ((A + v) / N)²), of which
    v = (A + y sqrt(N ((N - 1) B - A²) / (N - 1 - y²))) / (N - 1).
    """
    found = _undone(np.asarray(normalised, dtype=np.float64), np.asarray(prior_variance, dtype=np.float64), window,
                    prior_frames, variance)
    return (found + prior_mean).astype(np.float32)


@njit(nogil=True, cache=True)
def _undone(
    values: np.ndarray, prior_variance: np.ndarray, window: int, prior_frames: int, variance: bool
) -> np.ndarray:
    """What `undo_running` finds, without the prior's mean."""
    found = np.empty_like(values)
    frames, dim = values.shape
    for column in range(dim):
        total, squares = 0.0, prior_frames * prior_variance[column]
        for frame in range(frames):
            if frame >= window:
                left = found[frame - window, column]
                total -= left
                squares -= left**2
            count = min(frame + 1, window) + prior_frames
            spread = float(count)
            if variance:
                rest = max((count - 1) * squares - total**2, 0.0)
                spread = np.sqrt(count * rest / max(count - 1 - values[frame, column] ** 2, 1e-6))
            found[frame, column] = (total + values[frame, column] * spread) / (count - 1)
            total += found[frame, column]
            squares += found[frame, column] ** 2
    return found


def _sums_between(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    sums = np.vstack((np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)))
    return sums[last] - sums[first]
