"""Plain tables, for the terminal and in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from asr_kd.scoring.api import Score, SystemScore
from asr_kd.scoring.wer import ErrorCounts

ABSENT = "–"
_NAMED = 5


def render_wer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row of the results (a system on a split), for the terminal."""
    return align_columns(
        [
            "id",
            "split",
            "WER %",
            "95 %",
            "words",
            "seeds",
            "frame acc %",
            "params",
            "train min",
            "RTF",
            "p versus",
        ],
        [
            [
                row["id"],
                row["split"],
                number(row["wer"], 2),
                interval(row["ci_low"], row["ci_high"], 1),
                str(row["words"]),
                str(len(row["seeds"])),
                number(row["frame_accuracy"], 2),
                number(row["params"]),
                number(row["train_minutes"], 1),
                number(row["real_time_factor"], 3),
                ", ".join(f"{other} {p_value(p)}" for other, p in row["versus"].items()) or ABSENT,
            ]
            for row in rows
        ],
        left={0, 1, 10},
    )


def render_score(score: Score) -> str:
    """Counts per speaker and overall, intervals, and the comparison with the second system."""
    parts = []
    if score.partial:
        parts.append(
            f"PARTIAL: {score.utterances} of {score.reference_utterances} reference utterances, "
            f"{score.words} of {score.reference_words} words; not the score of the set"
        )
    mark = " (PARTIAL)" if score.partial else ""
    if score.against is None:
        parts.append(_render_system(score.system, f"overall{mark}", score.unit))
    else:
        parts.append(_render_system(score.system, f"first system{mark}", score.unit))
        parts.append(_render_system(score.against, f"second system{mark}", score.unit))
    if score.comparison is not None:
        comparison = score.comparison
        parts.append(
            f"first − second: {comparison.difference:+.2f} % absolute "
            f"(95 % {interval(comparison.low, comparison.high, 2, sign=True)}), "
            f"p = {p_value(comparison.p_value)} (paired bootstrap by {score.unit}){mark}"
        )
    return "\n\n".join(parts)


def align_columns(heading: Sequence[str], rows: Sequence[Sequence[str]], left: set[int]) -> str:
    """A plain table; the columns numbered in `left` are set left, the others right."""
    widths = [max(cell_len(line[column]) for line in (heading, *rows)) for column in range(len(heading))]

    def set_cell(text: str, column: int) -> str:
        space = " " * (widths[column] - cell_len(text))
        return text + space if column in left else space + text

    lines = [
        "  ".join(set_cell(text, i) for i, text in enumerate(line)).rstrip() for line in (heading, *rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]], left: set[int]) -> str:
    """A Markdown table; `|` in a cell is escaped."""
    rule = ["---" if column in left else "--:" for column in range(len(heading))]
    lines = [heading, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int = 0, sign: bool = False) -> str:
    """A number with a fixed count of decimals, thousands apart; a dash where there is none."""
    if value is None or math.isnan(value):
        return ABSENT
    return f"{value:{'+' if sign else ''},.{digits}f}"


def interval(low: float | None, high: float | None, digits: int, sign: bool = False) -> str:
    """`low to high`; a dash where there is no interval."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ABSENT
    return f"{number(low, digits, sign)} to {number(high, digits, sign)}"


def p_value(p: float) -> str:
    """A p-value with two significant digits, never rounded to zero."""
    return f"{p:.2g}"


def _render_system(system: SystemScore, name: str, unit: str) -> str:
    heading = [
        "speaker" if unit == "speaker" else "utterance",
        "WER %",
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
    lines.append(f"{name}: WER {system.interval.value:.2f} % (95 % {found}, bootstrap by {unit}){over}")
    if unit == "utterance":
        lines.append(
            "no speakers known: intervals are by utterance, too narrow where speakers differ; give --utt2spk"
        )
    elif len(system.by_speaker) < 2:
        lines.append("one speaker: no interval by speaker")
    for ids in system.missing:
        if ids:
            named = ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
            lines.append(f"{len(ids)} utterances without hypothesis, counted as deletions: {named}")
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
