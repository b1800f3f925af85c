"""Expectation-maximisation for DiagonalGmms from frames with known pdfs: statistics, update, splitting."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit
from pydantic import Field

from asr_kd.bootstrap.sorted_frames import AlignedFrames
from asr_kd.core.config import Config
from asr_kd.core.parallel import map_threads
from asr_kd.hmm.gmm import DiagonalGmms, component_scores, padded, sum_products

_CHUNK = 512
# pdfs whose statistics one task sums
_PDFS = 16


class GmmConfig(Config):
    """Kaldi's `gmm-est` settings."""

    min_gaussian_occupancy: float = Field(default=10.0, ge=0)
    min_gaussian_weight: float = Field(default=1e-5, ge=0)
    min_variance: float = Field(default=0.001, gt=0)
    power: float = Field(default=0.25, ge=0)
    perturbation: float = Field(default=0.01, gt=0)
    min_split_occupancy: float = Field(default=20.0, ge=0)


@dataclass(frozen=True)
class GmmStatistics:
    """Sufficient statistics: `occupancy` (gaussians,), `first` and `second` (gaussians, dim), total log-likelihood."""

    occupancy: np.ndarray
    first: np.ndarray
    second: np.ndarray
    log_likelihood: float
    num_frames: int


def accumulate(gmms: DiagonalGmms, blocks: Iterable[AlignedFrames], workers: int | None = None) -> GmmStatistics:
    """Gaussian-level posteriors within each frame's pdf, summed to statistics.

    The Gaussians score the first `gmms.dim` values of each frame. Where frames have twice as many, the second half is
    what is summed (Kaldi's `gmm-acc-stats-twofeats`).
    """
    dim = gmms.dim
    occupancy = np.zeros(gmms.num_gaussians)
    sums = np.zeros((gmms.num_gaussians, padded(2 * dim)))
    quadratic, constants = gmms.coefficients
    total, num_frames = 0.0, 0
    for block in blocks:
        if len(block.frames) not in (dim, 2 * dim):
            raise ValueError(f"frames of {len(block.frames)} values, the Gaussians have dimension {dim}")

        def some_pdfs(pdfs: range, block: AlignedFrames = block) -> float:
            log_likelihood = 0.0
            for pdf in pdfs:
                log_likelihood += _accumulate_pdf(
                    block.frames[:, block.bounds[pdf] : block.bounds[pdf + 1]], dim, quadratic, constants,
                    gmms.offsets[pdf], gmms.offsets[pdf + 1], occupancy, sums)
            return log_likelihood

        groups = [range(n, min(n + _PDFS, gmms.num_pdfs)) for n in range(0, gmms.num_pdfs, _PDFS)]
        total += sum(map_threads(some_pdfs, groups, workers))
        num_frames += block.num_frames
    return GmmStatistics(occupancy, sums[:, :dim], sums[:, dim : 2 * dim], total, num_frames)


def update(gmms: DiagonalGmms, statistics: GmmStatistics, config: GmmConfig, keep_rare: bool = False) -> DiagonalGmms:
    """Maximum-likelihood update (Kaldi's `MleDiagGmmUpdate`): rare Gaussians go, but for a pdf's last one.

    With `keep_rare` they stay as they are.
    """
    pdfs = gmms.pdf_of_gaussian
    occupancy = statistics.occupancy
    totals = np.bincount(pdfs, occupancy, gmms.num_pdfs)[pdfs]
    sizes = np.diff(gmms.offsets)[pdfs]
    weights = np.where(totals > 0, occupancy / np.maximum(totals, 1e-30), 1.0 / sizes)
    good = (occupancy > config.min_gaussian_occupancy) & (weights > config.min_gaussian_weight)
    divisor = np.maximum(occupancy, 1e-30)[:, None]
    means = np.where(good[:, None], statistics.first / divisor, gmms.means)
    variances = np.where(good[:, None], statistics.second / divisor - means**2, gmms.variances)
    variances = np.maximum(variances, config.min_variance)
    keep = good | keep_rare
    for pdf in np.flatnonzero(np.bincount(pdfs, keep, gmms.num_pdfs) == 0):
        keep[gmms.offsets[pdf + 1] - 1] = True
    weights = np.maximum(weights[keep], config.min_gaussian_weight)
    weights /= np.bincount(pdfs[keep], weights, gmms.num_pdfs)[pdfs[keep]]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pdfs[keep], minlength=gmms.num_pdfs))])
    return DiagonalGmms(offsets, weights, means[keep], variances[keep])


