"""The stage that prepares LibriSpeech: splits made of speakers, and a lexicon of their words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files, write_json
from asr_kd.core.stages import StageContext
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import read_manifest
from asr_kd.lexicon.lexicon_file import write_lexicon
from asr_kd.lexicon.sources import LexiconSourceConfig, build_lexicon
from asr_kd.lexicon.vocabulary import report_vocabulary, spoken_words
from asr_kd.stages.kaldi_corpus import need_corpus
from asr_kd.stages.prepare import LEXICON, VOCABULARY
from data_prep.librispeech import prepare_librispeech


class PrepareLibriSpeechConfig(Config):
    """Splits of LibriSpeech by speakers; its folder is relative to the corpus folder, or absolute.

    The lexicon is of the words of the split `train`, and of no other.
    """

    folder: str = "."
    splits: dict[Name, list[str]] = Field(min_length=1)
    train: Name
    pronunciations: LexiconSourceConfig = LexiconSourceConfig(source="cmudict", missing="unknown")
    max_dropped: float = Field(0.05, ge=0, le=1)


def check_librispeech(config: PrepareLibriSpeechConfig, inputs: Mapping[str, Any]) -> None:
    """InputError for a speaker in two splits, and a split to learn words from that is not there."""
    if config.train not in config.splits:
        raise InputError(f"train: {config.train} is not among the splits {', '.join(config.splits)}")
    owner: dict[str, str] = {}
    for split, speakers in config.splits.items():
        for speaker in speakers:
            if owner.setdefault(speaker, split) != split:
                raise InputError(f"splits: speaker {speaker} is in {owner[speaker]} and in {split}")


def librispeech_files(config: PrepareLibriSpeechConfig, corpus: Path | None) -> list[Path]:
    """All files of the corpus, on which the stage depends."""
    return list_files(_folder(config, corpus))


def prepare_librispeech_stage(
    inputs: Mapping[str, Path], config: PrepareLibriSpeechConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Manifests of each split, `lexicon.txt` of the words of one, and `vocabulary.json`."""
    prepared = prepare_librispeech(
        _folder(config, context.corpus), output, speakers=config.splits, max_dropped=config.max_dropped)
    sentences = {split: [words_of(one.text) for one in read_manifest(output, split)] for split in config.splits}
    words = {word for sentence in sentences[config.train] for word in sentence}
    entries, lexicon = build_lexicon(words, config.pronunciations)
    write_lexicon(output / LEXICON, entries)
    report = report_vocabulary(spoken_words(entry.word for entry in entries), sentences, config.train,
                               f"transcripts of {config.train}", closed=False)
    write_json(output / VOCABULARY, report.as_dict())
    return {split: facts.as_dict() for split, facts in prepared.items()} | {"lexicon": lexicon.as_dict()}


def _folder(config: PrepareLibriSpeechConfig, corpus: Path | None) -> Path:
    folder = need_corpus(corpus) / config.folder
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected LibriSpeech there (the setting folder)")
    return folder
