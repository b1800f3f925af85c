"""Stages that make manifests, with the lexicon and the language model beside them."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import copy_file, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.stages import Stage, StageContext
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import list_splits, read_manifest
from asr_kd.lexicon.lexicon_file import read_lexicon, write_lexicon
from asr_kd.lexicon.sources import (
    LexiconSourceConfig,
    build_lexicon,
)
from asr_kd.lexicon.vocabulary import VocabularyReport, report_vocabulary, spoken_words
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.text import read_sentences, read_vocabulary
from asr_kd.scoring.transcripts import read_transcripts, read_utt2spk
from asr_kd.stages.kaldi_corpus import (
    PrepareKaldiConfig,
    corpus_root,
    named_file,
    need_corpus,
)
from data_prep.demo import DemoConfig, prepare_demo
from data_prep.demo_voice import find_espeak
from data_prep.kaldi import prepare_kaldi

logger = get_logger(__name__)

LEXICON = "lexicon.txt"
LANGUAGE_MODEL = "lm.arpa.gz"
TEXTS = "texts"
DEMO_TEXT = "lm.txt"
VOCABULARY = "vocabulary.json"
_HIGH_OOV_RATE = 5.0  # percent, above which the user is told at once
REFERENCES, _REFERENCE = "references", ("text", "utt2spk")


def prepare_kaldi_stage(
    inputs: Mapping[str, Path], config: PrepareKaldiConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Manifests and whole references of each split, `lexicon.txt`, `vocabulary.json` and, where the
    corpus brings them, `lm.arpa.gz` and `texts`."""
    corpus = need_corpus(context.corpus)
    prepared = prepare_kaldi(
        corpus,
        output,
        splits=[f"{split}={folder}" for split, folder in config.folders.items()],
        root=corpus_root(corpus, config),
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
        source = named_file(corpus, config.language_model)
        copy_file(source, output / (LANGUAGE_MODEL if source.suffix == ".gz" else "lm.arpa"))
    for text in config.texts:
        (output / TEXTS).mkdir(exist_ok=True)
        copy_file(named_file(corpus, text), output / TEXTS / Path(text).name)
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
    file = None if config.lexicon is None else named_file(corpus, config.lexicon)
    facts: dict[str, Any] = {}
    named = list(config.files)
    sentences = {
        split: list(read_references(output, split)[0].values()) for split in config.folders
    }
    language_model = None
    if config.language_model is not None:
        language_model = spoken_words(read_arpa(named_file(corpus, config.language_model)).words)
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
            [named_file(corpus, text) for text in config.texts], config.min_word_count
        )
        if config.word_list is not None:
            wanted |= set(read_vocabulary(named_file(corpus, config.word_list)))
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
    highest = max(counts.oov_rate for counts in report.splits.values())
    logger.log(logging.WARNING if highest > _HIGH_OOV_RATE else logging.INFO, "%s", report)
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


def check_demo(config: DemoConfig, inputs: Mapping[str, Stage], corpus: Path | None) -> None:
    """InputError where espeak-ng is not installed."""
    find_espeak()


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
