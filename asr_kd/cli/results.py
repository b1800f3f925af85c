"""`asr-kd results`."""

from pathlib import Path
from typing import Annotated

import typer

from asr_kd.core.terminal import print_error, print_json, print_text


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
        print_error(line)
    if json:
        print_json({"rows": made.rows})
    else:
        print_text(render_wer_table(made.rows))
