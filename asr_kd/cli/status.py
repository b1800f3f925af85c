"""`asr-kd status`: what a run directory holds."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asr_kd.core.terminal import print_json, print_text


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which stages of a run directory are done, what they cost, and what no longer holds.

    Example: asr-kd status runs/so762
    """
    from asr_kd.core.run_directory import read_status
    from asr_kd.report.stages import render_stages

    reports = read_status(directory)
    if as_json:
        print_json([asdict(r) for r in reports])
    else:
        print_text(render_stages(reports))
