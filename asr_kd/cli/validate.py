"""`asr-kd validate`."""

from pathlib import Path
from typing import Annotated

import typer

from asr_kd.cli.audio_options import MixDown, Resample, SamplingRate
from asr_kd.core.terminal import print_json, print_text

_SHOWN = 10


def register(app: typer.Typer) -> None:
    app.command("validate")(validate)


def validate(
    manifest: Annotated[Path, typer.Argument(help="Folder of manifests, or one SPLIT_supervisions.jsonl.gz.")],
    untranscribed: Annotated[
        bool, typer.Option("--untranscribed", help="Look for no transcripts or speakers; MANIFEST may hold audio only.")
    ] = False,
    min_duration: Annotated[float, typer.Option(help="Shortest utterance that is no problem, seconds.")] = 0.1,
    max_duration: Annotated[float, typer.Option(help="Longest utterance that is no problem, seconds.")] = 120.0,
    resample: Resample = False,
    mix_down: MixDown = False,
    sampling_rate: SamplingRate = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode (default: all cores).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Look for faults in manifests and their audio; exit code 1 when there are any.

    Durations, sampling rates, duplicate ids, a speaker in two splits, empty transcripts, and audio that is missing,
    unreadable, truncated, silent or not finite (all of it is decoded). Clipped and repeated audio are warnings.

    Example: asr-kd validate data/demo
    """
    from asr_kd.core.errors import WorkError
    from asr_kd.data.validation import validate_manifest

    report = validate_manifest(
        manifest, untranscribed=untranscribed, min_duration=min_duration, max_duration=max_duration,
        resample=resample, mix_down=mix_down, sampling_rate=sampling_rate, workers=workers,
    )
    if json:
        print_json(report.as_dict())
    else:
        for split, counts in report.splits.items():
            print_text(f"{split}: {counts.utterances} utterances, {counts.speakers} speakers, {counts.words} words, "
                  f"{counts.seconds / 3600:.3f} h")
        for kind, count in report.by_kind.items():
            items = [problem for problem in report.problems if problem.kind == kind]
            for problem in items[:_SHOWN]:
                print_text(f"{kind}: {problem.item}: {problem.detail}")
            if count > _SHOWN:
                print_text(f"{kind}: and {count - _SHOWN} more (--json lists all)")
        for warning in report.warnings[:_SHOWN]:
            print_text(f"warning: {warning.kind}: {warning.item}: {warning.detail}")
        if len(report.warnings) > _SHOWN:
            print_text(f"warning: and {len(report.warnings) - _SHOWN} more (--json lists all)")
        if not report.problems:
            print_text("no problems found")
    if report.problems:
        counts_by_kind = ", ".join(f"{count} {kind}" for kind, count in report.by_kind.items())
        raise WorkError(f"{manifest}: {len(report.problems)} problems: {counts_by_kind}")
