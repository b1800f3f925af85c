"""Intervals and paired tests by drawing speakers and seeds with replacement.

Bisani and Ney (ICASSP 2004) over speakers, and one level above it over the trainings of a system: a *system* maps the
seed of each training to its counts (speaker -> ErrorCounts). Its statistic is the mean over seeds of errors / words, in
percent. Each draw takes as many speakers as there are, the same for all systems of a set, and as many seeds as a system
has. Systems with the same seeds get the same draws of seeds: seed s of both is drawn together.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError
from asr_kd.scoring.wer import ErrorCounts, pool

DRAWS = 100_000
# Of more units than a thousand (utterances, where no speaker is known) fewer draws are taken, for memory's sake.
_MOST_WEIGHTS = 10**8
SIGNIFICANT = 0.05
# From fewer speakers intervals are too narrow and p-values too small.
FEWEST_SPEAKERS = 10
# Utterances are drawn where no speaker is known, tens of thousands of them.
_BLOCK = 1 << 22
# A rounding error must not decide a tie: identical systems have p = 1.
_TIE = 1e-9

SpeakerCounts = Mapping[str, ErrorCounts]
System = Mapping[int, SpeakerCounts]
Key = TypeVar("Key", bound=Hashable)
Verdict = Literal["fewer errors", "more errors", "no difference shown"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; the bounds are None where there is but one speaker."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """First system minus second, percent absolute, 95 % interval and two-sided p-value.

    Bounds and p are None where there is but one speaker. `seeds` is the number of seeds of the system that has fewer.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    speakers: int
    seeds: int

    @property
    def undecidable(self) -> str | None:
        """The reason why nothing can be concluded, whatever p is; None where something can."""
        if self.speakers < FEWEST_SPEAKERS:
            return "one speaker" if self.speakers == 1 else f"{self.speakers} speakers"
        return "one seed" if self.seeds < 2 else None

    @property
    def reversed(self) -> "Comparison":
        """The same comparison, second system minus first."""
        low, high = (None if bound is None else -bound for bound in (self.high, self.low))
        return replace(self, difference=-self.difference, low=low, high=high)

    def verdict(self, corrected: float | None = None) -> Verdict | None:
        """The verdict on the first system, by its p-value or by a corrected one.

        None where nothing can be concluded.
        """
        p_value = self.p_value if corrected is None else corrected
        if self.undecidable or p_value is None:
            return None
        if p_value >= SIGNIFICANT:
            return "no difference shown"
        return "fewer errors" if self.difference < 0 else "more errors"

    @property
    def significantly_positive(self) -> bool:
        """True where the first system makes more errors, by this comparison alone."""
        if self.undecidable or self.low is None or self.p_value is None:
            return False
        return self.low > 0 and self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class SpeakerDraws:
    """Counts of each speaker in each draw: `weights` (draws, speakers), speakers sorted, `words` (speakers,).

    `seed` is that of the draws.
    """

    speakers: tuple[str, ...]
    words: NDArray[np.int64]
    weights: NDArray[np.integer]
    seed: int = 0
    _picks: dict[tuple[int, ...], NDArray[np.intp]] = field(default_factory=dict, repr=False, compare=False)

    def of(self, system: System, *, words_differ: bool = False) -> "DrawnSystem":
        """The system on these draws. InputError: it was scored on other speakers or words, or has no seed.

        `words_differ`: the reference has alternatives, so that the number of its words depends on
        the hypothesis. Errors are then divided by the words of each training.
        """
        return self.of_all({"": system}, words_differ=words_differ)[""]

    def of_all(
        self, systems: Mapping[str, System], *, words_differ: bool = False
    ) -> dict[str, "DrawnSystem"]:
        """Several systems on these draws, by the names that they are given; arguments and errors as of `of`."""
        for system in systems.values():
            self._check(system, words_differ)
        all_counts = [system[seed] for system in systems.values() for seed in sorted(system)]
        errors = [[counts[speaker].errors for speaker in self.speakers] for counts in all_counts]
        rates = _drawn_sums(np.array(errors), self.weights)
        words = self.words[None]
        if words_differ:
            words = np.array([[counts[speaker].words for speaker in self.speakers] for counts in all_counts])
        # A draw whose readings are all empty has insertions at most: they count against one word.
        rates *= 100 / np.maximum(_drawn_sums(words, self.weights), 1)
        drawn: dict[str, DrawnSystem] = {}
        begin = 0
        for name, system in systems.items():
            end = begin + len(system)
            drawn[name] = DrawnSystem(mean_wer(system), tuple(sorted(system)), rates[begin:end], self)
            begin = end
        return drawn

    def picks(self, seeds: tuple[int, ...]) -> NDArray[np.intp]:
        """The position in `seeds` of each seed that each draw takes, (seeds, draws)."""
        if seeds not in self._picks:
            generator = np.random.default_rng([self.seed, *(abs(seed) for seed in seeds)])
            self._picks[seeds] = generator.integers(len(seeds), size=(len(seeds), len(self.weights)))
        return self._picks[seeds]

    def _check(self, system: System, words_differ: bool) -> None:
        if not system:
            raise InputError("a system without a seed cannot be scored")
        words = dict(zip(self.speakers, self.words.tolist(), strict=True))
        for counts in system.values():
            if words_differ and counts.keys() == words.keys():
                continue
            difference = words_difference(words, counts)
            if difference:
                raise InputError(f"systems are not scored on the same set: {difference}")


