"""Stages that make manifests, with the lexicon and the language model beside them."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import copy_file, list_files, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.opening import resolved
from asr_kd.core.stages import Stage, StageContext
from asr_kd.core.text_tables import first_field, read_table_lines, words_of
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import list_splits, read_manifest
from asr_kd.lexicon.lexicon import LexiconConfig
from asr_kd.lexicon.lexicon_file import read_lexicon, write_lexicon
from asr_kd.lexicon.sources import (
    LexiconSourceConfig,
    build_lexicon,
    words_without_pronunciation,
)
from asr_kd.lexicon.vocabulary import VocabularyReport, report_vocabulary, spoken_words
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.text import read_sentences, read_vocabulary
from asr_kd.scoring.transcripts import read_transcripts, read_utt2spk
from data_prep.demo import DemoConfig, prepare_demo
from data_prep.demo_voice import find_espeak
from data_prep.kaldi import KaldiTables, prepare_kaldi, read_kaldi

__all__ = [
    "DemoConfig",
    "PrepareKaldiConfig",
    "kaldi_files",
    "prepare_demo_stage",
    "prepare_kaldi_stage",
]

logger = get_logger(__name__)

LEXICON = "lexicon.txt"
LANGUAGE_MODEL = "lm.arpa.gz"
TEXTS = "texts"
DEMO_TEXT = "lm.txt"
VOCABULARY = "vocabulary.json"
REFERENCES, _REFERENCE = "references", ("text", "utt2spk")


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
    corpus = _need_corpus(corpus)
    for name in (*config.files, *config.folders.values()):
        _named_file(corpus, name)
    tables = _read_tables(config, corpus)
    said = {word for text in tables[config.train].texts.values() for word in words_of(text)}
    if not said:
        file = corpus / config.folders[config.train] / "text"
        raise InputError(f"{file}: no word in it; expected the transcripts of training speech")
    if config.pronunciations is not None:
        unpronounced_words(config, corpus, said)


def check_demo(config: DemoConfig, inputs: Mapping[str, Stage], corpus: Path | None) -> None:
    """InputError where espeak-ng is not installed."""
    find_espeak()


def read_split(config: PrepareKaldiConfig, corpus: Path, split: str) -> KaldiTables:
    """Words and speakers of one split, as the corpus's tables have them."""
    return _read_tables(config, corpus, split)[split]


def unpronounced_words(config: PrepareKaldiConfig, corpus: Path, words: Iterable[str]) -> list[str]:
    """The words that the lexicon will not have, before it is made; InputError where it would refuse
    them."""
    file = None if config.lexicon is None else _named_file(corpus, config.lexicon)
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
        root=_root(corpus, config),
        allow_pipes=config.allow_pipes,
    )


def kaldi_files(config: PrepareKaldiConfig, corpus: Path | None) -> list[Path]:
    """The corpus's files that the stage depends on: the splits' tables, all files that are named,
    and all audio."""
    corpus = _need_corpus(corpus)
    named = [_named_file(corpus, name) for name in config.files]
    folders = [_named_file(corpus, folder) for folder in config.folders.values()]
    tables = [path for folder in folders for path in list_files(folder)]
    audio = [
        path
        for folder in folders
        for path in _audio_files(_root(corpus, config), folder / "wav.scp")
    ]
    return [*named, *tables, *dict.fromkeys(audio)]


