"""Stages that make manifests, with the lexicon and the language model beside them."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import list_splits, read_manifest
from asr_kd.lexicon.lexicon_file import write_lexicon
from asr_kd.lexicon.sources import LexiconSourceConfig, build_lexicon
from asr_kd.lm.arpa import read_arpa
from asr_kd.scoring.transcripts import read_transcripts, read_utt2spk
from data_prep.demo import DemoConfig, prepare_demo
from data_prep.kaldi import prepare_kaldi

__all__ = ["DemoConfig", "PrepareKaldiConfig", "kaldi_files", "prepare_demo_stage", "prepare_kaldi_stage"]

LEXICON = "lexicon.txt"
LANGUAGE_MODEL = "lm.arpa.gz"
REFERENCES, _REFERENCE = "references", ("text", "utt2spk")


class PrepareKaldiConfig(Config):
    """A corpus of Kaldi data directories; paths are relative to the corpus folder.

    Without `pronunciations` the lexicon is taken as it is. With it, words of the split `train` must have one, from the
    lexicon (if the corpus brings one) or elsewhere; words of other splits and of the language model get one where it
    can be found.
    """

    splits: list[Name] = Field(["train", "dev", "test"], min_length=1)
    train: Name = "train"
    lexicon: str | None = None
    pronunciations: LexiconSourceConfig | None = None
    language_model: str | None = None
    allow_pipes: bool = False
    max_dropped: float = Field(0.05, ge=0, le=1)


def kaldi_files(config: PrepareKaldiConfig, corpus: Path | None) -> list[Path]:
    """The corpus's files that the stage depends on: the splits' tables, lexicon, language model, and all audio."""
    corpus = _need_corpus(corpus)
    named = [_inside(corpus, name) for name in (config.lexicon, config.language_model) if name is not None]
    tables = [p for split in config.splits for p in list_files(_inside(corpus, split))]
    audio = [p for split in config.splits for p in _audio_files(corpus, corpus / split / "wav.scp")]
    return [*named, *tables, *dict.fromkeys(audio)]


def prepare_kaldi_stage(
    inputs: Mapping[str, Path], config: PrepareKaldiConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Manifests and whole references of each split, `lexicon.txt` and, where the corpus brings one, `lm.arpa.gz`."""
    corpus = _need_corpus(context.corpus)
    prepared = prepare_kaldi(
        corpus, output, splits=config.splits, allow_pipes=config.allow_pipes, max_dropped=config.max_dropped
    )
    for split in config.splits:
        for name in _REFERENCE:
            (output / REFERENCES / split).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(corpus / split / name, output / REFERENCES / split / name)
    facts = {split: of_split.as_dict() for split, of_split in prepared.items()} | _make_lexicon(corpus, config, output)
    if config.language_model is not None:
        source = _inside(corpus, config.language_model)
        shutil.copyfile(source, output / (LANGUAGE_MODEL if source.suffix == ".gz" else "lm.arpa"))
    return facts


def _make_lexicon(corpus: Path, config: PrepareKaldiConfig, output: Path) -> dict[str, Any]:
    file = None if config.lexicon is None else _inside(corpus, config.lexicon)
    if config.pronunciations is None:
        if file is None:
            raise InputError("the recipe names no lexicon; name one under `lexicon`, or say under `pronunciations` "
                             "where pronunciations come from (cmudict, graphemes)")
        shutil.copyfile(file, output / LEXICON)
        return {}
    words = {split: {word for u in read_manifest(output, split) for word in u.text.split()} for split in config.splits}
    if config.train not in words:
        raise InputError(f"the split {config.train!r} whose words need pronunciations is not among the splits "
                         f"{', '.join(config.splits)}")
    wanted = set().union(*words.values())
    if config.language_model is not None:
        wanted |= set(read_arpa(_inside(corpus, config.language_model)).words) - {"<s>", "</s>", "<unk>", "<UNK>"}
    entries, report = build_lexicon(words[config.train], config.pronunciations, file, wanted=wanted)
    write_lexicon(output / LEXICON, entries)
    return {"lexicon": report.as_dict()}


def make_lexicon(
    manifests: Path,
    output: Path,
    lexicon: Path | None = None,
    split: str = "train",
    settings: LexiconSourceConfig | None = None,
) -> dict[str, Any]:
    """Write a lexicon of every word in a manifest folder to the file `output`; returns where it came from.

    Words of `split` must get a pronunciation (InputError names those that do not, unless the settings say otherwise),
    those of other splits get one where it can be found. `lexicon` is the corpus's own, where it brings one.
    """
    words = {name: {word for u in read_manifest(manifests, name) for word in u.text.split()}
             for name in list_splits(manifests)}
    if split not in words:
        raise InputError(f"{manifests}: no split {split!r}; there are: {', '.join(words)}")
    entries, report = build_lexicon(words[split], settings, lexicon, wanted=set().union(*words.values()))
    write_lexicon(output, entries)
    return report.as_dict()


def prepare_demo_stage(
    inputs: Mapping[str, Path], config: DemoConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """The generated corpus: audio, manifests of each split, `lexicon.txt`, and text for a language model, `lm.txt`."""
    prepared = prepare_demo(output, config=config)
    return {split: facts.as_dict() for split, facts in prepared.items()}


def read_references(manifests: Path, split: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Words and speaker of every utterance that a split is scored on.

    Where the preparing stage left the corpus's own references, utterances that it dropped are among them: scoring
    never drops. Else all that the manifest holds (a generated corpus drops nothing).
    """
    folder = manifests / REFERENCES / split
    if folder.is_dir():
        return read_transcripts(folder / "text").words, read_utt2spk(folder / "utt2spk")
    utterances = read_manifest(manifests, split)
    return {u.id: u.text.split() for u in utterances}, {u.id: u.speaker for u in utterances}


def _need_corpus(corpus: Path | None) -> Path:
    if corpus is None:
        raise InputError("this recipe reads a corpus from disk; give its folder by --corpus DIR")
    if not corpus.is_dir():
        raise InputError(f"{corpus}: no such folder; --corpus expects the folder of the corpus")
    return corpus


def _inside(corpus: Path, name: str) -> Path:
    path = corpus / name
    if not path.resolve().is_relative_to(corpus.resolve()):
        raise InputError(f"{name}: leads out of the corpus folder {corpus}")
    if not path.exists():
        raise InputError(f"{path}: not there; the recipe expects it in the corpus")
    return path


def _audio_files(corpus: Path, table: Path) -> list[Path]:
    """The audio files that a wav.scp names and that are there; the preparer says what is wrong with the others."""
    if not table.is_file():
        return []
    lines = table.read_bytes().decode("utf-8", errors="replace").splitlines()
    names = [fields[1].strip() for line in lines if len(fields := line.split(maxsplit=1)) == 2]
    return [corpus / name for name in names if not name.endswith("|") and (corpus / name).is_file()]
