"""A drawing of word error rate against size: what a parameter buys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr_kd.core.files import atomic_file
from asr_kd.report.comparisons import ResultRow
from asr_kd.report.drawing import svg_figure

SIZE_DRAWING = "size.svg"
_TITLES = {"student": "distilled students", "baseline": "networks without a teacher", "teacher": "teachers",
           None: "Gaussian mixtures"}
_MARKERS = {"student": "D", "baseline": "o", "teacher": "^", None: "s"}
_HIGHEST = 1.35  # times the lowest error rate: systems far above it would flatten the rest


def sized_rows(rows: Sequence[ResultRow], split: str) -> list[ResultRow]:
    """Return the systems of a split whose number of parameters is known, passes of a training left out."""
    return [row for row in rows if row.split == split and row.pass_of is None and row.largest("params")]


def draw_sizes(path: Path, rows: Sequence[ResultRow]) -> None:
    """Draw a point for each system, parameters against WER (percent), as SVG.

    The best system of each role and size has its 95 % interval and its id beside it. Systems with more than 1.35 times
    the lowest WER are left out.
    """
    highest = _HIGHEST * min(row.wer.value for row in rows)
    with atomic_file(path) as file, svg_figure(file, 7.6, 4.6) as figure:
        axes = figure.subplots()
        for index, (role, title) in enumerate(_TITLES.items()):
            of_role = [row for row in rows if row.roles.role == role and row.wer.value <= highest]
            if not of_role:
                continue
            axes.plot([_millions(row) for row in of_role], [row.wer.value for row in of_role], linestyle="",
                      marker=_MARKERS[role], markersize=4, alpha=0.6, color=f"C{index}", label=title)
            for row in _best_of_each_size(of_role):
                _mark(axes, row, f"C{index}", raised=4 * index - 4)
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("parameters, millions")
        axes.set_ylabel(f"WER on {rows[0].split}, %")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)


def _mark(axes: Any, row: ResultRow, colour: str, raised: int) -> None:
    """Draw the interval of a system, and its id, `raised` points above its middle."""
    at = _millions(row), row.wer.value
    axes.annotate(row.id, at, fontsize=6, xytext=(6, raised), textcoords="offset points")
    if row.wer.low is not None and row.wer.high is not None:
        below, above = row.wer.value - row.wer.low, row.wer.high - row.wer.value
        axes.errorbar(*at, yerr=[[below], [above]], color=colour, capsize=2, linewidth=0.8)


def _best_of_each_size(rows: Sequence[ResultRow]) -> list[ResultRow]:
    best: dict[float, ResultRow] = {}
    for row in sorted(rows, key=lambda row: row.wer.value):
        best.setdefault(_millions(row), row)
    return list(best.values())


def _millions(row: ResultRow) -> float:
    return (row.largest("params") or 0) / 1e6
