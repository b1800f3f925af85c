"""`asr-kd align`."""

from pathlib import Path
from typing import Annotated

import typer

from asr_kd.cli.adapter_options import Adapter, RefusedToo
from asr_kd.cli.audio_options import MixDown, Resample
from asr_kd.core.terminal import print_json, print_text

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("align")(align)


def align(
    manifests: Annotated[Path, typer.Option(help="Folder of manifests (asr-kd prepare).")],
    split: Annotated[str, typer.Option(help="The split to align.")],
    model: Annotated[Path, typer.Option(help="Folder of an HMM model, such as a stage of a run directory.")],
    output: Annotated[Path, typer.Option(help="Folder for alignments, CTM and TextGrid files, summary.json.")],
    features: Annotated[
        Path | None, typer.Option(help="Frame store, or a features stage (default: computed from the audio).")
    ] = None,
    network: Annotated[Path | None, typer.Option(help="Bundle of a network whose scores replace the GMMs'.")] = None,
    adapter: Adapter = None,
    refused_too: RefusedToo = False,
    transforms: Annotated[Path | None, typer.Option(help="Speaker transforms for the GMMs.")] = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Adapt to each speaker: fMLLR, supervised by a first alignment.")
    ] = False,
    lexicon: Annotated[Path | None, typer.Option(help="Other words in the model's phones (default: its own).")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="ctm, textgrid or ids; repeat it (default: ctm, textgrid).")
    ] = None,
    beam: Annotated[float, typer.Option(help="Beam of the first try.")] = 10.0,
    retry_beam: Annotated[float, typer.Option(help="Beam of the second try.")] = 40.0,
    acoustic_scale: Annotated[float, typer.Option(help="Scale of the frames' log-likelihoods.")] = 0.1,
    boost_silence: Annotated[float, typer.Option(help="What the likelihood of silence is multiplied by.")] = 1.0,
    map_unknown: Annotated[
        bool, typer.Option("--map-unknown", help="Align words without pronunciation as the unknown word.")
    ] = False,
    max_dropped: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the utterances that may fail to align.")
    ] = 0.05,
    resample: Resample = False,
    mix_down: MixDown = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: all cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Forced alignment of transcripts: phones and words with their times.

    Output: alignments (transition-ids), phones.ctm, words.ctm, textgrid/ID.TextGrid, scores.jsonl, summary.json.
    Utterances that do not align are named with the reason and their score, and counted.

    Example: asr-kd align --manifests runs/demo/prepare --split dev --model runs/demo/tri --output ali/dev
    """
    from asr_kd.stages.alignment import align_manifest

    summary = align_manifest(
        manifests, split, model, output, features=features, network=network, adapter=adapter,
        refused_too=refused_too, transforms=transforms, adapt=adapt,
        lexicon=lexicon, formats=formats, beam=beam, retry_beam=retry_beam, acoustic_scale=acoustic_scale,
        boost_silence=boost_silence, map_unknown=map_unknown, max_dropped=max_dropped, resample=resample,
        mix_down=mix_down, workers=workers,
    )
    if json:
        print_json(summary)
        return
    counts = summary["utterances"]
    print_text(f"{output}: {counts['kept']} of {counts['total']} utterances aligned, {summary['seconds'] / 3600:.3f} "
               f"h, log-likelihood {summary['log_likelihood_per_frame']} per frame")
    for reason, items in counts["items"].items():
        for item in items[:_SHOWN]:
            print_text(f"not aligned: {item['id']}: {reason}{': ' + item['detail'] if item['detail'] else ''}")
        if len(items) > _SHOWN:
            print_text(f"not aligned: and {len(items) - _SHOWN} more: {reason} (summary.json lists all)")
