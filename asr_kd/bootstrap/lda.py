"""Linear discriminant analysis of spliced frames: the directions that tell pdfs apart best."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads, one_blas_thread
from asr_kd.hmm.gmm import padded, sum_products

# Frames of a task: its sums are added to the others' in a fixed order, whatever the workers.
_TASK = 1 << 17


@dataclass(frozen=True)
class LdaStatistics:
    """Per class `counts` (classes,) and `sums` (classes, width); `squares` (width, width) of all frames."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray


def accumulate_lda(
    features: Callable[[str], np.ndarray],
    classes: Mapping[str, np.ndarray],
    num_classes: int,
    left: int,
    right: int,
    workers: int | None = None,
) -> LdaStatistics:
    """Statistics of frames with `left` and `right` neighbours (Kaldi's `acc-lda`).

    `features(utterance)` is `(frames, dim)`; `classes`: utterance -> class of each frame, negative ones are left out.
    """
    tasks: list[list[str]] = []
    room = 0
    for utterance, of_frames in classes.items():
        if room <= 0:
            tasks.append([])
            room = _TASK
        tasks[-1].append(utterance)
        room -= len(of_frames)

    def one_task(utterances: list[str]) -> LdaStatistics:
        counts = np.zeros(num_classes)
        sums = squares = np.zeros((0, 0))
        for utterance in utterances:
            matrix = features(utterance)
            width = (left + 1 + right) * matrix.shape[1]
            if not sums.size:
                sums, squares = np.zeros((num_classes, width)), np.zeros((padded(width), padded(width)))
            spliced = np.zeros((padded(width), int((classes[utterance] >= 0).sum())), dtype=np.float32)
            _splice_kept(np.ascontiguousarray(matrix, dtype=np.float32), classes[utterance], left, right, spliced,
                         counts, sums)
            sum_products(spliced, spliced, squares)
        return LdaStatistics(counts, sums, squares[: sums.shape[1], : sums.shape[1]])

    # One after the other: a class has a row of sums in each task, and long corpora have many tasks.
    found = map_threads(one_task, tasks, workers)
    total = next(found)
    for one in found:
        total = LdaStatistics(total.counts + one.counts, total.sums + one.sums, total.squares + one.squares)
    return total


@one_blas_thread()
def lda_transform(statistics: LdaStatistics, dim: int) -> np.ndarray:
    """`(dim, width)` float64: within-class covariance becomes the unit matrix, between-class diagonal, largest first.

    InputError where there are too few classes or frames. Source: Kaldi's `est-lda`, without offset.
    """
    from scipy.linalg import LinAlgError, eigh

    counts, sums = statistics.counts, statistics.sums
    seen = counts > 0
    total = counts.sum()
    if dim > sums.shape[1] or dim >= seen.sum():
        raise InputError(f"LDA to {dim} dimensions needs more than {dim} pdfs and as many values in a spliced frame, "
                         f"there are {seen.sum()} pdfs and {sums.shape[1]} values")
    mean = sums.sum(axis=0) / total
    class_means = sums[seen] / counts[seen, None]
    between = (class_means * (counts[seen, None] / total)).T @ class_means - np.outer(mean, mean)
    within = statistics.squares / total - np.outer(mean, mean) - between
    try:
        _, vectors = eigh(between, within)
    except LinAlgError as error:
        raise InputError(f"LDA: {total:.0f} frames do not have a within-class covariance of full rank") from error
    directions = vectors[:, ::-1][:, :dim].T
    # The sign is free; the largest value of a row is positive.
    signs = np.sign(directions[np.arange(dim), np.abs(directions).argmax(axis=1)])
    return np.ascontiguousarray(directions * signs[:, None])


@njit(nogil=True, cache=True)
def _splice_kept(matrix, classes, left, right, spliced, counts, sums):  # type: ignore[no-untyped-def]
    frames, dim = matrix.shape
    column = 0
    for t in range(frames):
        if classes[t] < 0:
            continue
        counts[classes[t]] += 1.0
        row = sums[classes[t]]
        k = 0
        for neighbour in range(t - left, t + right + 1):
            source = matrix[min(max(neighbour, 0), frames - 1)]
            for i in range(dim):
                spliced[k, column] = source[i]
                row[k] += source[i]
                k += 1
        column += 1
