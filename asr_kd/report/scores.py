"""A score for the terminal: counts per speaker, intervals, the comparison, what was left aside."""

from collections.abc import Sequence

from asr_kd.report.tables import ABSENT, align_columns, interval, number, p_value
from asr_kd.scoring.bootstrap import FEWEST_SPEAKERS
from asr_kd.scoring.confidence import ConfidenceQuality
from asr_kd.scoring.scores import Score, SystemScore
from asr_kd.scoring.wer import ErrorCounts

_NAMED = 5
_ALIGNMENTS = {"unit": "unit costs", "sclite": "sclite's costs (4/3/3)"}


def render_score(score: Score) -> str:
    """Counts per speaker and overall, intervals, and the comparison with the second system."""
    parts = []
    if score.partial:
        parts.append(
            f"PARTIAL: {score.utterances} of {score.reference_utterances} reference utterances, "
            f"{score.words} of {score.reference_words} words; not the score of the set"
        )
    mark = " (PARTIAL)" if score.partial else ""
    name = "cpWER" if score.metric == "cpwer" else "WER"
    if score.against is None:
        parts.append(_render_system(score.system, f"overall{mark}", score.unit, name))
    else:
        parts.append(_render_system(score.system, f"first system{mark}", score.unit, name))
        parts.append(_render_system(score.against, f"second system{mark}", score.unit, name))
    if score.comparison is not None:
        comparison = score.comparison
        parts.append(
            f"first − second: {comparison.difference:+.2f} % absolute "
            f"(95 % {interval(comparison.low, comparison.high, 2, sign=True)}), "
            f"p = {p_value(comparison.p_value)} (paired bootstrap by {score.unit}): "
            f"{score.verdict or f'no verdict, {score.no_verdict}'}{mark}"
        )
    parts.append(f"text filter {score.text_filter}, {_ALIGNMENTS[score.alignment]}")
    parts += score.hints
    return "\n\n".join(parts)


def _render_system(system: SystemScore, name: str, unit: str, metric: str) -> str:
    heading = [
        unit,
        f"{metric} %",
        "words",
        "errors",
        "sub",
        "del",
        "ins",
    ]
    rows = [_counts_row(speaker, counts) for speaker, counts in system.by_speaker.items()]
    rows.append(_counts_row(name, system.total))
    lines = [align_columns(heading, rows, left={0}), ""]
    over = (
        f", mean of {len(system.seeds)} seeds (counts above are their sums)" if len(system.seeds) > 1 else ""
    )
    found = interval(system.interval.low, system.interval.high, 2)
    lines.append(f"{name}: {metric} {system.interval.value:.2f} % (95 % {found}, bootstrap by {unit}){over}")
    if unit == "utterance":
        lines.append(
            "no speakers known: intervals are by utterance, too narrow where speakers differ; give --utt2spk"
        )
    elif len(system.by_speaker) < 2:
        lines.append(f"one {unit}: no interval by {unit}")
    elif len(system.by_speaker) < FEWEST_SPEAKERS:
        lines.append(f"only {len(system.by_speaker)} {unit}s: intervals and p-values from so few are too narrow")
    for ids in system.missing:
        if ids:
            what = "recordings" if unit == "recording" else "utterances"
            lines.append(f"{len(ids)} {what} without hypothesis, counted as deletions: {_some(ids)}")
    outside = [f"{one.word} ({one.utterance} {one.channel} at {one.start:g} s)" for one in system.outside_words]
    if outside:
        lines.append(f"{len(outside)} words in no segment, counted as insertions: {_some(outside)}")
    if sum(system.ignored):
        lines.append(f"{sum(system.ignored)} words out of bounds for scoring, skipped")
    for seed in system.assignments:
        for recording, pairs in seed.items():
            named = ", ".join(f"{speaker or ABSENT} = {stream or ABSENT}" for speaker, stream in pairs)
            lines.append(f"{recording}: speaker = stream: {named}")
    if system.confidence is not None:
        lines += ["", *_render_confidence(system.confidence, "confidences")]
    if system.calibrated is not None:
        lines += ["", *_render_confidence(system.calibrated, "calibrated confidences")]
    return "\n".join(lines)


def _counts_row(name: str, counts: ErrorCounts) -> list[str]:
    return [
        name,
        number(counts.wer, 2),
        str(counts.words),
        str(counts.errors),
        str(counts.substitutions),
        str(counts.deletions),
        str(counts.insertions),
    ]


def _render_confidence(quality: ConfidenceQuality, name: str) -> list[str]:
    heading = ["confidence", "words", "mean", "correct"]
    rows = [
        [f"{one.low:.1f} to {one.high:.1f}", str(one.words), number(one.confidence, 3), number(one.correct, 3)]
        for one in quality.bins
    ]
    return [
        f"{name}: {quality.correct} of {quality.words} words correct, NCE {number(quality.nce, 3)}, "
        f"ECE {number(quality.ece, 3)}, ROC area {number(quality.roc_area, 3)}",
        align_columns(heading, rows, left={0}),
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