def split(gmms: DiagonalGmms, pdf_occupancy: np.ndarray, num_gaussians: int, config: GmmConfig,
          generator: np.random.Generator) -> DiagonalGmms:
    """Split Gaussians until there are `num_gaussians`, shared out by occupancy to a power (Kaldi's `--mix-up`).

    In each pdf the heaviest Gaussian is halved and the halves' means moved apart by `perturbation` deviations.
    """
    targets = split_targets(pdf_occupancy, num_gaussians, config.power, config.min_split_occupancy)
    weights, means, variances = [], [], []
    sizes = []
    for pdf, target in enumerate(targets):
        group = slice(gmms.offsets[pdf], gmms.offsets[pdf + 1])
        w, m, v = list(gmms.weights[group]), list(gmms.means[group]), list(gmms.variances[group])
        while len(w) < target:
            heaviest = int(np.argmax(w))
            w[heaviest] /= 2
            shift = config.perturbation * np.sqrt(v[heaviest]) * generator.standard_normal(gmms.dim)
            w.append(w[heaviest])
            v.append(v[heaviest])
            m.append(m[heaviest] + shift)
            m[heaviest] = m[heaviest] - shift
        weights += w
        means += m
        variances += v
        sizes.append(len(w))
    return DiagonalGmms(np.concatenate([[0], np.cumsum(sizes)]), np.array(weights), np.array(means),
                        np.array(variances))


def split_targets(occupancy: np.ndarray, num_gaussians: int, power: float, min_count: float) -> np.ndarray:
    """Choose the number of Gaussians of each pdf (Kaldi's `GetSplitTargets`).

    A pdf keeps `min_count` frames for each.
    """
    sizes = np.ones(len(occupancy), dtype=np.int64)
    scaled = np.asarray(occupancy, dtype=np.float64) ** power
    queue = [(-scaled[pdf], pdf) for pdf in range(len(occupancy)) if occupancy[pdf] > 0]
    heapq.heapify(queue)
    total = len(occupancy)
    while total < num_gaussians and queue:
        _, pdf = queue[0]
        if (sizes[pdf] + 1) * min_count >= occupancy[pdf]:
            heapq.heappop(queue)
            continue
        sizes[pdf] += 1
        total += 1
        heapq.heapreplace(queue, (-scaled[pdf] / sizes[pdf], pdf))
    return sizes


@njit(nogil=True, cache=True)
def posteriors_of(extended, quadratic, constants):  # type: ignore[no-untyped-def]
    """Posteriors of one pdf's Gaussians, `(gaussians, frames)`, and the summed log-likelihood of the frames."""
    posteriors = component_scores(extended, quadratic, constants)
    total = 0.0
    for t in range(posteriors.shape[1]):
        best = posteriors[0, t]
        for g in range(1, len(posteriors)):
            best = max(best, posteriors[g, t])
        normaliser = np.float32(0.0)
        for g in range(len(posteriors)):
            posteriors[g, t] = np.exp(posteriors[g, t] - best)
            normaliser += posteriors[g, t]
        for g in range(len(posteriors)):
            posteriors[g, t] /= normaliser
        total += best + np.log(normaliser)
    return posteriors, total


@njit(nogil=True, cache=True)
def extended_frames(frames, begin, end, rows):  # type: ignore[no-untyped-def]
    """As `extend` of columns `begin` to `end` of `frames` `(dim, frames)`, with zeros up to `rows` rows."""
    dim = len(frames)
    result = np.zeros((rows, end - begin), dtype=np.float32)
    for d in range(dim):
        for t in range(end - begin):
            value = frames[d, begin + t]
            result[d, t] = value
            result[dim + d, t] = value * value
    return result


@njit(nogil=True, cache=True)
def _accumulate_pdf(frames, dim, quadratic, constants, first, last, occupancy, sums):  # type: ignore[no-untyped-def]
    """Add the statistics of one pdf's frames (columns) to those of its Gaussians, `first` to `last`."""
    total = 0.0
    for begin in range(0, frames.shape[1], _CHUNK):
        end = min(begin + _CHUNK, frames.shape[1])
        extended = extended_frames(frames[:dim], begin, end, quadratic.shape[1])
        posteriors, log_likelihood = posteriors_of(extended, quadratic[first:last], constants[first:last])
        total += log_likelihood
        for g in range(last - first):
            for t in range(end - begin):
                occupancy[first + g] += posteriors[g, t]
        if len(frames) > dim:
            extended = extended_frames(frames[dim:], begin, end, quadratic.shape[1])
        sum_products(posteriors, extended, sums[first:last])
    return total
