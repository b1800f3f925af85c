"""Kaldi data directories as a corpus: settings, files, and checks before work begins."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files
from asr_kd.core.opening import resolved
from asr_kd.core.stages import Stage
from asr_kd.core.text_tables import first_field, read_table_lines, words_of
from asr_kd.data.audio import AudioOptions
from asr_kd.lexicon.lexicon import LexiconConfig
from asr_kd.lexicon.lexicon_file import read_lexicon
from asr_kd.lexicon.sources import LexiconSourceConfig, words_without_pronunciation
from data_prep.kaldi import KaldiTables, read_kaldi


class PrepareKaldiConfig(Config):
    """A corpus of Kaldi data directories, `splits`: their names, or what each is to be called and
    its folder.

    Files of `lexicon`, `language_model` (ARPA), `texts` (for a stage language-model) and
    `word_list` are relative to the corpus folder, which they may not leave so, or absolute; `root`
    is what paths in wav.scp are relative to and may not leave: the corpus folder, or the folder
    that is given.

    Without `pronunciations` the lexicon is taken as it is. With it, words of the split `train` must
    have one, from the lexicon (if the corpus brings one) or elsewhere; words of the language model,
    of the word list, and those that occur at least `min_word_count` times in `texts`, get one where
    it can be found. Words of the other splits are nobody's business before they are scored:
    `words_of_evaluated_splits` adds them, and closes the vocabulary. `closed_vocabulary` says that
    the lexicon or the language model was made with knowledge of the other splits.
    """

    splits: list[Name] | dict[Name, Name] = Field(["train", "dev", "test"], min_length=1)
    train: Name = "train"
    root: str | None = None
    lexicon: str | None = None
    pronunciations: LexiconSourceConfig | None = None
    language_model: str | None = None
    texts: list[str] = []
    min_word_count: int = Field(1, ge=1)
    word_list: str | None = None
    words_of_evaluated_splits: bool = False
    closed_vocabulary: bool = False
    allow_pipes: bool = False
    max_dropped: float = Field(0.05, ge=0, le=1)
    audio: AudioOptions = AudioOptions()

    @property
    def folders(self) -> dict[str, str]:
        """Split -> its data directory in the corpus folder."""
        return (
            self.splits
            if isinstance(self.splits, dict)
            else {split: split for split in self.splits}
        )

    @property
    def files(self) -> list[str]:
        """The files that the settings name."""
        named = (self.lexicon, self.language_model, self.word_list, *self.texts)
        return [name for name in named if name is not None]


def check_kaldi(config: PrepareKaldiConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError for settings of a preparing stage that do not go together."""
    if config.train not in config.folders:
        raise InputError(
            f"the split {config.train!r} whose words need pronunciations is not among the splits "
            f"{', '.join(config.folders)}"
        )
    if config.lexicon is None and config.pronunciations is None:
        raise InputError(
            "the recipe names no lexicon; name one under `lexicon`, or say under `pronunciations` "
            "where pronunciations come from (cmudict, graphemes)"
        )
    if config.words_of_evaluated_splits and config.pronunciations is None:
        raise InputError(
            "words_of_evaluated_splits has words pronounced, but without `pronunciations` the "
            "lexicon is taken as it is; leave it out, or say where pronunciations come from"
        )
    names = [Path(text).name for text in config.texts]
    if len(set(names)) < len(names):
        raise InputError(f"two of the texts {', '.join(config.texts)} have the same file name")


def check_kaldi_corpus(
    config: PrepareKaldiConfig, inputs: Mapping[str, Stage], corpus: Path | None
) -> None:
    """InputError for tables that are not there or do not fit together, files that are not there,
    and training words that cannot be pronounced; no audio is opened."""
    corpus = need_corpus(corpus)
    for name in (*config.files, *config.folders.values()):
        named_file(corpus, name)
    tables = _read_tables(config, corpus)
    said = {word for text in tables[config.train].texts.values() for word in words_of(text)}
    if not said:
        file = corpus / config.folders[config.train] / "text"
        raise InputError(f"{file}: no word in it; expected the transcripts of training speech")
    if config.pronunciations is not None:
        unpronounced_words(config, corpus, said)


def read_split(config: PrepareKaldiConfig, corpus: Path, split: str) -> KaldiTables:
    """Words and speakers of one split, as the corpus's tables have them."""
    return _read_tables(config, corpus, split)[split]


def unpronounced_words(config: PrepareKaldiConfig, corpus: Path, words: Iterable[str]) -> list[str]:
    """The words that the lexicon will not have, before it is made; InputError where it would refuse
    them."""
    file = None if config.lexicon is None else named_file(corpus, config.lexicon)
    if config.pronunciations is not None:
        return words_without_pronunciation(words, config.pronunciations, file)
    # Every lexicon gets these two.
    added = {LexiconConfig().silence_word, LexiconConfig().unknown_word}
    known = added | {entry.word for entry in read_lexicon(file)} if file is not None else added
    return sorted(set(words) - known)


def _read_tables(config: PrepareKaldiConfig, corpus: Path, *only: str) -> dict[str, KaldiTables]:
    return read_kaldi(
        corpus,
        splits=[f"{split}={config.folders[split]}" for split in only or config.folders],
        root=corpus_root(corpus, config),
        allow_pipes=config.allow_pipes,
    )


def kaldi_files(config: PrepareKaldiConfig, corpus: Path | None) -> list[Path]:
    """The corpus's files that the stage depends on: the splits' tables, all files that are named,
    and all audio."""
    corpus = need_corpus(corpus)
    named = [named_file(corpus, name) for name in config.files]
    folders = [named_file(corpus, folder) for folder in config.folders.values()]
    tables = [path for folder in folders for path in list_files(folder)]
    audio = [
        path
        for folder in folders
        for path in _audio_files(corpus_root(corpus, config), folder / "wav.scp")
    ]
    return [*named, *tables, *dict.fromkeys(audio)]


def need_corpus(corpus: Path | None) -> Path:
    if corpus is None:
        raise InputError("this recipe reads a corpus from disk; give its folder by --corpus DIR")
    if not corpus.is_dir():
        raise InputError(f"{corpus}: no such folder; --corpus expects the folder of the corpus")
    return corpus


def corpus_root(corpus: Path, config: PrepareKaldiConfig) -> Path:
    """The folder that paths in wav.scp are relative to, and may not leave."""
    return corpus if config.root is None else corpus / config.root


def named_file(corpus: Path, name: str) -> Path:
    """A file or folder that the settings name; a relative one may not lead out of the corpus
    folder."""
    path = corpus / name
    if not Path(name).is_absolute() and not resolved(path).is_relative_to(resolved(corpus)):
        raise InputError(
            f"{name}: leads out of the corpus folder {corpus}; name files elsewhere by an absolute path"
        )
    if not path.exists():
        raise InputError(f"{path}: not there; the recipe expects it in the corpus")
    return path


def _audio_files(root: Path, table: Path) -> list[Path]:
    """The audio files below `root` that a wav.scp names and that are there; the preparer says what
    is wrong with the others."""
    if not table.is_file():
        return []
    names = [first_field(line)[1] for _, line in read_table_lines(table)]
    inside = [
        root / name
        for name in names
        if name and not name.endswith("|")
        and Path(os.path.abspath(root / name)).is_relative_to(os.path.abspath(root))
    ]
    return [path for path in inside if path.is_file()]
