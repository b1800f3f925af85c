"""`asr-kd results`."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("results")(results)


def results(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Folder of the recipe.")],
    from_runs: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="RUN", help="Run whose counts to merge; repeatable."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON instead of a table.")] = False,
) -> None:
    """Make RECIPE/results.json, RESULTS.md and, of distilled students, DISTILLATION.md from the counts of its runs.

    Without --from they are rebuilt from RECIPE/counts alone.

    Example: asr-kd results recipes/demo --from runs/demo
    """
    from asr_kd.report.results import make_results
    from asr_kd.report.tables import render_wer_table

    made = make_results(recipe=recipe, from_runs=from_runs)
    for line in [*made.replaced, *made.warnings]:
        typer.echo(line, err=True)
    typer.echo(json_module.dumps({"rows": made.rows}, indent=1) if json else render_wer_table(made.rows))