@dataclass(frozen=True)
class DrawnSystem:
    """A system on all draws of its set: its statistic `value` and `rates` (seeds, draws), both in percent."""

    value: float
    seeds: tuple[int, ...]
    rates: NDArray[np.float64]
    draws: SpeakerDraws

    @cached_property
    def wer(self) -> NDArray[np.float64]:
        """The statistic on each draw of speakers and seeds, percent, (draws,)."""
        return self._mean(self.draws.picks(self.seeds))

    def wer_beside(self, other: "DrawnSystem") -> NDArray[np.float64]:
        """The statistic on each draw, percent, (draws,), with the seeds that the draws of `other` take.

        Where `other` draws a seed that this system does not have, one that only this system has takes its place, or
        any where there is none; each seed of this system stays equally likely. `other` has at least as many seeds.
        """
        if other.seeds == self.seeds or len(self.seeds) == 1:
            return self.wer
        return self._mean(self._picks_beside(other))

    def _picks_beside(self, other: "DrawnSystem") -> NDArray[np.intp]:
        size, common = len(self.seeds), set(self.seeds) & set(other.seeds)
        position_of = {seed: position for position, seed in enumerate(self.seeds)}
        positions = np.array([position_of.get(seed, -1) for seed in other.seeds])
        picks = positions[self.draws.picks(other.seeds)[:size]]
        # Seeds in common are already drawn as often as one in len(other.seeds); the others make up what is missing.
        already = np.array([1 / len(other.seeds) if seed in common else 0.0 for seed in self.seeds])
        missing = 1 / size - already
        generator = np.random.default_rng([self.draws.seed, 1, *(abs(seed) for seed in self.seeds)])
        fresh = generator.choice(size, size=picks.shape, p=missing / missing.sum())
        return np.where(picks < 0, fresh, picks)

    def _mean(self, picks: NDArray[np.intp]) -> NDArray[np.float64]:
        if len(self.seeds) == 1:
            return self.rates[0]
        return np.take_along_axis(self.rates, picks, axis=0).mean(axis=0)


