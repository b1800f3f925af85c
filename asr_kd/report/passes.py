"""Sequence training pass by pass: a table and a drawing of what the counts hold."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.files import atomic_file
from asr_kd.report.comparisons import ResultRow
from asr_kd.report.drawing import draw_panels
from asr_kd.report.tables import markdown_table, number
from asr_kd.scoring.system_counts import SystemCounts, TrainingPass


@dataclass(frozen=True)
class PassCurve:
    """A system's passes, each value the mean over seeds: the criterion (its name, and by pass) and frame accuracy
    (percent) on held-out training speakers, WER of the passes that were scored, on the split that weights are chosen
    on, by the seeds of which all were.
    """

    id: str
    criterion: str
    values: dict[int, float]
    frame_accuracy: dict[int, float]
    wer: dict[int, float]


def pass_curves(rows: Sequence[ResultRow], split: str = "dev") -> list[PassCurve]:
    """The curves of all systems with passes among the rows of `split`.

    Rows of passes are points of their system's curve, and where there are some, so is the system that its training
    set out from.
    """
    of_split = {row.id: row for row in rows if row.split == split}
    curves = []
    for row in of_split.values():
        scored = _scored_passes(row, of_split)
        seeds = _longest([counts for one in (row, *scored.values()) for counts in one.counts])
        if seeds and row.pass_of is None:
            curves.append(PassCurve(row.id, seeds[0][0].criterion, _means(seeds, "value"),
                                    _means(seeds, "frame_accuracy"), _wer(scored)))
    return curves


def _scored_passes(row: ResultRow, of_split: Mapping[str, ResultRow]) -> dict[int, ResultRow]:
    """The rows of a system's passes by number; where there are some, its start is pass 0."""
    scored = {other.pass_of[1]: other for other in of_split.values()
              if other.pass_of is not None and other.pass_of[0] == row.id}
    start = row.roles.start
    if scored and start is not None and start in of_split:
        scored[0] = of_split[start]
    return scored


def _means(seeds: Sequence[tuple[TrainingPass, ...]], field: str) -> dict[int, float]:
    """A field's mean by pass, over the seeds that have it."""
    values: dict[int, list[float]] = defaultdict(list)
    for one in (one for passes in seeds for one in passes):
        if getattr(one, field) is not None:
            values[one.number].append(getattr(one, field))
    return {n: float(np.mean(values[n])) for n in sorted(values)}


def _longest(counts: Sequence[SystemCounts]) -> list[tuple[TrainingPass, ...]]:
    """The passes of each seed; where its training went on for the sake of the curve, those of all that."""
    longest: dict[int, tuple[TrainingPass, ...]] = {}
    for one in counts:
        if len(one.passes or ()) > len(longest.get(one.seed, ())):
            longest[one.seed] = one.passes or ()
    return list(longest.values())


def _wer(scored: Mapping[int, ResultRow]) -> dict[int, float]:
    """WER by pass, the mean over the seeds that have all of them."""
    seeds = [{counts.seed for counts in one.counts} for one in scored.values()]
    common = set.intersection(*seeds) if seeds else set()
    return {number: float(np.mean([counts.total.wer for counts in one.counts if counts.seed in common]))
            for number, one in sorted(scored.items()) if common}


def passes_table(curves: Sequence[PassCurve], split: str) -> str:
    """Markdown: a row a system and measure, a column a pass."""
    passes = range(max(max(curve.values) for curve in curves) + 1)

    def cells(values: dict[int, float], digits: int) -> list[str]:
        return [number(values.get(n), digits) for n in passes]

    lines = []
    for curve in curves:
        lines.append([f"`{curve.id}`", curve.criterion, *cells(curve.values, 4)])
        lines += [[f"`{curve.id}`", measure, *cells(values, 2)] for measure, values in (
            ("frame accuracy %", curve.frame_accuracy), (f"{split} WER %", curve.wer)) if values]
    return markdown_table(["id", "after pass", *map(str, passes)], lines, left={0, 1})


def draw_passes(path: Path, curves: Sequence[PassCurve], split: str) -> None:
    """An SVG of the curves: criterion, frame accuracy and WER by pass."""
    panels = [(f"{name} on held-out speakers, a frame", {c.id: c.values for c in curves if c.criterion == name})
              for name in dict.fromkeys(curve.criterion for curve in curves)]
    panels.append(("frame accuracy on held-out speakers, %", {c.id: c.frame_accuracy for c in curves}))
    panels.append((f"{split} WER, %", {c.id: c.wer for c in curves if c.wer}))
    with atomic_file(path) as file:
        draw_panels(file, [panel for panel in panels if panel[1]], "pass")
