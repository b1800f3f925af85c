"""`asr-kd run`: run a recipe."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asr_kd.core.terminal import print_error, print_json, print_text


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    recipe: Annotated[str, typer.Argument(help="Folder with recipe.yaml, or the name of an installed recipe.")],
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Where everything goes (default: runs/RECIPE); the same folder goes on where it stopped."),
    ] = None,
    corpus: Annotated[Path | None, typer.Option(help="The corpus on disk, where the recipe reads one.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="The recipe's own small version, for tests.")] = False,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Run this stage alone.")] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="Begin at this stage.")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="End with this stage.")] = None,
    force: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="Build this stage again.")] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Also the stages of this option.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="A setting.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Initialisation, order, dropout and noise.")] = 1,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Replace finished stages of more than five CPU minutes in all.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Run a recipe: what is done is skipped, what is missing or changed is built.

    Example: asr-kd run recipes/speechocean762 --corpus ../shared/corpora/speechocean762 --run-dir runs/so762
    """
    from asr_kd.report.stages import render_stages
    from asr_kd.report.tables import render_wer_table
    from asr_kd.stages.run import run_recipe

    outcome = run_recipe(
        recipe, run_dir, corpus=corpus, fast=fast, only=only, from_=from_, until=until, force=force,
        option=option, set_=set_, seed=seed, rebuild=rebuild, dry_run=dry_run,
        say=print_error,
    )
    if as_json:
        print_json({"stages": [asdict(s) for s in outcome.stages], "rows": outcome.rows})
        return
    print_text(render_stages(outcome.stages))
    if outcome.rows:
        print_text(render_wer_table(outcome.rows))
