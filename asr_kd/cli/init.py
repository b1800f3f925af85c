"""`asr-kd init`: write a recipe for a corpus."""

from pathlib import Path
from typing import Annotated

import typer

from asr_kd.core.terminal import print_text


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    name: Annotated[str, typer.Argument(help="The folder that the recipe is written to.")],
    corpus: Annotated[Path, typer.Option(help="Folder of Kaldi data directories train, dev, test.")],
    lexicon: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|cmudict|graphemes",
            help="Where pronunciations come from (default: a lexicon in the corpus, else graphemes).",
        ),
    ] = None,
    lm: Annotated[
        str,
        typer.Option(
            metavar="FILE|transcripts",
            help="An ARPA file, a text that is mixed with train's transcripts, or those alone.",
        ),
    ] = "transcripts",
    size: Annotated[
        str,
        typer.Option(
            metavar="small|medium", help="For up to a few hours, or tens of hours, of speech."
        ),
    ] = "small",
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Which folder is train, dev or test; repeat it."),
    ] = None,
) -> None:
    """Write a recipe for a corpus.

    Example: asr-kd init mine --corpus data/mine --lexicon cmudict --lm transcripts
    """
    from asr_kd.stages.new_recipe import init_recipe

    written = init_recipe(name, corpus, lexicon, lm, size, split)  # type: ignore[arg-type]
    if written.fault:
        print_text(f"{written.file}: written; before it can run: {written.fault}")
    else:
        print_text(f"{written.file}: written; next: {written.command}")