def prepare_kaldi_stage(
    inputs: Mapping[str, Path], config: PrepareKaldiConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Manifests and whole references of each split, `lexicon.txt`, `vocabulary.json` and, where the
    corpus brings them, `lm.arpa.gz` and `texts`."""
    corpus = _need_corpus(context.corpus)
    prepared = prepare_kaldi(
        corpus,
        output,
        splits=[f"{split}={folder}" for split, folder in config.folders.items()],
        root=_root(corpus, config),
        allow_pipes=config.allow_pipes,
        max_dropped=config.max_dropped,
        resample=config.audio.resample,
        mix_down=config.audio.mix_down,
        sampling_rate=config.audio.sampling_rate,
    )
    for of_split in prepared.values():
        if of_split.drops.by_reason:
            logger.warning("%s", of_split)
    for split, folder in config.folders.items():
        for name in _REFERENCE:
            (output / REFERENCES / split).mkdir(parents=True, exist_ok=True)
            copy_file(corpus / folder / name, output / REFERENCES / split / name)
    _warn_of_shared_speakers(config, output)
    facts = {split: of_split.as_dict() for split, of_split in prepared.items()} | _make_lexicon(
        corpus, config, output
    )
    if config.language_model is not None:
        source = _named_file(corpus, config.language_model)
        copy_file(source, output / (LANGUAGE_MODEL if source.suffix == ".gz" else "lm.arpa"))
    for text in config.texts:
        (output / TEXTS).mkdir(exist_ok=True)
        copy_file(_named_file(corpus, text), output / TEXTS / Path(text).name)
    return facts


def _warn_of_shared_speakers(config: PrepareKaldiConfig, output: Path) -> None:
    """Say which speakers are trained on and scored: error rates on them are those of known voices."""
    speakers = {split: set(read_references(output, split)[1].values()) for split in config.folders}
    for split, names in speakers.items():
        shared = sorted(names & speakers[config.train])
        if split != config.train and shared:
            logger.warning(
                "%d speakers of %s are in %s too (%s): its error rates are not those of new speakers",
                len(shared), split, config.train, ", ".join(shared[:5]),
            )


def _make_lexicon(corpus: Path, config: PrepareKaldiConfig, output: Path) -> dict[str, Any]:
    """Write the lexicon, and beside it which words of each split are out of the recogniser's
    vocabulary."""
    file = None if config.lexicon is None else _named_file(corpus, config.lexicon)
    facts: dict[str, Any] = {}
    named = list(config.files)
    sentences = {
        split: list(read_references(output, split)[0].values()) for split in config.folders
    }
    language_model = None
    if config.language_model is not None:
        language_model = spoken_words(read_arpa(_named_file(corpus, config.language_model)).words)
    if config.pronunciations is None:
        if file is None:
            raise InputError(
                "the recipe names no lexicon; name one under `lexicon`, or say under `pronunciations` "
                "where pronunciations come from (cmudict, graphemes)"
            )
        entries = read_lexicon(file)
        if file.name.startswith("lexiconp") or file.suffix == ".gz":
            write_lexicon(output / LEXICON, entries)
        else:
            copy_file(file, output / LEXICON)
        words = {entry.word for entry in entries}
    else:
        wanted = set(language_model or ())  # a copy: the language model itself gains no word
        wanted |= _words_of_texts(
            [_named_file(corpus, text) for text in config.texts], config.min_word_count
        )
        if config.word_list is not None:
            wanted |= set(read_vocabulary(_named_file(corpus, config.word_list)))
        evaluated = [split for split in config.folders if split != config.train]
        if config.words_of_evaluated_splits:
            wanted |= {word for split in evaluated for words in sentences[split] for word in words}
            named += evaluated
        needed = {
            word
            for utterance in read_manifest(output, config.train)
            for word in words_of(utterance.text)
        }
        named.insert(0, f"transcripts of {config.train}")
        entries, lexicon = build_lexicon(needed, config.pronunciations, file, wanted=wanted)
        write_lexicon(output / LEXICON, entries)
        words = {entry.word for entry in entries}
        facts["lexicon"] = lexicon.as_dict()
    words = spoken_words(words) if language_model is None else spoken_words(words) & language_model
    closed = config.closed_vocabulary or (
        config.pronunciations is not None and config.words_of_evaluated_splits
    )
    report = report_vocabulary(words, sentences, config.train, ", ".join(named), closed)
    return facts | _write_vocabulary(output, report)


def _write_vocabulary(output: Path, report: VocabularyReport) -> dict[str, Any]:
    logger.info("%s", report)
    write_json(output / VOCABULARY, report.as_dict())
    return {"vocabulary": report.as_dict()}


def _words_of_texts(texts: Iterable[Path], min_count: int) -> set[str]:
    counts = Counter(word for sentence in read_sentences(texts) for word in sentence)
    return {word for word, count in counts.items() if count >= min_count}


def make_lexicon(
    manifests: Path,
    output: Path,
    lexicon: Path | None = None,
    split: str = "train",
    lm: Path | None = None,
    text: list[Path] | None = None,
    words: Path | None = None,
    words_of_evaluated_splits: bool = False,
    settings: LexiconSourceConfig | None = None,
) -> tuple[dict[str, Any], VocabularyReport]:
    """Write a lexicon for the corpus of a manifest folder to the file `output`; where it came from,
    and what of each split is out of its vocabulary.

    Words of `split` must get a pronunciation (InputError names those that do not, unless the
    settings say otherwise); those of the language model `lm` (ARPA), of the files `text` and of the
    word list `words` get one where it can be found. Other splits are evaluated ones: their words
    only by `words_of_evaluated_splits`, which closes the vocabulary. `lexicon` is the corpus's own,
    where it brings one; all of it is taken.
    """
    sentences = {
        name: [words_of(u.text) for u in read_manifest(manifests, name)]
        for name in list_splits(manifests)
    }
    if split not in sentences:
        raise InputError(f"{manifests}: no split {split!r}; there are: {', '.join(sentences)}")
    said = {name: {word for words in spoken for word in words} for name, spoken in sentences.items()}
    wanted = _words_of_texts(text or [], 1)
    language_model = None if lm is None else spoken_words(read_arpa(lm).words)
    wanted |= language_model or set()
    if words is not None:
        wanted |= set(read_vocabulary(words))
    if words_of_evaluated_splits:
        wanted |= set().union(*said.values())
    entries, report = build_lexicon(said[split], settings, lexicon, wanted=wanted)
    write_lexicon(output, entries)
    vocabulary = spoken_words(entry.word for entry in entries)
    named = [
        f"transcripts of {split}",
        *(str(path) for path in (lexicon, lm, *(text or []), words) if path),
    ]
    if words_of_evaluated_splits:
        named += [name for name in sentences if name != split]
    return report.as_dict(), report_vocabulary(
        vocabulary if language_model is None else vocabulary & language_model,
        sentences,
        split,
        ", ".join(named),
        closed=words_of_evaluated_splits,
    )


def prepare_demo_stage(
    inputs: Mapping[str, Path], config: DemoConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """The generated corpus: audio, manifests of each split, `lexicon.txt`, text for a language
    model, `lm.txt`, and `vocabulary.json`, which is closed: one grammar makes all splits and knows
    no other word."""
    prepared = prepare_demo(output, config=config)
    words = spoken_words(entry.word for entry in read_lexicon(output / LEXICON))
    sentences = {split: read_references(output, split)[0].values() for split in prepared}
    report = report_vocabulary(
        words, sentences, "train", "the grammar that makes all splits", closed=True
    )
    return {split: facts.as_dict() for split, facts in prepared.items()} | _write_vocabulary(
        output, report
    )


def read_references(manifests: Path, split: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Words and speaker of every utterance that a split is scored on.

    Where the preparing stage left the corpus's own references, utterances that it dropped are among
    them: scoring never drops. Else all that the manifest holds (a generated corpus drops nothing).
    """
    folder = manifests / REFERENCES / split
    if folder.is_dir():
        return read_transcripts(folder / "text", "text").words, read_utt2spk(folder / "utt2spk")
    utterances = read_manifest(manifests, split)
    return {u.id: words_of(u.text) for u in utterances}, {u.id: u.speaker for u in utterances}


def _need_corpus(corpus: Path | None) -> Path:
    if corpus is None:
        raise InputError("this recipe reads a corpus from disk; give its folder by --corpus DIR")
    if not corpus.is_dir():
        raise InputError(f"{corpus}: no such folder; --corpus expects the folder of the corpus")
    return corpus


def _root(corpus: Path, config: PrepareKaldiConfig) -> Path:
    """The folder that paths in wav.scp are relative to, and may not leave."""
    return corpus if config.root is None else corpus / config.root


def _named_file(corpus: Path, name: str) -> Path:
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
