"""Rows of the results: systems of a split with their intervals and paired tests against one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.recipe import Claim
from asr_kd.report.declarations import Declarations
from asr_kd.report.tables import interval, number
from asr_kd.scoring.bootstrap import (
    FEWEST_SPEAKERS,
    Comparison,
    DrawnSystem,
    Estimate,
    Verdict,
    compare,
    draw_speakers,
    holm,
    share_of_gap_closed,
    wer_interval,
    words_difference,
)
from asr_kd.scoring.system_counts import SystemCounts
from asr_kd.scoring.system_roles import SystemRoles


@dataclass(frozen=True)
class ShareOfGap:
    """(CE − student) / (CE − teacher), a fraction, and the systems between which it is measured."""

    baseline: str
    teacher: str
    estimate: Estimate

    @property
    def cells(self) -> list[str]:
        """The share and its interval as tables show them, percent."""
        low, high = (None if bound is None else 100 * bound for bound in (self.estimate.low, self.estimate.high))
        return [number(100 * self.estimate.value), interval(low, high, 0)]


@dataclass(frozen=True)
class ResultRow:
    """One system on one split: the counts of its seeds, what the recipe declares of it, and what follows from both.

    `corrected`: p-values after Holm's correction, of the recipe's claims that this system is part of.
    `claims`: those that begin with it. `shares` are measured from its baseline and from other networks
    without a teacher, to its own teacher and to the headline's. `pass_of`: the system whose training
    went through this one, and after which pass. `declared`: the recipe scores the system. `warnings`:
    doubts about the counts that the run directory raises.
    """

    counts: tuple[SystemCounts, ...]
    wer: Estimate
    comparisons: dict[str, Comparison]
    shares: tuple[ShareOfGap, ...] = ()
    corrected: dict[str, float] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    roles: SystemRoles = SystemRoles()
    pass_of: tuple[str, int] | None = None
    declared: bool = True
    warnings: tuple[str, ...] = ()

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

    @property
    def runs(self) -> list[str]:
        """The names of the run directories of its seeds."""
        return sorted({counts.run for counts in self.counts if counts.run})

    @property
    def revisions(self) -> list[str]:
        """The revisions of the code that trained its seeds, each once."""
        return list(dict.fromkeys(counts.revision for counts in self.counts if counts.revision))

    @property
    def bytes_with_log(self) -> bool:
        """True where the bytes of a seed hold the log of its training too."""
        return any(counts.bytes_with_log for counts in self.counts)

    @property
    def oov_rate(self) -> float | None:
        """Percent of the split's words that are out of vocabulary, as all seeds have it; else the largest."""
        rates = [counts.oov_rate for counts in self.counts]
        return None if None in rates else max(rate for rate in rates if rate is not None)

    @property
    def closed_vocabulary(self) -> bool | None:
        """True where the vocabulary was made to hold the words of the split, in any of the seeds."""
        closed = [counts.closed_vocabulary for counts in self.counts]
        return None if None in closed else any(closed)

    @property
    def notes(self) -> list[str]:
        """Reservations about the row's figures, a phrase each."""
        notes = list(self.warnings)
        if len(self.counts) == 1:
            notes.append("one seed, no verdict")
        if len(self.counts[0].speakers) < FEWEST_SPEAKERS:
            notes.append(f"fewer than {FEWEST_SPEAKERS} speakers, no verdict")
        if self.bytes_with_log:
            notes.append("bytes hold the training log too")
        if not self.declared:
            notes.append("not scored by the recipe as it stands")
        return notes

    def is_claim_of(self, other: str) -> bool:
        """True where the recipe claims something of this system against the other, in this order."""
        return other in self.claims

    def verdict(self, other: str) -> Verdict | None:
        """The verdict of a claim on this system against another; None where there is no claim or it shows nothing."""
        if other not in self.corrected:
            return None
        return self.comparisons[other].verdict(self.corrected[other])

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
            "runs": self.runs,
            "versus": {other: _rounded(found.p_value, 6) for other, found in self.comparisons.items()},
            "versus_holm": {other: _rounded(self.corrected.get(other), 6) for other in self.comparisons},
            "oov_rate": _rounded(self.oov_rate),
            "closed_vocabulary": self.closed_vocabulary,
            "lm_weights": [counts.lm_weight for counts in self.counts if counts.lm_weight is not None],
            "revisions": self.revisions,
            "notes": self.notes,
        }


