"""`asr-kd stages`: the kinds of stage that a recipe may name."""

from dataclasses import asdict
from typing import Annotated

import typer

from asr_kd.core.terminal import print_json, print_text


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stages")(stages)


def stages(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="A kind of stage (default: all).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: all settings of the kinds.")] = False,
) -> None:
    """List the kinds of stage of a recipe with their inputs, or all settings of one KIND with their defaults.

    Example: asr-kd stages network
    """
    from asr_kd.stages.kinds import describe_kinds, render_kind, render_list

    kinds = describe_kinds(kind)
    if as_json:
        print_json([asdict(kind_help) for kind_help in kinds])
    elif kind is None:
        print_text(render_list(kinds))
    else:
        print_text(render_kind(kinds[0]))
