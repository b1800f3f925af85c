"""Scoring files: load, count, judge. `asr-kd score` is this function on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.scoring.bootstrap import (
    DRAWS,
    Comparison,
    Estimate,
    SpeakerDraws,
    System,
    compare,
    draw_speakers,
    mean_wer,
    wer_interval,
)
from asr_kd.scoring.evaluation_set import EvaluationSet, Hypotheses, load_evaluation_set
from asr_kd.scoring.wer import ErrorCounts, count_errors_by_speaker, pool


@dataclass(frozen=True)
class SystemScore:
    """One system: counts per speaker for each seed, its interval, and each seed's utterances without hypothesis."""

    seeds: System
    interval: Estimate
    missing: Sequence[Sequence[str]]

    @property
    def by_speaker(self) -> dict[str, ErrorCounts]:
        """Counts per speaker, seeds pooled."""
        return {speaker: pool(seed[speaker] for seed in self.seeds) for speaker in self.seeds[0]}

    @property
    def total(self) -> ErrorCounts:
        """All speakers and seeds pooled."""
        return pool(self.by_speaker.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an interval that there is not is null."""
        return {
            **_counts_dict(self.total),
            "ci_low": _or_null(self.interval.low),
            "ci_high": _or_null(self.interval.high),
            "wer_per_seed": [mean_wer([seed]) for seed in self.seeds],
            "without_hypothesis": [list(ids) for ids in self.missing],
            "speakers": {speaker: _counts_dict(counts) for speaker, counts in self.by_speaker.items()},
        }


@dataclass(frozen=True)
class Score:
    """A system against the reference and, where asked for, against a second system.

    `unit` is what was drawn for the intervals: "speaker", or "utterance" where no speaker is known.
    `utterances` and `words` were scored, out of `reference_utterances` and `reference_words`: fewer only with
    `--partial`.
    """

    system: SystemScore
    against: SystemScore | None
    comparison: Comparison | None
    unit: str
    utterances: int
    words: int
    reference_utterances: int
    reference_words: int

    @property
    def partial(self) -> bool:
        return self.utterances < self.reference_utterances or self.words < self.reference_words

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        comparison = self.comparison
        return {
            "partial": self.partial,
            "utterances": self.utterances,
            "words": self.words,
            "reference_utterances": self.reference_utterances,
            "reference_words": self.reference_words,
            "interval_by": self.unit,
            "system": self.system.as_dict(),
            "against": None if self.against is None else self.against.as_dict(),
            "comparison": None
            if comparison is None
            else {
                "difference": comparison.difference,
                "ci_low": _or_null(comparison.low),
                "ci_high": _or_null(comparison.high),
                "p_value": comparison.p_value,
            },
        }


def score(
    ref: Path,
    hyp: list[Path],
    against: list[Path] | None = None,
    utt2spk: Path | None = None,
    alignments: Path | None = None,
    trn: Path | None = None,
    text: Path | None = None,
    words: int | None = None,
    partial: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Score:
    """Score hypothesis files (one for each seed of a system) against a reference; Kaldi text or trn.

    Speakers come from `utt2spk`, else from a file of that name beside the reference, else from trn ids; where
    none is known, utterances are drawn. `alignments` is a file to write (`-`: standard output), `trn` and
    `text` are folders that get reference and hypotheses in that format. A reference utterance without
    hypothesis counts as deletions; with `partial` only the utterances that every hypothesis file has are
    scored. `words` is the number of reference words of the whole set. InputError: hypothesis ids not in the
    reference, another number of words (but for `partial`), unreadable files.
    """
    whole = load_evaluation_set(ref, hyp, against or [], utt2spk)
    if words is not None and words != whole.num_words and not (partial and words > whole.num_words):
        raise InputError(
            f"{ref}: {whole.num_words} words in {len(whole.references)} utterances, expected {words}; "
            "give the whole reference, or --partial to mark the score as that of a part"
        )
    part = whole.covered() if partial else whole
    drawn = draw_speakers(part.words_by_speaker(), draws, seed)
    system = _score_system(part, part.hypotheses, drawn)
    other = _score_system(part, part.against, drawn) if part.against else None
    part.export(trn, "trn")
    part.export(text, "text")
    part.write_alignments(alignments)
    return Score(
        system=system,
        against=other,
        comparison=None if other is None else compare(system.seeds, other.seeds, drawn),
        unit=part.unit,
        utterances=len(part.references),
        words=part.num_words,
        reference_utterances=len(whole.references),
        reference_words=max(whole.num_words, words or 0),
    )


def _score_system(part: EvaluationSet, files: Mapping[str, Hypotheses], drawn: SpeakerDraws) -> SystemScore:
    seeds = [count_errors_by_speaker(part.references, words, part.speakers) for words in files.values()]
    missing = [sorted(part.references.keys() - words.keys()) for words in files.values()]
    return SystemScore(seeds, wer_interval(seeds, drawn), missing)


def _counts_dict(counts: ErrorCounts) -> dict[str, Any]:
    return {
        "words": counts.words,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "errors": counts.errors,
        "wer": _or_null(counts.wer),
    }


def _or_null(value: float) -> float | None:
    return None if value != value else value
