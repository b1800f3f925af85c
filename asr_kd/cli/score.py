"""`asr-kd score`."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("score")(score)


def score(
    ref: Annotated[
        Path, typer.Option(help="Reference: Kaldi text (UTT word word) or trn (word word (spk-utt)).")
    ],
    hyp: Annotated[
        list[Path], typer.Option(help="Hypotheses, text or trn; once for each seed of the system.")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", "--hyp2", help="Hypotheses of a second system; once for each of its seeds."
        ),
    ] = None,
    utt2spk: Annotated[
        Path | None, typer.Option(help="Speakers. Default: utt2spk beside a Kaldi reference, else trn ids.")
    ] = None,
    alignments: Annotated[
        Path | None, typer.Option(help="Write readable alignments there (-: print them).")
    ] = None,
    trn: Annotated[Path | None, typer.Option(help="Folder that gets ref.trn and hyp.trn.")] = None,
    text: Annotated[
        Path | None, typer.Option(help="Folder that gets ref.txt and hyp.txt, Kaldi text.")
    ] = None,
    words: Annotated[
        int | None, typer.Option(min=1, help="Words that the whole reference has; else refused.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score only what every hypothesis file has, marked as partial.")
    ] = False,
    draws: Annotated[int, typer.Option(min=1, help="Draws of speakers for intervals and p-values.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Word errors per speaker and overall, with intervals and a paired test.

    Words are compared as they are written. A reference utterance without
    hypothesis counts as deletions; hypotheses that the reference has not are
    refused.

    Example: asr-kd score --ref data/test/text --hyp kd.txt --against ce.txt
    """
    from asr_kd.core.errors import InputError
    from asr_kd.report.tables import render_score
    from asr_kd.scoring.api import score as score_files

    if json and str(alignments) == "-":
        raise InputError("--json and --alignments - both write to standard output; give --alignments a file")
    found = score_files(
        ref=ref,
        hyp=hyp,
        against=against,
        utt2spk=utt2spk,
        alignments=alignments,
        trn=trn,
        text=text,
        words=words,
        partial=partial,
        draws=draws,
        seed=seed,
    )
    typer.echo(json_module.dumps(found.as_dict(), indent=1) if json else render_score(found))
