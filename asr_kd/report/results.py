"""results.json and RESULTS.md of a recipe, made from the counts files of its runs and from nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file, write_json
from asr_kd.core.recipe import find_recipe
from asr_kd.report.comparisons import judge
from asr_kd.report.distillation import (
    CURVES_DRAWING,
    GRID_DRAWING,
    distilled,
    draw_grid_curves,
    draw_learning_curves,
    grid_curves,
    learning_curves,
    render_distillation,
)
from asr_kd.report.markdown import PASSES_DRAWING, render_results
from asr_kd.report.passes import draw_passes, pass_curves
from asr_kd.scoring.system_counts import SystemCounts, read_counts_folder, write_counts

# With so many students that a teacher taught, or fewer, there is nothing to compare on a page of its own.
_FEW_STUDENTS = 2


@dataclass(frozen=True)
class Results:
    """What was written: the rows of results.json, and one line for each counts file that a later run replaced."""

    rows: list[dict[str, Any]]
    replaced: list[str]


def make_results(recipe: Path, from_runs: list[Path] | None = None) -> Results:
    """Merge the runs' `counts/*.json` into `recipe/counts/`, then make `recipe/results.json`, RESULTS.md and, where
    there are distilled students, DISTILLATION.md with their drawings.

    Without runs, from `recipe/counts/` alone. Of the same counts in two places the later run's are kept. All
    is read and checked before anything is written. InputError: no recipe, a run without counts, damaged
    counts, systems of one split that were not scored on the same words.
    """
    recipe = find_recipe(str(recipe))
    sources = [(f"{recipe.name}/counts", read_counts_folder(recipe / "counts"))]
    for run in from_runs or []:
        counts = read_counts_folder(Path(run) / "counts")
        if not counts:
            raise InputError(
                f"{run}: no counts/*.json there; expected a run directory in which a split was scored"
            )
        sources.append((str(run), counts))
    merged, replaced = merge_counts(sources)
    if not merged:
        raise InputError(
            f"{recipe}: no counts yet; give the run directories: asr-kd results {recipe} --from RUN"
        )
    rows = judge(merged)
    for counts_of_one in merged:
        write_counts(recipe / "counts", counts_of_one)
    plain = [row.as_dict() for row in rows]
    write_json(recipe / "results.json", {"rows": plain})
    curves = pass_curves(rows)
    if curves:
        draw_passes(recipe / PASSES_DRAWING, curves)
    if len(distilled(rows, "test")) > _FEW_STUDENTS:
        learning = learning_curves(rows, "dev")
        if learning:
            draw_learning_curves(recipe / CURVES_DRAWING, learning)
        families = grid_curves(rows, "dev", "test")
        if families:
            draw_grid_curves(recipe / GRID_DRAWING, families)
        with atomic_file(recipe / "DISTILLATION.md") as file:
            file.write(render_distillation(recipe.resolve().name, rows))
    with atomic_file(recipe / "RESULTS.md") as file:
        file.write(render_results(recipe.resolve().name, rows))
    return Results(plain, replaced)


def results_rows(counts: Sequence[SystemCounts]) -> list[dict[str, Any]]:
    """The rows of results.json for these counts (a run's own, say), sorted by split and id."""
    return [row.as_dict() for row in judge(counts)]


def merge_counts(
    sources: Iterable[tuple[str, Sequence[SystemCounts]]],
) -> tuple[list[SystemCounts], list[str]]:
    """Counts by file name, of the latest source; with a line for each that differs from what it replaces."""
    kept: dict[str, tuple[str, SystemCounts]] = {}
    replaced: list[str] = []
    for place, counts in sources:
        for new in counts:
            name = new.file_name
            if name in kept and kept[name][1] != new:
                old_place, old = kept[name]
                errors = f"errors {old.total.errors} -> {new.total.errors}"
                replaced.append(f"{name}: {place} replaces {old_place} ({errors})")
            kept[name] = (place, new)
    return [kept[name][1] for name in sorted(kept)], replaced
