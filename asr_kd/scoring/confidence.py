"""Measures of word confidences: how well they tell right words from wrong ones, and how true they are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError
from asr_kd.scoring.evaluation_set import EvaluationSet
from asr_kd.scoring.hypotheses import Hypotheses
from asr_kd.scoring.notation import DeletedWord
from asr_kd.scoring.wer import align_words

NUM_BINS = 10
# sclite's: the logarithm of a confidence of 0 or 1 that was wrong is not taken.
_FLOOR = 1e-7


@dataclass(frozen=True)
class WordConfidences:
    """Recognised words: `confidence` (words,) float64, `correct` (words,) bool, `speaker` (words,) of each."""

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    speaker: tuple[str, ...]


@dataclass(frozen=True)
class ConfidenceBin:
    """Words whose confidence is from `low` (to below `high`): how many, their mean confidence, the share correct."""

    low: float
    high: float
    words: int
    confidence: float
    correct: float


@dataclass(frozen=True)
class ConfidenceQuality:
    """`nce`: normalised cross entropy (NIST), at most 1, 0 where the confidence tells no more than the share of right
    words, None where all words are right or all wrong; `ece`: expected calibration error over the bins, 0 to 1;
    `roc_area`: the chance that a right word has the higher confidence of a right and a wrong one (ties half), None
    as above; `bins`: those that are not empty.
    """

    words: int
    correct: int
    nce: float | None
    ece: float
    roc_area: float | None
    bins: tuple[ConfidenceBin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure_confidence(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> ConfidenceQuality:
    """Quality of the confidences of recognised words, (words,) each; bins of equal width.

    The NCE is that of NIST's evaluation plans and of sclite, with sclite's floor of 1e-7. Deleted words have no
    confidence and no part in it. InputError: no word, a confidence that is NaN or outside 0..1.
    """
    if not len(confidence):
        raise InputError("confidence: no recognised word, nothing to measure")
    if not np.all((confidence >= 0) & (confidence <= 1)):
        raise InputError("confidence: expected values from 0 to 1")
    words, right = len(confidence), int(np.count_nonzero(correct))
    number = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    bins = [
        ConfidenceBin(
            index / num_bins, (index + 1) / num_bins, int(inside.sum()), float(confidence[inside].mean()),
            float(correct[inside].mean()),
        )
        for index in range(num_bins)
        if (inside := number == index).any()
    ]
    ece = sum(one.words * abs(one.confidence - one.correct) for one in bins) / words
    mixed = 0 < right < words
    return ConfidenceQuality(
        words, right, _normalised_cross_entropy(confidence, correct) if mixed else None, ece,
        _roc_area(confidence, correct) if mixed else None, tuple(bins),
    )


def word_confidences(part: EvaluationSet, files: Mapping[str, Hypotheses]) -> WordConfidences:
    """Every recognised word of the files, right or wrong by the set's alignment; words in no segment are wrong.

    InputError: a file without confidences.
    """
    confidence: list[float] = []
    correct: list[bool] = []
    speaker: list[str] = []
    for path, file in files.items():
        if file.confidences is None:
            raise InputError(f"{path}: not every word has a confidence; expected a CTM with six fields a line")
        references, hypotheses = part.readings(file)
        for utterance, words in file.words.items():
            columns = align_words(references[utterance], hypotheses[utterance], part.alignment)
            correct += [
                column.operation == "equal"
                for column in columns
                if column.hypothesis is not None and not isinstance(column.hypothesis, DeletedWord)
            ]
            confidence += file.confidences[utterance]
            speaker += [part.speakers[utterance]] * len(words)
        for name, outside in file.outside.items():
            confidence += _known(outside, path)
            correct += [False] * len(outside)
            speaker += [name] * len(outside)
    return WordConfidences(np.array(confidence, np.float64), np.array(correct, np.bool_), tuple(speaker))


def _known(words: Sequence[Any], path: str) -> list[float]:
    if any(word.confidence is None for word in words):
        raise InputError(f"{path}: not every word has a confidence; expected a CTM with six fields a line")
    return [word.confidence for word in words]


def _normalised_cross_entropy(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    clipped = np.clip(confidence, _FLOOR, 1 - _FLOOR)
    share = correct.mean()
    entropy = -(correct.sum() * np.log2(share) + (~correct).sum() * np.log2(1 - share))
    return float((entropy + np.log2(clipped[correct]).sum() + np.log2(1 - clipped[~correct]).sum()) / entropy)


def _roc_area(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Mann and Whitney's U over its largest value, equal confidences at their mean rank."""
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    right, wrong = int(correct.sum()), int((~correct).sum())
    return float((mean_rank[place][correct].sum() - right * (right + 1) / 2) / (right * wrong))
