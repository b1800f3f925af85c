"""Options of commands that read audio."""

from typing import Annotated

import typer

Resample = Annotated[bool, typer.Option("--resample", help="Convert audio of other sampling rates.")]
MixDown = Annotated[bool, typer.Option("--mix-down", help="Take the mean of several channels.")]
SamplingRate = Annotated[
    int | None, typer.Option(min=1, help="Sampling rate of the recogniser, Hz (default: that of the audio).")
]
