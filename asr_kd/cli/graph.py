"""`asr-kd graph`: a decoding graph from a model and any language model."""

from pathlib import Path
from typing import Annotated

import typer

from asr_kd.core.terminal import print_json, print_text


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("graph")(graph)


def graph(
    model: Annotated[Path, typer.Option(help="Folder of an HMM model (a stage such as sat of a run directory).")],
    lm: Annotated[Path, typer.Option(help="Language model, ARPA, .gz too.")],
    output: Annotated[Path, typer.Option(help="Folder for HCLG.fst, words.txt and graph.json.")],
    lexicon: Annotated[Path | None, typer.Option(help="Other words in the model's phones (default: its own).")] = None,
    transition_scale: Annotated[float, typer.Option(min=0.0, help="Scale of transitions between states.")] = 1.0,
    self_loop_scale: Annotated[float, typer.Option(min=0.0, help="Scale of self-loops.")] = 0.1,
    allow_missing_words: Annotated[bool, typer.Option(help="Leave out words of the LM that lack phones.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compose HCLG: HMMs, phonetic context, lexicon and grammar.

    Example: asr-kd graph --model runs/demo/sat --lm runs/demo/prepare/lm.arpa.gz --output graphs/demo
    """
    from asr_kd.stages.decoding import build_decoding_graph

    summary = build_decoding_graph(
        model, lm, output, lexicon=lexicon, transition_scale=transition_scale, self_loop_scale=self_loop_scale,
        allow_missing_words=allow_missing_words,
    )
    if json:
        print_json(summary)
        return
    print_text(f"{output}: {summary['states']} states, {summary['arcs']} arcs, {summary['cpu_seconds']} CPU seconds; "
               f"{summary['dropped_words']} words of the LM without pronunciation left out")
