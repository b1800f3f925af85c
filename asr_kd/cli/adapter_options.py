"""Options of commands by which a network is adapted."""

from pathlib import Path
from typing import Annotated

import typer

Adapter = Annotated[
    Path | None, typer.Option(help="Adapter of that network, or a folder of one a speaker (asr-kd adapt).")
]
RefusedToo = Annotated[bool, typer.Option("--refused-too", help="Use adapters that were refused as well.")]
