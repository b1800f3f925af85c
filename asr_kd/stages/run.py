"""Running a recipe from Python; `asr-kd run` is the same job."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.recipe import find_recipe, read_recipe
from asr_kd.core.run_directory import RunDirectory
from asr_kd.core.runner import Runner, Selection
from asr_kd.core.stages import StageReport
from asr_kd.report.declarations import read_declarations
from asr_kd.report.results import results_rows
from asr_kd.report.run_counts import read_run_counts
from asr_kd.stages.registry import STAGE_KINDS


@dataclass(frozen=True)
class RunOutcome:
    """A report of each stage, and a row for each system and split that the run directory has counts of."""

    stages: list[StageReport]
    rows: list[dict[str, Any]]


def run_recipe(
    recipe: str,
    run_dir: Path | None = None,
    corpus: Path | None = None,
    fast: bool = False,
    only: str | None = None,
    from_: str | None = None,
    until: str | None = None,
    force: list[str] | None = None,
    option: list[str] | None = None,
    set_: list[str] | None = None,
    seed: int = 1,
    rebuild: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> RunOutcome:
    """Run the recipe (a folder, or the name of an installed one) in `run_dir` (default: `runs/` and the recipe's name);
    what is done there is skipped.

    `corpus` is the corpus's folder where the recipe reads one. `option` adds stages that the recipe has under that
    name, `set_` holds overrides `STAGE.KEY=VALUE`, `force` stages to build again. Finished stages of more than five CPU
    minutes in all are replaced only with `rebuild` (or as `force` asks for). Raises InputError for wrong usage
    or input (before any work), WorkError where a stage fails. `say` is told what begins.
    """
    folder = find_recipe(recipe)
    resolved = read_recipe(folder, STAGE_KINDS, fast=fast, options=option, overrides=set_, seed=seed)
    declarations = read_declarations(folder)
    selection = Selection(only, from_, until, tuple(force or ()))
    selection.of(resolved)
    command = _command(recipe, corpus, fast, option, set_, seed)
    directory = RunDirectory(Path("runs") / resolved.name if run_dir is None else Path(run_dir))
    runner = Runner(resolved, directory, corpus, seed, command, say)
    if dry_run:
        return RunOutcome(runner.plan(selection, rebuild), [])
    directory.lock(command)
    try:
        reports = runner.run(selection, rebuild)
    finally:
        directory.unlock()
    found = read_run_counts(directory.path)
    warnings = {**found.warnings, **found.refused}
    return RunOutcome(reports, results_rows(found.counts, declarations, warnings))


def _command(
    recipe: str, corpus: Path | None, fast: bool, option: list[str] | None, set_: list[str] | None, seed: int
) -> str:
    """The command that makes the same figures, without the place where they are put."""
    parts = ["asr-kd", "run", recipe]
    parts += ["--corpus", str(corpus)] if corpus is not None else []
    parts += ["--fast"] if fast else []
    parts += [part for name in option or [] for part in ("--option", name)]
    parts += [part for override in set_ or [] for part in ("--set", override)]
    parts += ["--seed", str(seed)]
    return shlex.join(parts)
