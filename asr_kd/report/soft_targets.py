"""The cached soft targets that students learnt from: what they leave out, and their size."""

from collections.abc import Iterable

import numpy as np

from asr_kd.report.comparisons import ResultRow
from asr_kd.report.tables import markdown_table, number
from asr_kd.scoring.system_counts import SoftTargetsCounts


def soft_targets_table(students: Iterable[ResultRow]) -> str | None:
    """Markdown, a line for each cache, or those of several seeds, means over seeds; None where no student had one.

    Students whose first seeds learnt from the same cache share a line: the rest of them may have one seed alone.
    """
    learners: dict[SoftTargetsCounts, dict[str, list[SoftTargetsCounts]]] = {}
    for row in students:
        found = [counts.soft_targets for counts in row.counts if counts.soft_targets is not None]
        if found:
            learners.setdefault(found[0], {})[row.id] = found
    if not learners:
        return None
    heading = ["soft targets of", "students", "seeds", "T", "pdfs kept", "of", "hours", "lost mass",
               "divergence lacks at most", "gradient's error at most", "MB an hour"]
    cells = []
    for first, by_id in learners.items():
        name_of_line = min(by_id, key=lambda one: (-len(by_id[one]), len(one)))
        seeds = by_id[name_of_line]
        mean = {name: float(np.mean([getattr(one, name) for one in seeds]))
                for name in ("lost_mass", "divergence_error", "gradient_error")}
        cells.append([
            f"`{name_of_line}`", str(len(by_id)), str(len(seeds)),
            f"{first.temperature:g}", str(first.top_k), str(first.num_pdfs), number(first.hours, 1),
            number(mean["lost_mass"], 4), number(mean["divergence_error"], 3), number(mean["gradient_error"], 3),
            number(first.bytes_per_hour / 1e6, 0)])
    return markdown_table(heading, cells, left={0})
