"""`asr-kd prepare CORPUS`: one sub-command a corpus."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

_Output = Annotated[Path, typer.Option(help="Folder that the manifests are written to.")]
_Workers = Annotated[int | None, typer.Option(min=1, help="Parallel workers (default: all cores).")]


def register(app: typer.Typer) -> None:
    corpora = typer.Typer(no_args_is_help=True, help="Make manifests of a corpus.")
    corpora.command("kaldi")(kaldi)
    app.add_typer(corpora, name="prepare")


def kaldi(
    corpus: Annotated[Path, typer.Option(help="Folder of Kaldi data directories, or one of them.")],
    output: _Output,
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="Data directory to read; repeat it for several.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="What paths in wav.scp are relative to, and may not leave (default: corpus).")
    ] = None,
    allow_pipes: Annotated[bool, typer.Option("--allow-pipes", help="Run the commands in wav.scp.")] = False,
    max_dropped: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a split that may be dropped for unusable audio.")
    ] = 0.05,
    workers: _Workers = None,
) -> None:
    """Kaldi data directories (wav.scp, text, utt2spk, optional segments).

    Example: asr-kd prepare kaldi --corpus corpora/speechocean762 --output data/speechocean762
    """
    from data_prep.kaldi import prepare_kaldi

    prepared = prepare_kaldi(
        corpus, output, splits=splits, root=root, allow_pipes=allow_pipes, max_dropped=max_dropped,
        workers=workers,
    )
    _show(prepared.values())


def _show(splits: Iterable[object]) -> None:
    for split in splits:
        print(split)