def draw_speakers(words: Mapping[str, int], draws: int | None = None, seed: int = 0) -> SpeakerDraws:
    """Draw as many speakers as there are, with replacement, `draws` times; `words` maps speaker to reference words.

    `draws` None: 100,000, fewer of more than 1,000 speakers. Draws without one reference word have
    no error rate and are left out. InputError: no reference words, draws < 1.
    """
    if draws is None:
        draws = min(DRAWS, max(1, _MOST_WEIGHTS // max(1, len(words))))
    if draws < 1:
        raise InputError(f"draws: expected at least 1, found {draws}")
    if sum(words.values()) == 0:
        raise InputError("the reference has no words: there is no error rate")
    speakers = tuple(sorted(words))
    word_counts = np.array([words[speaker] for speaker in speakers], dtype=np.int64)
    generator = np.random.default_rng(seed)
    narrow = np.int16 if len(speakers) <= np.iinfo(np.int16).max else np.int32
    weights = np.empty((draws, len(speakers)), narrow)  # whole at once: more than there is fails here
    for block in _blocks(weights):
        drawn = generator.integers(len(speakers), size=block.shape)
        drawn += len(speakers) * np.arange(len(block))[:, None]
        block[:] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
    has_words = _drawn_sums(word_counts[None], weights)[0] > 0
    if not has_words.any():
        raise InputError(f"draws: in none of {draws} does a speaker with words in the reference occur; take more")
    if not has_words.all():  # a copy of all weights would double the memory
        weights = weights[has_words]
    return SpeakerDraws(speakers, word_counts, weights, seed)


def mean_wer(system: System) -> float:
    """Mean over seeds of errors / words, percent."""
    return float(np.mean([pool(counts.values()).wer for counts in system.values()]))


def wer_interval(system: DrawnSystem) -> Estimate:
    """The system's WER in percent with its bootstrap interval."""
    return Estimate(system.value, *_interval(system.wer, system.draws))


def compare(first: DrawnSystem, second: DrawnSystem) -> Comparison:
    """Paired bootstrap of first minus second, two systems on the same draws.

    p = (1 + count) / (draws + 1), count the draws whose difference lies at least as far from the observed
    difference as that lies from zero (two-sided, the bootstrap distribution shifted to the null hypothesis).
    """
    difference = first.value - second.value
    leader = _leader(first, second)
    drawn = first.wer_beside(leader) - second.wer_beside(leader)
    count = int(np.count_nonzero(np.abs(drawn - difference) >= abs(difference) - _TIE))
    speakers = len(first.draws.speakers)
    return Comparison(
        difference,
        *_interval(drawn, first.draws),
        (1 + count) / (len(drawn) + 1) if speakers > 1 else None,
        speakers,
        min(len(first.seeds), len(second.seeds)),
    )


def holm(p_values: Mapping[Key, float], family: int | None = None) -> dict[Key, float]:
    """Holm's step-down correction: the smallest p times the number of hypotheses, the next times one fewer, ...

    `family` is the number of hypotheses where not all of them have a p-value. Corrected values do not fall and end
    at 1. ValueError: a family of fewer than there are p-values.
    """
    hypotheses = len(p_values) if family is None else family
    if hypotheses < len(p_values):
        raise ValueError(f"{len(p_values)} p-values in a family of {hypotheses}")
    corrected: dict[Key, float] = {}
    largest = 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = min(1.0, max(largest, (hypotheses - rank) * p_value))
        corrected[name] = largest
    return corrected


def share_of_gap_closed(
    student: DrawnSystem, baseline: DrawnSystem, teacher: DrawnSystem
) -> Estimate | None:
    """(baseline - student) / (baseline - teacher), a fraction, with its interval; three systems on the same draws.

    None where baseline - teacher is not significantly above zero: there is no gap to close.
    """
    gap = compare(baseline, teacher)
    if not gap.significantly_positive:
        return None
    share = (baseline.value - student.value) / gap.difference
    leader = _leader(student, baseline, teacher)
    base = baseline.wer_beside(leader)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (base - student.wer_beside(leader)) / (base - teacher.wer_beside(leader))
    return Estimate(share, *_interval(drawn[np.isfinite(drawn)], student.draws))


def words_difference(words: Mapping[str, int], counts: SpeakerCounts) -> str:
    """Describe in one phrase how a set's words per speaker differ from a system's counts; empty where they agree."""
    other = {speaker: count.words for speaker, count in counts.items()}
    if other == words:
        return ""
    if other.keys() != words.keys():
        speaker = min(other.keys() ^ words.keys())
        return f"{len(other)} speakers against {len(words)}, first difference {speaker}"
    speaker = min(speaker for speaker in words if words[speaker] != other[speaker])
    return f"speaker {speaker} has {other[speaker]} words against {words[speaker]}"


def _leader(*systems: DrawnSystem) -> DrawnSystem:
    """The system whose draws of seeds the others follow: most seeds, whatever the order of the systems."""
    return max(systems, key=lambda system: (len(system.seeds), system.seeds))


def _drawn_sums(values: NDArray[np.int64], weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """Sums of values (n, speakers) over the speakers of each draw, (n, draws), without a wide copy of all weights.

    Sums of whole numbers are exact below 2^53.
    """
    wide = values.astype(np.float64)
    return np.concatenate([wide @ block.T.astype(np.float64) for block in _blocks(weights)], axis=1)


def _blocks(weights: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    """Views of as many draws (one at least) as are held in 64 bits at a time."""
    rows = max(1, _BLOCK // weights.shape[1])
    return (weights[begin : begin + rows] for begin in range(0, max(1, len(weights)), rows))


def _interval(drawn: NDArray[np.float64], draws: SpeakerDraws) -> tuple[float | None, float | None]:
    if len(draws.speakers) < 2:
        return None, None
    return _quantile(drawn, 0.025), _quantile(drawn, 0.975)


def _quantile(values: NDArray[np.float64], share: float) -> float:
    """The quantile as numpy's default has it, several times quicker for one share."""
    position = share * (len(values) - 1)
    below = int(position)
    parted = np.partition(values, below)
    low = float(parted[below])
    high = float(parted[below + 1 :].min()) if below + 1 < len(values) else low
    return low + (high - low) * (position - below)
