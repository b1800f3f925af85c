"""`asr-kd adapt`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr_kd.cli.audio_options import MixDown, Resample
from asr_kd.core.terminal import print_json, print_text

_SHOWN = 10


class Teach(StrEnum):
    """What an adapted network learns."""

    auto = "auto"
    transcripts = "transcripts"
    first_pass = "first-pass"
    teacher = "teacher"
    both = "both"


class Per(StrEnum):
    """How many adapters are made."""

    set = "set"
    speaker = "speaker"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("adapt")(adapt)


def adapt(
    speech: Annotated[Path, typer.Option(help="Manifests, a Kaldi directory, JSON lines, or a folder of audio.")],
    output: Annotated[Path, typer.Option(help="Folder for the adapter and its report.")],
    run: Annotated[Path | None, typer.Option(help="Run directory that has the network.")] = None,
    system: Annotated[str | None, typer.Option(help="The network's id in that run, such as hdnn128-kd.")] = None,
    network: Annotated[Path | None, typer.Option(help="Bundle of a network, in place of a run's system.")] = None,
    model: Annotated[Path | None, typer.Option(help="HMM model of that network.")] = None,
    graph: Annotated[Path | None, typer.Option(help="Decoding graph of that model.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Bundle of a teacher (default: the network's own).")] = None,
    reserve: Annotated[Path | None, typer.Option(help="Reserve with canary and replay (default: the run's).")] = None,
    split: Annotated[str | None, typer.Option(help="Of manifests with several splits: the one to adapt to.")] = None,
    transcripts: Annotated[Path | None, typer.Option(help="One file of transcripts, ID WORDS a line.")] = None,
    speaker: Annotated[str | None, typer.Option(help="Adapt to this speaker; whose audio files these are.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Take only so much speech, from the first on (per speaker: of each).")
    ] = None,
    rest: Annotated[
        Path | None, typer.Option(help="Folder for manifests of what --seconds leaves over, split 'rest'.")
    ] = None,
    teach: Annotated[Teach, typer.Option(help="What teaches; auto: transcripts and teacher, if any.")] = Teach.auto,
    per: Annotated[Per, typer.Option(help="One adapter for all speech, or one for each speaker.")] = Per.set,
    parameters: Annotated[
        list[str] | None, typer.Option(help="What moves: gates, lhuc, all, biases, ...; repeat it (default: gates).")
    ] = None,
    gate: Annotated[bool, typer.Option(help="Judge the adapter, and refuse it where it does not prove itself.")] = True,
    map_unknown: Annotated[
        bool, typer.Option("--map-unknown", help="Align words without pronunciation as the unknown word.")
    ] = False,
    resample: Resample = False,
    mix_down: MixDown = False,
    seed: Annotated[int, typer.Option(min=0, help="Order of the frames.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another setting.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: all cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Adapt a network to a voice, a room or a domain from seconds of speech, and refuse what makes it worse.

    Exit code 3: the adapter was written, but refused; report.md in its folder says why.

    Example: asr-kd adapt --run runs/demo --system hdnn128-kd --speech runs/demo/prepare --split adaptation
    --speaker adaptation056 --seconds 30 --output adapters/voice
    """
    from asr_kd.adaptation.report import outcome_rows
    from asr_kd.report.tables import align_columns
    from asr_kd.stages.adaptation import AdapterRefused, adapt_network, adapter_bytes

    report = adapt_network(
        speech, output, run=run, system=system, network=network, model=model, graph=graph, teacher=teacher,
        reserve=reserve, split=split, transcripts=transcripts, speaker=speaker, seconds=seconds, rest=rest,
        teach=teach.value, per=per.value, parameters=parameters, gate=gate, map_unknown=map_unknown, resample=resample,
        mix_down=mix_down, seed=seed, set_=set_, workers=workers,
    )
    reports = report.get("speakers", {report.get("name"): report})
    if json:
        print_json(report)
    else:
        for name, one in reports.items():
            print_text(f"{name}: {one['seconds']:.1f} s in {one['utterances']} utterances, taught by {one['teaching']}")
            print_text(align_columns(["", "before", "after", "change"], outcome_rows(one), {0}))
            for reason in one["refusals"]:
                print_text(f"refused: {reason}")
        for name, reason in report.get("failures", {}).items():
            print_text(f"{name}: not adapted to: {reason}")
        print_text(f"adapter: {output} ({adapter_bytes(output) / 1000:.1f} kB)")
    refused = [str(name) for name, one in reports.items() if not one["active"]]
    if refused:
        shown = ", ".join(refused[:_SHOWN])
        raise AdapterRefused(f"{output}: {len(refused)} of {len(reports)} adapters refused and not active: {shown}; "
                             "report.md says why")
