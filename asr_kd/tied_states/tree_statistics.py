"""Single-Gaussian statistics of phones in context: what trees are grown from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.alignment.boundaries import windows
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.lexicon.phones import PhoneTable


@dataclass(frozen=True)
class TreeStatistics:
    """One row for each (window, pdf class) seen.

    Shapes: `windows` (rows, 3), `pdf_classes` (rows,), `sums` (rows, 1 + 2 dim): count, sum and sum of squares.
    Silence phones are context-independent: their neighbours are 0.
    """

    windows: np.ndarray
    pdf_classes: np.ndarray
    sums: np.ndarray

    @property
    def num_frames(self) -> float:
        return float(self.sums[:, 0].sum())

    @property
    def dim(self) -> int:
        return int(self.sums.shape[1] - 1) // 2


def gaussian_objective(sums: np.ndarray, variance_floor: float) -> np.ndarray:
    """Log-likelihood of data under their own diagonal Gaussian; `sums` (..., 1 + 2 dim) as in TreeStatistics.

    Zero where there is no data. Source: Kaldi's `GaussClusterable::Objf`.
    """
    dim = (sums.shape[-1] - 1) // 2
    count = sums[..., 0]
    safe = np.where(count > 0, count, 1.0)[..., None]
    mean = sums[..., 1 : 1 + dim] / safe
    variance = sums[..., 1 + dim :] / safe - mean * mean
    floored = np.maximum(variance, variance_floor)
    per_frame = -0.5 * (np.log(2 * np.pi) + np.log(floored) + variance / floored).sum(axis=-1)
    return np.where(count > 0, count * per_frame, 0.0)


def accumulate_tree_statistics(
    features: Mapping[str, np.ndarray],
    alignments: Mapping[str, np.ndarray],
    transitions: TransitionModel,
    phones: PhoneTable,
) -> TreeStatistics:
    """Statistics of all aligned utterances (Kaldi's `acc-tree-stats --ci-phones`)."""
    silence = np.zeros(len(phones.symbols), dtype=bool)
    silence[sorted(phones.silence)] = True
    classes_of = _pdf_class_table(transitions)
    row_of: dict[tuple[int, int, int, int], int] = {}
    sums = np.zeros((1024, 1 + 2 * next(iter(features.values())).shape[1]))
    for utterance, alignment in alignments.items():
        keys = np.column_stack([windows(alignment, transitions), classes_of[alignment]])
        keys[np.ix_(silence[keys[:, 1]], [0, 2])] = 0
        firsts = np.concatenate([[0], np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1])
        rows = [row_of.setdefault((a, b, c, d), len(row_of)) for a, b, c, d in keys[firsts].tolist()]
        while len(row_of) > len(sums):
            sums = np.concatenate([sums, np.zeros_like(sums)])
        lengths = np.diff(np.append(firsts, len(keys)))
        _add_frames(features[utterance], np.repeat(np.array(rows), lengths), sums)
    table = np.array(list(row_of), dtype=np.int32).reshape(-1, 4)
    return TreeStatistics(table[:, :3].copy(), table[:, 3].copy(), sums[: len(table)])


def _pdf_class_table(transitions: TransitionModel) -> np.ndarray:
    classes = [0] + [transitions.topology.states(p)[s].pdf_class
                     for p, s in zip(transitions.phones[1:], transitions.hmm_states[1:], strict=True)]
    return np.array(classes, dtype=np.int32)


@njit(nogil=True, cache=True)
def _add_frames(frames, rows, sums):  # type: ignore[no-untyped-def]
    dim = frames.shape[1]
    for t in range(len(rows)):
        row = sums[rows[t]]
        row[0] += 1.0
        for d in range(dim):
            value = np.float64(frames[t, d])
            row[1 + d] += value
            row[1 + dim + d] += value * value
