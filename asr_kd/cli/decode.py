"""`asr-kd decode`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr_kd.cli.adapter_options import Adapter, RefusedToo
from asr_kd.cli.audio_options import MixDown, Resample
from asr_kd.core.terminal import print_json, print_text

_SHOWN = 10
_TUNED = "Default: what the model's run chose on dev, else 1 / acoustic scale."


class Lattices(StrEnum):
    """The form in which lattices are kept."""

    words = "words"
    states = "states"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("decode")(decode)


def decode(
    manifests: Annotated[Path, typer.Option(help="Folder of manifests (asr-kd prepare).")],
    split: Annotated[str, typer.Option(help="The split to decode.")],
    model: Annotated[Path, typer.Option(help="Folder of an HMM model, such as a stage of a run directory.")],
    graph: Annotated[Path, typer.Option(help="Decoding graph of that model (asr-kd graph, or a stage).")],
    output: Annotated[Path, typer.Option(help="Folder for text, words.ctm, lattices and decoding.json.")],
    features: Annotated[
        Path | None, typer.Option(help="Frame store, or a features stage (default: computed from the audio).")
    ] = None,
    network: Annotated[Path | None, typer.Option(help="Bundle of a network whose scores replace the GMMs'.")] = None,
    adapter: Adapter = None,
    refused_too: RefusedToo = False,
    transforms: Annotated[Path | None, typer.Option(help="Speaker transforms (default: by a first pass).")] = None,
    adapt: Annotated[bool, typer.Option(help="Where the model is for adapted speech, adapt by a first pass.")] = True,
    beam: Annotated[float, typer.Option(help="Beam of the search.")] = 11.0,
    max_active: Annotated[int, typer.Option(help="States that go on from frame to frame.")] = 2500,
    lattice_beam: Annotated[float, typer.Option(help="Beam of the lattices.")] = 6.0,
    acoustic_scale: Annotated[float, typer.Option(help="Scale of the frames' log-likelihoods.")] = 0.083333,
    lm_weight: Annotated[float | None, typer.Option(help=_TUNED)] = None,
    insertion_penalty: Annotated[float | None, typer.Option(help="Cost of a word (default: as lm-weight's).")] = None,
    n_best: Annotated[int, typer.Option(min=0, help="Also this many hypotheses of each utterance.")] = 0,
    lattices: Annotated[Lattices, typer.Option(help="Word lattices, or all that was searched.")] = Lattices.words,
    max_dropped: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the utterances that may fail to be decoded.")
    ] = 0.05,
    resample: Resample = False,
    mix_down: MixDown = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: all cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print decoding.json.")] = False,
) -> None:
    """Decode: best words with times and confidences, n-best lists, lattices.

    Example: asr-kd decode --manifests runs/demo/prepare --split dev --model runs/demo/sat --graph runs/demo/graph
    --output decoded/dev
    """
    from asr_kd.stages.transcription import decode_manifest

    summary = decode_manifest(
        manifests, split, model, graph, output, features=features, network=network, adapter=adapter,
        refused_too=refused_too, transforms=transforms, adapt=adapt,
        beam=beam, max_active=max_active, lattice_beam=lattice_beam, acoustic_scale=acoustic_scale,
        lm_weight=lm_weight, insertion_penalty=insertion_penalty, n_best=n_best, lattices=lattices.value,
        max_dropped=max_dropped, resample=resample, mix_down=mix_down, workers=workers,
    )
    if json:
        print_json(summary)
        return
    counts = summary["utterances"]
    kept = summary["lattices"]
    print_text(f"{output}: {counts['kept']} of {counts['total']} utterances, {summary['seconds'] / 3600:.3f} h; "
               f"search {summary['search_real_time_factor']:.4f} CPU seconds per second")
    print_text(f"LM weight {summary['lm_weight']:g}, insertion penalty {summary['insertion_penalty']:g}: "
               f"{summary['weights_from']}")
    print_text(f"lattices: {kept['arcs_per_frame']:.2f} arcs per frame, {kept['bytes'] / 1e6:.1f} MB")
    for reason, items in counts["items"].items():
        for item in items[:_SHOWN]:
            print_text(f"not decoded: {item['id']}: {reason}{': ' + item['detail'] if item['detail'] else ''}")
        if len(items) > _SHOWN:
            print_text(f"not decoded: and {len(items) - _SHOWN} more: {reason} (decoding.json lists all)")
