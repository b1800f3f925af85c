"""Plain tables, for the terminal and in Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len

ABSENT = "–"


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
            "train CPU min",
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
