"""Rows of the results: systems of a split with their intervals and paired tests against one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.scoring.bootstrap import (
    Comparison,
    Estimate,
    SpeakerDraws,
    compare,
    draw_speakers,
    share_of_gap_closed,
    wer_interval,
    words_difference,
)
from asr_kd.scoring.system_counts import SystemCounts

# Besides its own baseline and teacher, and what it is scored to be compared with, every system is compared with these.
REFERENCE_IDS = ("gmm-tri", "hdnn128-kd")
# The best teacher: how far students come on the way to it is told of all of them, whoever taught them.
HEADLINE_TEACHER = "teacher-smbr"


@dataclass(frozen=True)
class ShareOfGap:
    """(CE − student) / (CE − teacher), a fraction, and the systems that it is measured between."""

    baseline: str
    teacher: str
    estimate: Estimate


@dataclass(frozen=True)
class ResultRow:
    """One system on one split: the counts of its seeds and what follows from them."""

    counts: tuple[SystemCounts, ...]
    wer: Estimate
    comparisons: dict[str, Comparison]
    shares: tuple[ShareOfGap, ...]  # from its baseline and others without a teacher, to its own and the headline's

    @property
    def id(self) -> str:
        return self.counts[0].id

    @property
    def split(self) -> str:
        """The split, `-partial` behind it where only a part was scored."""
        return self.counts[0].set_name

    @property
    def words(self) -> int:
        """Reference words of the split."""
        return self.counts[0].total.words

    def mean(self, field: str) -> float | None:
        """Mean of a field over the seeds that have it."""
        values = [value for counts in self.counts if (value := getattr(counts, field)) is not None]
        return None if not values else float(np.mean(values))

    def largest(self, field: str) -> int | None:
        """Largest value of a field over the seeds that have it."""
        return max(
            (value for counts in self.counts if (value := getattr(counts, field)) is not None), default=None
        )

    @property
    def commands(self) -> list[str]:
        """The commands that made the seeds' counts, each once."""
        return list(dict.fromkeys(counts.command for counts in self.counts if counts.command))

    def as_dict(self) -> dict[str, Any]:
        """The row as it stands in results.json."""
        return {
            "id": self.id,
            "split": self.split,
            "wer": _rounded(self.wer.value),
            "ci_low": _rounded(self.wer.low),
            "ci_high": _rounded(self.wer.high),
            "words": self.words,
            "seeds": [counts.seed for counts in self.counts],
            "wer_per_seed": [_rounded(counts.total.wer) for counts in self.counts],
            "frame_accuracy": _rounded(self.mean("frame_accuracy")),
            "params": self.largest("params"),
            "bytes": self.largest("bytes"),
            "train_minutes": _rounded(self.mean("train_minutes")),
            "real_time_factor": _rounded(self.mean("real_time_factor")),
            "command": " && ".join(self.commands) or None,
            "runs": sorted({counts.run for counts in self.counts if counts.run}),
            "versus": {other: round(found.p_value, 6) for other, found in self.comparisons.items()},
        }


def judge(counts: Sequence[SystemCounts]) -> list[ResultRow]:
    """Rows sorted by split and id; all systems of a split on the same 10,000 draws of speakers.

    InputError: two systems of a split with other speakers or words, seeds of one system with another baseline
    or teacher.
    """
    ordered = sorted(counts, key=lambda one: (one.set_name, one.id, one.seed))
    rows: list[ResultRow] = []
    for _, split in groupby(ordered, key=lambda one: one.set_name):
        systems = {name: tuple(seeds) for name, seeds in groupby(split, key=lambda one: one.id)}
        rows += _judge_split(systems)
    return rows


def _judge_split(systems: dict[str, tuple[SystemCounts, ...]]) -> list[ResultRow]:
    first = next(iter(systems.values()))[0]
    words = {speaker: counts.words for speaker, counts in first.speakers.items()}
    for seeds in systems.values():
        _check_seeds(seeds, first, words)
    draws = draw_speakers(words)
    return [_judge_system(seeds, systems, draws) for seeds in systems.values()]


def _check_seeds(seeds: tuple[SystemCounts, ...], first: SystemCounts, words: dict[str, int]) -> None:
    for counts in seeds:
        difference = words_difference(words, counts.speakers)
        if difference:
            raise InputError(
                f"{counts.file_name}: {counts.total.words} words, {first.file_name}: {first.total.words}; "
                f"not scored on the same set ({difference}); score the whole split, or mark the part as partial"
            )
        for field in ("baseline", "teacher"):
            if getattr(counts, field) != getattr(seeds[0], field):
                raise InputError(
                    f"{counts.file_name}: {field} {getattr(counts, field)}, but {getattr(seeds[0], field)} in "
                    f"{seeds[0].file_name}; expected one {field} for all seeds of a system"
                )


def _judge_system(
    seeds: tuple[SystemCounts, ...], systems: dict[str, tuple[SystemCounts, ...]], draws: SpeakerDraws
) -> ResultRow:
    own = seeds[0]
    system = _speakers(seeds)
    others = dict.fromkeys(
        name for name in (own.baseline, own.teacher, own.start, *own.versus, *REFERENCE_IDS) if name and name != own.id
    )
    present = {name: _speakers(systems[name]) for name in others if name in systems}
    shares = []
    if own.teacher is not None and own.baseline is not None:
        teachers = [name for name in dict.fromkeys((own.teacher, HEADLINE_TEACHER)) if name in systems]
        untaught = [name for name in own.versus if name in systems and systems[name][0].baseline is None]
        baselines = dict.fromkeys((own.baseline, *untaught))
        for baseline in (name for name in baselines if name in present and name not in teachers):
            for teacher in teachers:
                found = share_of_gap_closed(system, present[baseline], _speakers(systems[teacher]), draws)
                shares += [] if found is None else [ShareOfGap(baseline, teacher, found)]
    comparisons = {name: compare(system, other, draws) for name, other in present.items()}
    return ResultRow(seeds, wer_interval(system, draws), comparisons, tuple(shares))


def _speakers(seeds: tuple[SystemCounts, ...]) -> list[dict[str, Any]]:
    return [counts.speakers for counts in seeds]


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 4)
