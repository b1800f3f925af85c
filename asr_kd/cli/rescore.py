"""`asr-kd rescore`."""

from pathlib import Path
from typing import Annotated

import typer

from asr_kd.core.terminal import print_json, print_text

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rescore")(rescore)


def rescore(
    lattices: Annotated[Path, typer.Option(help="What asr-kd decode wrote, or a split of a decode stage.")],
    output: Annotated[Path, typer.Option(help="Folder for text and what else is asked for.")],
    lm_weight: Annotated[float, typer.Option(help="Acoustic costs are divided by it.")] = 12.0,
    insertion_penalty: Annotated[float, typer.Option(help="Cost of a word.")] = 0.0,
    old_lm: Annotated[Path | None, typer.Option(help="The language model that was searched with, ARPA.")] = None,
    new_lm: Annotated[Path | None, typer.Option(help="The one whose costs take its place, ARPA.")] = None,
    references: Annotated[Path | None, typer.Option(help="What was spoken: adds the oracle word error rate.")] = None,
    model: Annotated[Path | None, typer.Option(help="The HMM model: adds words.ctm, times and confidences.")] = None,
    n_best: Annotated[int, typer.Option(min=0, help="Also this many hypotheses of each utterance.")] = 0,
    kaldi: Annotated[bool, typer.Option("--kaldi", help="Also lattices.ark and lattices.scp for Kaldi.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: all cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print rescoring.json.")] = False,
) -> None:
    """Best words of kept lattices at another LM weight, insertion penalty or language model; nothing is searched.

    Example: asr-kd rescore --lattices runs/demo/decode-sat/dev --lm-weight 15 --output rescored/dev
    """
    from asr_kd.stages.rescoring import rescore_lattices

    summary = rescore_lattices(
        lattices, output, lm_weight=lm_weight, insertion_penalty=insertion_penalty, old_lm=old_lm, new_lm=new_lm,
        references=references, model=model, n_best=n_best, kaldi=kaldi, workers=workers,
    )
    if json:
        print_json(summary)
        return
    print_text(f"{output}: {summary['utterances']} utterances")
    emptied = summary.get("lm", {}).get("emptied", [])
    if emptied:
        print_text(f"{len(emptied)} without words, for the new language model lacks a word on every path: "
                   f"{', '.join(emptied[:_SHOWN])}{', ...' if len(emptied) > _SHOWN else ''}")
    if "oracle" in summary:
        print_text("oracle: WER {wer:.2f} % of {words} words".format(**summary["oracle"]))
