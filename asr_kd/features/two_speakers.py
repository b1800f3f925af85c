"""Tell whether utterances under one name may be of two speakers, by the Bayesian information criterion.

Chen, Gopalakrishnan, "Speaker, environment and channel change detection and clustering via the Bayesian information
criterion", DARPA Broadcast News Workshop 1998, eq. 3: one Gaussian of all frames against two, of two groups of
utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PENALTY = 5.5  # of eq. 3; more than 1, for frames that follow each other are alike, and sentences differ
_ROUNDS = 10


@dataclass(frozen=True)
class TwoSpeakers:
    """Two groups of utterances, by their numbers, and how much likelier they are than one, in nats a frame.

    Below 0 one speaker explains the frames better.
    """

    groups: tuple[list[int], list[int]]
    evidence: float


def compare_one_with_two_speakers(utterances: Sequence[NDArray[np.floating]]) -> TwoSpeakers | None:
    """Part utterances, (frames, dim) of cepstra that are not normalised, into two groups as two Gaussians fit best.

    None where there are fewer than four, or too few frames for a Gaussian.
    """
    frames = [np.asarray(one, np.float64) for one in utterances]
    if len(frames) < 4 or sum(map(len, frames)) < 20 * frames[0].shape[1]:
        return None
    means = np.stack([one.mean(0) for one in frames])
    axis = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][0]
    second = (means - means.mean(0)) @ axis > 0
    for _ in range(_ROUNDS):
        if not 0 < second.sum() < len(frames):
            return None
        groups = [[one for one, is_second in zip(frames, second, strict=True) if is_second == part]
                  for part in (False, True)]
        gaussians = [_gaussian(np.concatenate(group)) for group in groups]
        scores = np.array([[_mean_log_density(one, *gaussian) for gaussian in gaussians] for one in frames])
        changed = scores[:, 1] > scores[:, 0]
        if (changed == second).all():
            break
        second = changed
    if not 0 < second.sum() < len(frames):
        return None
    parts = tuple([number for number, is_second in enumerate(second) if is_second == part] for part in (False, True))
    together = np.concatenate(frames)
    count, dim = together.shape
    gain = 0.5 * count * _log_det(together)
    for part in parts:
        group = np.concatenate([frames[number] for number in part])
        gain -= 0.5 * len(group) * _log_det(group)
    penalty = 0.5 * _PENALTY * (dim + dim * (dim + 1) / 2) * np.log(count)
    return TwoSpeakers((parts[0], parts[1]), float((gain - penalty) / count))


def _gaussian(frames: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (dim,) and covariance (dim, dim)."""
    return frames.mean(0), np.cov(frames, rowvar=False, bias=True) + 1e-3 * np.eye(frames.shape[1])


def _log_det(frames: NDArray[np.float64]) -> float:
    return float(np.linalg.slogdet(_gaussian(frames)[1])[1])


def _mean_log_density(frames: NDArray[np.float64], mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
    offsets = frames - mean
    distances = np.einsum("td,td->t", offsets @ np.linalg.inv(covariance), offsets)
    return float(-0.5 * (distances.mean() + np.linalg.slogdet(covariance)[1]))
