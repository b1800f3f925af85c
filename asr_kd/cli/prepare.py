"""`asr-kd prepare CORPUS`, one sub-command a corpus, and `asr-kd prepare lexicon`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from asr_kd.cli.audio_options import MixDown, Resample, SamplingRate
from asr_kd.core.terminal import print_text

_Output = Annotated[Path, typer.Option(help="Folder that the manifests are written to.")]
_Workers = Annotated[int | None, typer.Option(min=1, help="Parallel workers (default: all cores).")]


def register(app: typer.Typer) -> None:
    corpora = typer.Typer(
        no_args_is_help=True, help="Make manifests of a corpus, and a lexicon of its words."
    )
    corpora.command("kaldi")(kaldi)
    corpora.command("demo")(demo)
    corpora.command("lexicon")(lexicon)
    app.add_typer(corpora, name="prepare")


def kaldi(
    corpus: Annotated[Path, typer.Option(help="Folder of Kaldi data directories, or one of them.")],
    output: _Output,
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME[=FOLDER]",
            help="Data directory to read, and what to call it; repeat it.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="What paths in wav.scp are relative to, and no path may leave (default: corpus)."
        ),
    ] = None,
    allow_pipes: Annotated[
        bool, typer.Option("--allow-pipes", help="Run the commands in wav.scp.")
    ] = False,
    max_dropped: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of a split that may be dropped for unusable audio."),
    ] = 0.05,
    resample: Resample = False,
    mix_down: MixDown = False,
    sampling_rate: SamplingRate = None,
    workers: _Workers = None,
) -> None:
    """Kaldi data directories (wav.scp, text, utt2spk, optional segments).

    Example: asr-kd prepare kaldi --corpus corpora/speechocean762 --output data/speechocean762
    """
    from data_prep.kaldi import prepare_kaldi

    prepared = prepare_kaldi(
        corpus,
        output,
        splits=splits,
        root=root,
        allow_pipes=allow_pipes,
        max_dropped=max_dropped,
        resample=resample,
        mix_down=mix_down,
        sampling_rate=sampling_rate,
        workers=workers,
    )
    _show(prepared.values())


def demo(
    output: _Output,
    config: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting (see below); repeat it."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed and settings give the same files.")
    ] = 0,
    workers: _Workers = None,
) -> None:
    """A synthetic meeting corpus with lexicon and text for a language model (needs the extra
    `demo`: espeak-ng).

    Settings, with defaults: train_speakers=40 dev_speakers=6 test_speakers=10 adaptation_speakers=4
    (each also *_minutes), accents, slowest, fastest, vocal_tract_spread, reverberation_time,
    direct_to_reverberant, snr_db, snr_spread, babble, surprise, lm_sentences, sampling_rate,
    audio_format.

    Example: asr-kd prepare demo --output data/demo --set snr_db=8
    """
    from asr_kd.core.config import Settings, build_config
    from data_prep.demo import DemoConfig, prepare_demo

    settings = Settings({}, {})
    for assignment in config or []:
        settings = settings.with_override(assignment)
    _show(
        prepare_demo(
            output, config=build_config(DemoConfig, settings), seed=seed, workers=workers
        ).values()
    )


def lexicon(
    manifests: Annotated[Path, typer.Option(help="Folder of manifests.")],
    output: Annotated[Path, typer.Option(help="The lexicon's file.")],
    lexicon: Annotated[
        Path | None, typer.Option(help="The corpus's own lexicon, where it brings one.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="The split whose words must have a pronunciation.")
    ] = "train",
    lm: Annotated[
        Path | None,
        typer.Option(help="A language model (ARPA), whose words get one where it can be."),
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Text, a sentence a line, whose words get one too; repeat it."),
    ] = None,
    words: Annotated[
        Path | None, typer.Option(help="A word list, one a line, whose words get one too.")
    ] = None,
    words_of_evaluated_splits: Annotated[
        bool,
        typer.Option(
            "--words-of-evaluated-splits",
            help="Also the words of all other splits: error rates on "
            "them are then lower than those on other speech.",
        ),
    ] = False,
    config: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting (see below); repeat it."),
    ] = None,
) -> None:
    """Pronunciations of the words of training speech and language models: a corpus's own, CMU's,
    guessed, or spelt.

    Settings, with defaults: source=file (or cmudict, graphemes), missing=refuse (or g2p, unknown),
    g2p_variants=1, stress=keep (or strip), graphemes.KEY for spelling, special_words.WORD=PHONE.

    Example: asr-kd prepare lexicon --manifests data/mine --output data/lexicon.txt --set
    source=cmudict
    """
    from asr_kd.core.config import Settings, build_config
    from asr_kd.lexicon.sources import LexiconSourceConfig
    from asr_kd.stages.prepare import make_lexicon

    settings = Settings({}, {})
    for assignment in config or []:
        settings = settings.with_override(assignment)
    report, vocabulary = make_lexicon(
        manifests,
        output,
        lexicon,
        split,
        lm,
        text,
        words,
        words_of_evaluated_splits,
        build_config(LexiconSourceConfig, settings),
    )
    print_text(
        f"{output}: {report['words']} words, {report['pronunciations']} pronunciations, {report['units']} units"
    )
    print_text(
        f"of {report['asked']} words: {report['from_file']} from the file, {report['from_cmudict']} from CMU's, "
        f"{report['spelt']} spelt, {report['guessed']} guessed, {report['unknown']} left out"
    )
    print_text(str(vocabulary))


def _show(splits: Iterable[object]) -> None:
    for split in splits:
        print_text(str(split))
