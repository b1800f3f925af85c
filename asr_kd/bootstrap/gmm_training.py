"""Expectation-maximisation for DiagonalGmms from frames with known pdfs: statistics, update, splitting."""

import heapq
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.parallel import map_threads
from asr_kd.hmm.gmm import DiagonalGmms, component_scores, extend, shift_by_maximum, sum_products

_CHUNK = 1024
_COPIED = 1 << 14


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


class AlignedFrames:
    """Frames sorted by pdf, so that all passes between two alignments read them in order.

    `frames` is `(n, dim)` float32, kept as `(dim, n)`; `pdf_ids` `(n,)`, a frame with a negative one is left out.
    """

    def __init__(self, frames: np.ndarray, pdf_ids: np.ndarray, num_pdfs: int) -> None:
        order = np.argsort(pdf_ids, kind="stable")
        order = order[np.searchsorted(pdf_ids[order], 0):]
        self.frames = np.empty((frames.shape[1], len(order)), dtype=frames.dtype)
        for begin in range(0, len(order), _COPIED):
            self.frames[:, begin : begin + _COPIED] = frames[order[begin : begin + _COPIED]].T
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(pdf_ids[order], minlength=num_pdfs))])

    @property
    def num_frames(self) -> int:
        return int(self.frames.shape[1])


def accumulate(gmms: DiagonalGmms, aligned: AlignedFrames, workers: int | None = None) -> GmmStatistics:
    """Gaussian-level posteriors within each frame's pdf, summed to statistics."""
    occupancy = np.zeros(gmms.num_gaussians)
    sums = np.zeros((gmms.num_gaussians, -(-2 * gmms.dim // 4) * 4))

    def one_pdf(pdf: int) -> float:
        quadratic, constants = gmms.of_pdf(pdf)
        group = slice(gmms.offsets[pdf], gmms.offsets[pdf + 1])
        all_rows = np.array([0, len(constants)])
        total = 0.0
        for begin in range(aligned.bounds[pdf], aligned.bounds[pdf + 1], _CHUNK):
            extended = extend(aligned.frames[:, begin : min(begin + _CHUNK, aligned.bounds[pdf + 1])])
            posteriors = component_scores(extended, quadratic, constants)
            maxima = np.empty((1, posteriors.shape[1]), dtype=np.float32)
            shift_by_maximum(posteriors, all_rows, maxima)
            np.exp(posteriors, out=posteriors)
            normaliser = posteriors.sum(axis=0)
            posteriors /= normaliser
            total += float((maxima + np.log(normaliser)).sum(dtype=np.float64))
            occupancy[group] += posteriors.sum(axis=1, dtype=np.float64)
            sum_products(posteriors, extended, sums[group])
        return total

    log_likelihood = sum(map_threads(one_pdf, range(gmms.num_pdfs), workers))
    return GmmStatistics(occupancy, sums[:, : gmms.dim], sums[:, gmms.dim : 2 * gmms.dim], log_likelihood,
                         aligned.num_frames)


def update(gmms: DiagonalGmms, statistics: GmmStatistics, config: GmmConfig) -> DiagonalGmms:
    """Maximum-likelihood update (Kaldi's `MleDiagGmmUpdate`): rare Gaussians go, but for a pdf's last one."""
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
    keep = good.copy()
    for pdf in np.flatnonzero(np.bincount(pdfs, good, gmms.num_pdfs) == 0):
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
    """How many Gaussians each pdf should have (Kaldi's `GetSplitTargets`); a pdf keeps `min_count` frames for each."""
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
