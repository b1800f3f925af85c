"""Plain tables, for the terminal and in Markdown."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len

ABSENT = "–"
_NAMED = 5


def render_wer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row of the results (a system on a split), for the terminal."""
    heading = ["id", "split", "WER %", "95 %", "words", "OOV %", "seeds", "frame acc %", "params", "bytes",
               "LM weight", "train CPU min", "RTF", "p versus (Holm)"]
    lines = [
        [
            row["id"],
            row["split"],
            number(row["wer"], 2),
            interval(row["ci_low"], row["ci_high"], 1),
            str(row["words"]),
            oov_rate(row["oov_rate"], row["closed_vocabulary"]),
            seeds_count(len(row["seeds"])),
            number(row["frame_accuracy"], 2),
            number(row["params"]),
            number(row["bytes"]),
            "; ".join(dict.fromkeys(f"{weight:g}" for weight in row["lm_weights"])) or ABSENT,
            number(row["train_minutes"], 1),
            number(row["real_time_factor"], 3),
            _versus(row),
        ]
        for row in rows
    ]
    return "\n".join([align_columns(heading, lines, left={0, 1, 13}), *_notes(rows)])


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each note, with the rows that it belongs to."""
    named: dict[str, list[str]] = {}
    for row in rows:
        for note in row["notes"]:
            named.setdefault(note, []).append(f"{row['id']} {row['split']}")
    return [f"{note}: {', '.join(names[:_NAMED])}" + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
            for note, names in named.items()]


def _versus(row: Mapping[str, Any]) -> str:
    """Uncorrected p-values, that after Holm's correction behind each claim."""
    shown = []
    for other, p in row["versus"].items():
        corrected = row["versus_holm"][other]
        shown.append(f"{other} {p_value(p)}" + ("" if corrected is None else f" ({p_value(corrected)})"))
    return ", ".join(shown) or ABSENT


def seeds_count(count: int) -> str:
    """The number of a row's seeds; one, which carries no verdict, in words."""
    return "one seed" if count == 1 else str(count)


def oov_rate(rate: float | None, closed: bool | None) -> str:
    """The rate of out-of-vocabulary words, percent, marked where the vocabulary is closed."""
    return number(rate, 2) + (" closed" if closed else "")


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
    """A Markdown table; `|` in a cell is escaped, wherever it stands."""
    rule = ["---" if column in left else "--:" for column in range(len(heading))]
    lines = [heading, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Text as Markdown code that shows every character of it and nothing else, unprintable ones escaped."""
    shown = printable(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    if not longest:
        return f"`{shown}`"
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}"


def plain_text(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    escaped = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]~!#])", r"\\\1", escaped)


def printable(text: str) -> str:
    """Text with its control characters, line ends and what turns the direction of writing as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


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


def p_value(p: float | None) -> str:
    """A p-value with two significant digits, never rounded to zero; a dash where there is none."""
    return ABSENT if p is None else f"{p:.2g}"
