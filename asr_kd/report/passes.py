"""How sequence training went, pass by pass: a table and a drawing of what the counts hold."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.files import atomic_file
from asr_kd.report.comparisons import ResultRow
from asr_kd.report.tables import markdown_table, number
from asr_kd.scoring.system_counts import TrainingPass

# A row of this id, scored on dev, is a network of another pass than the one chosen: ID-pass2.
_OF_PASS = "-pass"


def is_of_pass(row: ResultRow) -> bool:
    """Whether the row is a point of another one's curve."""
    return _OF_PASS in row.id


@dataclass(frozen=True)
class PassCurve:
    """A system's passes, each value the mean over seeds: criterion (its name and values) and frame accuracy (percent)
    on held-out training speakers, WER on dev where that pass was scored."""

    id: str
    criterion: str
    numbers: list[int]
    values: list[float]
    frame_accuracy: list[float]
    dev_wer: dict[int, float]


def pass_curves(rows: Sequence[ResultRow], split: str = "dev") -> list[PassCurve]:
    """The curves of all systems with passes among the rows of `split`; rows `ID-passN` are points of ID's curve."""
    of_split = {row.id: row for row in rows if row.split == split}
    curves = []
    for name, row in of_split.items():
        seeds = [counts.passes for counts in row.counts if counts.passes]
        if not seeds or is_of_pass(row):
            continue
        by_number: dict[int, list[TrainingPass]] = defaultdict(list)
        for one in (one for passes in seeds for one in passes):
            by_number[one.number].append(one)
        wers = {n: of_split[f"{name}{_OF_PASS}{n}"].wer.value for n in by_number if f"{name}{_OF_PASS}{n}" in of_split}
        curves.append(PassCurve(
            name, seeds[0][0].criterion, sorted(by_number),
            [float(np.mean([p.value for p in by_number[n]])) for n in sorted(by_number)],
            [float(np.mean([p.frame_accuracy for p in by_number[n]])) for n in sorted(by_number)], wers))
    return curves


def passes_table(curves: Sequence[PassCurve]) -> str:
    """Markdown: a row a system and measure, a column a pass."""
    last = max(curve.numbers[-1] for curve in curves)
    passes = range(last + 1)

    def cells(values: dict[int, float], digits: int) -> list[str]:
        return [number(values.get(n), digits) for n in passes]

    lines = []
    for curve in curves:
        values = dict(zip(curve.numbers, curve.values, strict=True))
        lines.append([f"`{curve.id}`", curve.criterion, *cells(values, 4)])
        accuracy = dict(zip(curve.numbers, curve.frame_accuracy, strict=True))
        lines.append([f"`{curve.id}`", "frame accuracy %", *cells(accuracy, 2)])
        if curve.dev_wer:
            lines.append([f"`{curve.id}`", "dev WER %", *cells(curve.dev_wer, 2)])
    return markdown_table(["id", "after pass", *map(str, passes)], lines, left={0, 1})


def draw_passes(path: Path, curves: Sequence[PassCurve]) -> None:
    """An SVG of the curves: criterion, frame accuracy and dev WER by pass."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    criteria = [(f"{criterion} on held-out speakers, a frame", _values_of(criterion))
                for criterion in dict.fromkeys(curve.criterion for curve in curves)]
    measures: list[tuple[str, Callable[[PassCurve], tuple[list[int], list[float]]]]] = [
        *criteria,
        ("frame accuracy on held-out speakers, %", lambda curve: (curve.numbers, curve.frame_accuracy)),
        ("dev WER, %", lambda curve: (sorted(curve.dev_wer), [curve.dev_wer[n] for n in sorted(curve.dev_wer)]))]
    shown = measures if any(curve.dev_wer for curve in curves) else measures[:-1]
    # Fixed names of elements and no date: the same curves give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "asr_kd", "svg.fonttype": "none"}):
        figure, panels = pyplot.subplots(1, len(shown), figsize=(4.6 * len(shown), 4.2), layout="constrained")
        for panel, (title, values) in zip(panels, shown, strict=True):
            for index, curve in enumerate(curves):
                panel.plot(*values(curve), marker="o", markersize=4, color=f"C{index % 10}",
                           linestyle="-" if index < 10 else "--", label=curve.id)
            panel.set_title(title, fontsize=10)
            panel.set_xlabel("pass")
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.grid(alpha=0.3)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
        with atomic_file(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _values_of(criterion: str) -> Callable[[PassCurve], tuple[list[int], list[float]]]:
    """Passes and values of the curves of one criterion; nothing for the others."""
    return lambda curve: (curve.numbers, curve.values) if curve.criterion == criterion else ([], [])
