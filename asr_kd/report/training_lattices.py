"""The lattices that sequence training had: how they were searched, how good they are, a line a network and split."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from asr_kd.report.comparisons import ResultRow
from asr_kd.report.tables import ABSENT, markdown_table, number
from asr_kd.scoring.system_counts import LatticeCounts, TrainingLatticesCounts


def training_lattices_table(rows: Sequence[ResultRow], split: str = "dev") -> str | None:
    """Markdown, means over seeds, from the rows of `split`; None where no system was trained on lattices.

    Systems that set out from the same one have its lattices: one line for all of them.
    """
    by_start: dict[str, tuple[TrainingLatticesCounts, ...]] = {}
    for row in rows:
        start = row.roles.start or row.id
        found = tuple(counts.training_lattices for counts in row.counts if counts.training_lattices is not None)
        if row.split == split and row.pass_of is None and len(found) > len(by_start.get(start, ())):
            by_start[start] = found
    if not by_start:
        return None
    heading = ["lattices by", "of", "seeds", "acoustic scale", "beam", "lattice beam", "utterances", "dropped",
               "numerators added", "without numerator", "WER %", "oracle WER %", "arcs a frame", "MB"]
    return markdown_table(heading, [line for start, found in by_start.items() for line in _lines(start, found)],
                          left={0, 1})


def _lines(start: str, seeds: Sequence[TrainingLatticesCounts]) -> list[list[str]]:
    """The training speech first; numerators belong to it alone."""
    own = [number(float(np.mean([getattr(one, name) for one in seeds])))
           for name in ("dropped", "numerators_added", "without_numerator")]
    search = [f"{getattr(seeds[0], name):g}" for name in ("acoustic_scale", "beam", "lattice_beam")]
    lines = []
    for place, known in enumerate(seeds[0].splits):
        mean = {field.name: float(np.mean([getattr(one.splits[place], field.name) for one in seeds]))
                for field in fields(LatticeCounts) if field.name != "split"}
        lines.append([
            f"`{start}`", known.split, str(len(seeds)), *search, number(mean["utterances"]),
            *(own if place == 0 else [ABSENT] * 3), number(mean["wer"], 2), number(mean["oracle_wer"], 2),
            number(mean["arcs_per_frame"], 2), number(mean["bytes"] / 1e6, 1)])
    return lines
