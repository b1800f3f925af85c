"""results.json and RESULTS.md of a recipe, made from the counts files of its runs and from nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file, write_json
from asr_kd.core.recipe import find_recipe
from asr_kd.report.adaptation import (
    ADAPTATION_DRAWING,
    FORGETTING_DRAWING,
    adapted_rows,
    draw_adaptation,
    draw_forgetting,
    forgetting_points,
    render_adaptation,
    seconds_curves,
)
from asr_kd.report.comparisons import ResultRow, judge
from asr_kd.report.declarations import Declarations, read_declarations
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
from asr_kd.report.run_counts import read_run_counts
from asr_kd.report.size import SIZE_DRAWING, draw_sizes, sized_rows
from asr_kd.scoring.gate_trials import GATE_TRIALS, GateTrials, read_trials_folder, write_trials
from asr_kd.scoring.system_counts import SystemCounts, read_counts_folder, write_counts


@dataclass(frozen=True)
class Results:
    """The rows of results.json, a line for each counts file that a later run replaced, and warnings."""

    rows: list[dict[str, Any]]
    replaced: list[str]
    warnings: list[str] = field(default_factory=list)


def make_results(recipe: Path, from_runs: list[Path] | None = None) -> Results:
    """Merge the runs' `counts/*.json` (and `gate_trials/*.json`) into the recipe's and make its pages from them.

    The pages are `recipe/results.json`, RESULTS.md and, where there are students, DISTILLATION.md, with their drawings.
    Without runs they are made from `recipe/counts/` alone. Of the same counts in two places the later run's are kept.
    All is read and checked before anything is written. InputError: no recipe, a run without counts, damaged counts or
    counts that the run's own stage did not write, systems of one split that were not scored on the same words.
    """
    recipe = find_recipe(str(recipe))
    declarations = read_declarations(recipe)
    sources = [(f"{recipe.name}/counts", read_counts_folder(recipe / "counts"))]
    warnings: dict[str, str] = {}
    for run in from_runs or []:
        counts = read_run_counts(Path(run))
        if not counts.counts:
            raise InputError(
                f"{run}: no counts/*.json there; expected a run directory in which a split was scored"
            )
        for reason in counts.refused.values():
            raise InputError(reason)
        warnings.update(counts.warnings)
        sources.append((str(run), counts.counts))
    merged, replaced = merge_counts(sources)
    if not merged:
        raise InputError(
            f"{recipe}: no counts yet; give the run directories: asr-kd results {recipe} --from RUN"
        )
    rows = judge(merged, declarations)
    for counts_of_one in merged:
        write_counts(recipe / "counts", counts_of_one)
    for run in from_runs or []:
        for trials in read_trials_folder(Path(run) / GATE_TRIALS):
            write_trials(recipe / GATE_TRIALS, trials)
    write_pages(recipe, place_of(recipe), rows, declarations, read_trials_folder(recipe / GATE_TRIALS))
    said = [f"{name}: {warning}" for name, warning in sorted(warnings.items())]
    return Results([row.as_dict() for row in rows], replaced, said)


def write_pages(
    folder: Path, place: str, rows: Sequence[ResultRow], declarations: Declarations, trials: Sequence[GateTrials] = ()
) -> None:
    """Write the pages of the recipe at `place` into a folder.

    They are results.json, RESULTS.md, DISTILLATION.md where there are students, ADAPTATION.md where some were adapted,
    and the drawings that these show.
    """
    write_json(folder / "results.json", {"rows": [row.as_dict() for row in rows]})
    curves = pass_curves(rows, declarations.tuned_on)
    if curves:
        draw_passes(folder / PASSES_DRAWING, curves, declarations.tuned_on)
    sized = sized_rows(rows, declarations.judged_on)
    if sized:
        draw_sizes(folder / SIZE_DRAWING, sized)
    if any(distilled(rows, split) for split in {row.split for row in rows}):
        learning = learning_curves(rows, declarations.tuned_on)
        if learning:
            draw_learning_curves(folder / CURVES_DRAWING, learning)
        families = grid_curves(rows, declarations.tuned_on)
        if families:
            draw_grid_curves(folder / GRID_DRAWING, families)
        with atomic_file(folder / "DISTILLATION.md") as file:
            file.write(render_distillation(place, rows, declarations))
    adapted = adapted_rows(rows)
    if adapted:
        curves_of_seconds = seconds_curves(rows)
        if curves_of_seconds:
            draw_adaptation(folder / ADAPTATION_DRAWING, curves_of_seconds)
        forgotten = forgetting_points(rows)
        if forgotten:
            draw_forgetting(folder / FORGETTING_DRAWING, forgotten)
        with atomic_file(folder / "ADAPTATION.md") as file:
            file.write(render_adaptation(place, rows, trials))
    with atomic_file(folder / "RESULTS.md") as file:
        file.write(render_results(place, rows, declarations))


def place_of(recipe: Path) -> str:
    """The place of a recipe as its pages name it.

    `recipes/NAME` for a recipe of the project, the path from the present folder for one below it, else the whole path.
    """
    import recipes

    folder = recipe.resolve()
    if folder.parent in [Path(root).resolve() for root in recipes.__path__]:
        return f"recipes/{folder.name}"
    here = Path.cwd().resolve()
    return str(folder.relative_to(here)) if here in folder.parents else str(folder)


def results_rows(
    counts: Sequence[SystemCounts], declarations: Declarations | None = None,
    warnings: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The rows of results.json for these counts (a run's own, say), sorted by split and id; see `judge`."""
    return [row.as_dict() for row in judge(counts, declarations, warnings)]


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
