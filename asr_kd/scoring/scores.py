"""Results of scoring: one system or two, counts per speaker, intervals, what was left aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from asr_kd.data.ctm import CtmWord
from asr_kd.scoring.bootstrap import Comparison, Estimate, System, Verdict
from asr_kd.scoring.confidence import ConfidenceQuality
from asr_kd.scoring.wer import Alignment, ErrorCounts, pool

Metric = Literal["wer", "cpwer"]
Assignment = Sequence[tuple[str | None, str | None]]


@dataclass(frozen=True)
class SystemScore:
    """One system: counts per speaker (cpWER: per recording) for each seed, its interval, and by seed: `missing`
    utterances (recordings) without hypothesis; `outside`, words in no segment (insertions) by speaker; `ignored`, how
    many words were out of bounds; `assignments`, cpWER's (speaker, stream) pairs of each recording.

    `confidence` is the quality of the words' confidences, seeds together; `calibrated` the same through the map given.
    """

    seeds: System
    interval: Estimate
    missing: Sequence[Sequence[str]]
    outside: Sequence[Mapping[str, Sequence[CtmWord]]] = ()
    ignored: Sequence[int] = ()
    confidence: ConfidenceQuality | None = None
    calibrated: ConfidenceQuality | None = None
    assignments: Sequence[Mapping[str, Assignment]] = ()

    @property
    def by_speaker(self) -> dict[str, ErrorCounts]:
        """Counts per speaker, seeds pooled."""
        counts = list(self.seeds.values())
        return {speaker: pool(of_seed[speaker] for of_seed in counts) for speaker in counts[0]}

    @property
    def total(self) -> ErrorCounts:
        """All speakers and seeds pooled."""
        return pool(self.by_speaker.values())

    @property
    def outside_words(self) -> list[CtmWord]:
        """The words in no segment, all seeds."""
        return [word for seed in self.outside for words in seed.values() for word in words]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an interval that there is not is null."""
        return {
            **_counts_dict(self.total),
            "ci_low": self.interval.low,
            "ci_high": self.interval.high,
            "wer_per_seed": [pool(counts.values()).wer for counts in self.seeds.values()],
            "without_hypothesis": [list(ids) for ids in self.missing],
            "in_no_segment": [
                {"recording": one.utterance, "channel": one.channel, "start": one.start, "word": one.word}
                for one in self.outside_words
            ],
            "ignored_words": sum(self.ignored),
            "confidence": None if self.confidence is None else self.confidence.as_dict(),
            "calibrated_confidence": None if self.calibrated is None else self.calibrated.as_dict(),
            "assignments": [
                {name: [list(pair) for pair in pairs] for name, pairs in seed.items()} for seed in self.assignments
            ],
            "speakers": {speaker: _counts_dict(counts) for speaker, counts in self.by_speaker.items()},
        }


@dataclass(frozen=True)
class Score:
    """A system against the reference and, where asked for, against a second system.

    `unit` is what was drawn for the intervals: "speaker", "utterance" where no speaker is known, "recording" for
    cpWER. `utterances` and `words` were scored, out of `reference_utterances` and `reference_words`: fewer only with
    `--partial`. `metric`, `alignment` and `text_filter` (name and version) say how words were compared; `hints`
    what may have been compared in vain.
    """

    system: SystemScore
    against: SystemScore | None
    comparison: Comparison | None
    unit: str
    utterances: int
    words: int
    reference_utterances: int
    reference_words: int
    metric: Metric = "wer"
    alignment: Alignment = "unit"
    text_filter: str = "none-1"
    hints: tuple[str, ...] = ()

    @property
    def no_verdict(self) -> str | None:
        """The reason why the comparison shows nothing, whatever p is; None where it has a verdict."""
        if self.comparison is None:
            return None
        if self.unit == "utterance":
            return "speakers not known"
        reason = self.comparison.undecidable
        return None if reason is None else reason.replace("speaker", self.unit)

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the first system; None where nothing is shown."""
        return None if self.comparison is None or self.no_verdict else self.comparison.verdict()

    @property
    def partial(self) -> bool:
        return self.utterances < self.reference_utterances or self.words < self.reference_words

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        comparison = self.comparison
        return {
            "partial": self.partial,
            "metric": self.metric,
            "alignment": self.alignment,
            "text_filter": self.text_filter,
            "hints": list(self.hints),
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
                "ci_low": comparison.low,
                "ci_high": comparison.high,
                "p_value": comparison.p_value,
                "verdict": self.verdict,
                "no_verdict": self.no_verdict,
            },
        }


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