def judge(
    counts: Sequence[SystemCounts], declarations: Declarations | None = None,
    warnings: Mapping[str, str] | None = None,
) -> list[ResultRow]:
    """Rows sorted by split and id; all systems of a split on the same 100,000 draws of speakers.

    Every system is compared with those that its roles name, with the recipe's references, and with those of its
    claims, whose p-values are corrected together. `warnings` maps counts files to what is to be said of them.
    InputError: two systems of a split with other speakers or words.
    """
    declarations = declarations or Declarations()
    ordered = sorted(counts, key=lambda one: (one.set_name, one.id, one.seed))
    rows: list[ResultRow] = []
    for _, split in groupby(ordered, key=lambda one: one.set_name):
        systems = {name: tuple(seeds) for name, seeds in groupby(split, key=lambda one: one.id)}
        rows += _judge_split(systems, declarations)
    rows = [replace(row, warnings=_warnings(row, warnings or {})) for row in rows]
    return _with_claims(rows, declarations.claims)


def _warnings(row: ResultRow, warnings: Mapping[str, str]) -> tuple[str, ...]:
    of_seeds = [warnings[counts.file_name] for counts in row.counts if counts.file_name in warnings]
    return tuple(dict.fromkeys(of_seeds))


def _judge_split(systems: dict[str, tuple[SystemCounts, ...]], declarations: Declarations) -> list[ResultRow]:
    first = next(iter(systems.values()))[0]
    words = {speaker: counts.words for speaker, counts in first.speakers.items()}
    for seeds in systems.values():
        _check_words(seeds, first, words)
    drawn = draw_speakers(words).of_all(
        {name: {counts.seed: counts.speakers for counts in seeds} for name, seeds in systems.items()})
    compared: dict[tuple[str, str], Comparison] = {}
    rows = []
    for name, seeds in systems.items():
        roles = declarations.roles(name)
        comparisons = {}
        for other in _others(name, first.set_name, declarations):
            if other in drawn:
                mirror = compared.get((other, name))
                comparisons[other] = compare(drawn[name], drawn[other]) if mirror is None else mirror.reversed
                compared[name, other] = comparisons[other]
        rows.append(ResultRow(
            seeds, wer_interval(drawn[name]), comparisons, tuple(_shares(name, drawn, declarations)), roles=roles,
            pass_of=declarations.pass_of(name), declared=declarations.declares(name)))
    return rows


def _check_words(seeds: tuple[SystemCounts, ...], first: SystemCounts, words: dict[str, int]) -> None:
    for counts in seeds:
        difference = words_difference(words, counts.speakers)
        if difference:
            raise InputError(
                f"{counts.file_name}: {counts.total.words} words, {first.file_name}: {first.total.words}; "
                f"not scored on the same set ({difference}); score the whole split, or mark the part as partial"
            )


def _others(name: str, split: str, declarations: Declarations) -> list[str]:
    """The ids of the systems that one is compared with on a split."""
    claimed = [claim.against for claim in declarations.claims if claim.system == name and claim.split == split]
    related = [*declarations.roles(name).related, *claimed, *declarations.references]
    return [other for other in dict.fromkeys(related) if other != name]


def _shares(name: str, drawn: Mapping[str, DrawnSystem], declarations: Declarations) -> Iterator[ShareOfGap]:
    """A student's shares: from its own baseline and the networks without a teacher that it is compared with."""
    roles = declarations.roles(name)
    if roles.teacher is None or roles.baseline is None:
        return
    teachers = [teacher for teacher in dict.fromkeys((roles.teacher, declarations.headline)) if teacher in drawn]
    baselines = [roles.baseline, *(other for other in roles.versus if _is_plain_baseline(declarations.roles(other)))]
    for baseline in dict.fromkeys(baselines):
        for teacher in teachers:
            if baseline in drawn and baseline not in teachers and teacher is not None:
                share = share_of_gap_closed(drawn[name], drawn[baseline], drawn[teacher])
                if share is not None:
                    yield ShareOfGap(baseline, teacher, share)


def _is_plain_baseline(roles: SystemRoles) -> bool:
    return roles.role == "baseline" and roles.baseline is None and roles.start is None


def _with_claims(rows: list[ResultRow], claims: Sequence[Claim]) -> list[ResultRow]:
    """The rows with the corrected p-values of their claims; claims that cannot be tested count as hypotheses too."""
    place = {(row.split, row.id): number for number, row in enumerate(rows)}
    tested: dict[Claim, float] = {}
    for claim in claims:
        number = place.get((claim.split, claim.system))
        comparison = None if number is None else rows[number].comparisons.get(claim.against)
        if comparison is not None and comparison.p_value is not None:
            tested[claim] = comparison.p_value
    judged = list(rows)
    for claim, corrected in holm(tested, len(claims)).items():
        number = place[claim.split, claim.system]
        row = judged[number]
        judged[number] = replace(row, corrected={**row.corrected, claim.against: corrected},
                                 claims=(*row.claims, claim.against))
        # A pair of claims stands in the row of the second system too.
        other = place[claim.split, claim.against]
        if claim.system in judged[other].comparisons:
            judged[other] = replace(judged[other], corrected={**judged[other].corrected, claim.system: corrected})
    return judged


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
