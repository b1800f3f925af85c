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
from asr_kd.data.manifest import read_manifest
from asr_kd.scoring.transcripts import read_transcripts, read_utt2spk
from data_prep.demo import DemoConfig, prepare_demo
from data_prep.kaldi import prepare_kaldi

__all__ = ["DemoConfig", "PrepareKaldiConfig", "kaldi_files", "prepare_demo_stage", "prepare_kaldi_stage"]

LEXICON = "lexicon.txt"
LANGUAGE_MODEL = "lm.arpa.gz"
REFERENCES, _REFERENCE = "references", ("text", "utt2spk")


class PrepareKaldiConfig(Config):
    """A corpus of Kaldi data directories; paths are relative to the corpus folder."""

    splits: list[Name] = Field(["train", "dev", "test"], min_length=1)
    lexicon: str
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
    shutil.copyfile(_inside(corpus, config.lexicon), output / LEXICON)
    if config.language_model is not None:
        source = _inside(corpus, config.language_model)
        shutil.copyfile(source, output / (LANGUAGE_MODEL if source.suffix == ".gz" else "lm.arpa"))
    return {split: facts.as_dict() for split, facts in prepared.items()}


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
