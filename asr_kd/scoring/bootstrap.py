"""Intervals and paired tests by drawing speakers with replacement (Bisani and Ney, ICASSP 2004, over speakers).

A *system* is a sequence of seeds, each a mapping speaker -> ErrorCounts. Its statistic is the mean over seeds
of errors / words, in percent. All systems of a set are judged on the same draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError
from asr_kd.scoring.wer import ErrorCounts, pool

DRAWS = 10_000
# Utterances are drawn where no speaker is known, tens of thousands of them.
_BLOCK = 1 << 22

SpeakerCounts = Mapping[str, ErrorCounts]
System = Sequence[SpeakerCounts]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; the interval is NaN where there is but one speaker."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """First system minus second, percent absolute, 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def significantly_positive(self) -> bool:
        return self.low > 0 and self.p_value < 0.05


@dataclass(frozen=True)
class SpeakerDraws:
    """How often each draw holds each speaker: `weights` (draws, speakers), speakers sorted, `words` (speakers,)."""

    speakers: tuple[str, ...]
    words: NDArray[np.int64]
    weights: NDArray[np.integer]

    def wer(self, system: System) -> NDArray[np.float64]:
        """The system's statistic on each draw, percent, (draws,). InputError: other speakers or words."""
        self._check(system)
        errors = np.array(
            [[seed[speaker].errors for speaker in self.speakers] for seed in system], dtype=np.int64
        )
        counts = _times(self.weights, np.vstack([errors, self.words]).T)
        return 100 * (counts[:, :-1] / counts[:, -1:]).mean(axis=1)

    def _check(self, system: System) -> None:
        if not system:
            raise InputError("a system without a seed cannot be scored")
        words = dict(zip(self.speakers, self.words.tolist(), strict=True))
        for seed in system:
            difference = words_difference(words, seed)
            if difference:
                raise InputError(f"systems are not scored on the same set: {difference}")


def draw_speakers(words: Mapping[str, int], draws: int = DRAWS, seed: int = 0) -> SpeakerDraws:
    """Draw as many speakers as there are, with replacement, `draws` times; `words` maps speaker to reference words.

    Draws without one reference word have no error rate and are left out. InputError: no reference words,
    draws < 1.
    """
    if draws < 1:
        raise InputError(f"draws: expected at least 1, found {draws}")
    if sum(words.values()) == 0:
        raise InputError("the reference has no words: there is no error rate")
    speakers = tuple(sorted(words))
    word_counts = np.array([words[speaker] for speaker in speakers], dtype=np.int64)
    even = np.full(len(speakers), 1 / len(speakers))
    generator = np.random.default_rng(seed)
    narrow = np.int16 if len(speakers) <= np.iinfo(np.int16).max else np.int32
    weights = np.empty((draws, len(speakers)), narrow)  # whole at once: more than there is fails here
    for block in _blocks(weights):
        block[:] = generator.multinomial(len(speakers), even, size=len(block))
    return SpeakerDraws(speakers, word_counts, weights[_times(weights, word_counts[:, None])[:, 0] > 0])


def mean_wer(system: System) -> float:
    """Mean over seeds of errors / words, percent."""
    return float(np.mean([pool(seed.values()).wer for seed in system]))


def wer_interval(system: System, draws: SpeakerDraws) -> Estimate:
    """The system's WER in percent with its bootstrap interval."""
    return Estimate(mean_wer(system), *_interval(draws.wer(system), draws))


def compare(first: System, second: System, draws: SpeakerDraws) -> Comparison:
    """Paired bootstrap of first minus second.

    p = (1 + count) / (draws + 1), count the draws whose difference lies at least as far from the observed
    difference as that lies from zero (two-sided, the bootstrap distribution shifted to the null hypothesis).
    """
    difference = mean_wer(first) - mean_wer(second)
    drawn = draws.wer(first) - draws.wer(second)
    # A rounding error must not decide a tie: identical systems have p = 1.
    count = int(np.count_nonzero(np.abs(drawn - difference) >= abs(difference) - 1e-9))
    return Comparison(difference, *_interval(drawn, draws), (1 + count) / (len(drawn) + 1))


def share_of_gap_closed(
    student: System, baseline: System, teacher: System, draws: SpeakerDraws
) -> Estimate | None:
    """(baseline - student) / (baseline - teacher), a fraction, with its interval.

    None where baseline - teacher is not significantly above zero: there is no gap to close.
    """
    gap = compare(baseline, teacher, draws)
    if not gap.significantly_positive:
        return None
    share = (mean_wer(baseline) - mean_wer(student)) / gap.difference
    base = draws.wer(baseline)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (base - draws.wer(student)) / (base - draws.wer(teacher))
    return Estimate(share, *_interval(drawn[np.isfinite(drawn)], draws))


def words_difference(words: Mapping[str, int], counts: SpeakerCounts) -> str:
    """What differs between a set's words per speaker and a system's counts, as one phrase; empty where nothing does."""
    other = {speaker: count.words for speaker, count in counts.items()}
    if other == words:
        return ""
    if other.keys() != words.keys():
        speaker = min(other.keys() ^ words.keys())
        return f"{len(other)} speakers against {len(words)}, first difference {speaker}"
    speaker = min(speaker for speaker in words if words[speaker] != other[speaker])
    return f"speaker {speaker} has {other[speaker]} words against {words[speaker]}"


def _times(weights: NDArray[np.integer], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """weights (draws, speakers) times values (speakers, n), int64, without a wide copy of all weights."""
    return np.concatenate([block.astype(np.int64) @ values for block in _blocks(weights)])


def _blocks(weights: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    """Views of as many draws (one at least) as are held in 64 bits at a time."""
    rows = max(1, _BLOCK // weights.shape[1])
    return (weights[begin : begin + rows] for begin in range(0, max(1, len(weights)), rows))


def _interval(drawn: NDArray[np.float64], draws: SpeakerDraws) -> tuple[float, float]:
    if len(draws.speakers) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
