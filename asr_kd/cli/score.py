"""`asr-kd score`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from asr_kd.core.terminal import print_json, print_text


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("score")(score)


def score(
    ref: Annotated[
        Path, typer.Option(help="Reference: Kaldi text (UTT word word), trn (word word (spk-utt)), STM or CTM.")
    ],
    hyp: Annotated[
        list[Path], typer.Option(help="Hypotheses, text, trn, CTM or STM; once for each seed of the system, in order.")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", "--hyp2", help="Hypotheses of a second system; its seeds in the same order."),
    ] = None,
    utt2spk: Annotated[
        Path | None, typer.Option(help="Speakers. Default: utt2spk beside a Kaldi reference, else trn ids.")
    ] = None,
    metric: Annotated[
        Literal["wer", "cpwer"], typer.Option(help="cpwer: meetings, streams against speakers (needs MeetEval).")
    ] = "wer",
    alignment: Annotated[
        Literal["unit", "sclite"], typer.Option(help="Costs 1/1/1, or those of NIST's sclite: sub 4, ins 3, del 3.")
    ] = "unit",
    filter: Annotated[
        str, typer.Option(help="Text filter before words are compared: none, lower, upper, spoken.")
    ] = "none",
    ref_format: Annotated[
        Literal["text", "trn", "ctm", "stm"] | None, typer.Option(help="Reference's format. Default: by its name.")
    ] = None,
    format: Annotated[
        Literal["text", "trn", "ctm", "stm"] | None, typer.Option(help="Hypotheses' format. Default: by their names.")
    ] = None,
    alignments: Annotated[
        Path | None, typer.Option(help="Write readable alignments there (-: print them).")
    ] = None,
    trn: Annotated[Path | None, typer.Option(help="Folder that gets ref.trn and hyp.trn.")] = None,
    text: Annotated[Path | None, typer.Option(help="Folder that gets ref.txt and hyp.txt, Kaldi text.")] = None,
    words: Annotated[
        int | None, typer.Option(min=1, help="Words that the whole reference has; else refused.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score only what every hypothesis file has, marked as partial.")
    ] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Measure a CTM's confidences: NCE, calibration error, ROC area.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Measure the confidences through this map too (made by --fit on dev).")
    ] = None,
    fit: Annotated[
        Path | None, typer.Option(help="Fit a map from confidence to probability; write it there (JSON).")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Draws for intervals and p-values. Default: 100,000.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    optional_words: Annotated[
        Literal["refuse", "deletable", "literal"],
        typer.Option(help="(uh) in an STM or trn reference: optionally deletable as sclite -D has it, or a word."),
    ] = "refuse",
    unicode_form: Annotated[
        Literal["keep", "nfc"], typer.Option(help="Unicode form in which the words of both sides are compared.")
    ] = "keep",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Word errors per speaker and overall, with intervals and a paired test.

    Words are compared as they are written, unless a filter is named. A
    reference utterance without hypothesis counts as deletions; hypotheses that
    the reference has not are refused. Formats are known by .trn, .ctm and .stm;
    a CTM is cut by time where the reference is an STM.

    Example: asr-kd score --ref data/test/text --hyp kd.txt --against ce.txt
    """
    from asr_kd.core.errors import InputError
    from asr_kd.report.scores import render_score
    from asr_kd.scoring.api import score as score_files

    if json and str(alignments) == "-":
        raise InputError("--json and --alignments - both write to standard output; give --alignments a file")
    found = score_files(
        ref=ref,
        hyp=hyp,
        against=against,
        utt2spk=utt2spk,
        metric=metric,
        alignment=alignment,
        filter=filter,
        ref_format=ref_format,
        format=format,
        alignments=alignments,
        trn=trn,
        text=text,
        words=words,
        partial=partial,
        confidence=confidence,
        calibration=calibration,
        fit=fit,
        draws=draws,
        seed=seed,
        optional_words=optional_words,
        unicode_form=unicode_form,
    )
    if json:
        print_json(found.as_dict())
    else:
        print_text(render_score(found))
