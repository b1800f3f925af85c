"""Sentences from files, and sentences as word ids."""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.core.text_tables import read_rows, words_of
from asr_kd.core.word_forms import find_other_forms
from asr_kd.lm.model import BEGIN, END

# Words outside a vocabulary that are looked at for a hint.
_ABSENT = 10_000

logger = get_logger(__name__)

Sentences = Iterable[Sequence[str]]
_MARKERS = {BEGIN, END}
# CMU's way to number a word's further pronunciations.
_VARIANT = re.compile(r"(.+)\(\d+\)")
_NO_WORDS = {*_MARKERS, "<eps>"}


def read_sentences(paths: Iterable[Path], ids: bool = False) -> Iterator[list[str]]:
    """The words of each line of text files (`.gz` too); lines without words are passed over.

    `ids`: each line begins with an utterance id, as in Kaldi's `text`. Raises InputError, with file and line, for a
    missing file, one without any word, and `<s>` or `</s>` in the text.
    """
    for path in paths:
        empty = True
        for number, fields in read_rows(path):
            words = fields[1:] if ids else fields
            if not words:
                continue
            if not _MARKERS.isdisjoint(words):
                raise InputError(f"{path}:{number}: {BEGIN} or {END} in the text; expected the words of one sentence "
                                 "a line, without its ends")
            empty = False
            yield words
        if empty:
            expected = "an utterance id and its words" if ids else "the words of one sentence"
            raise InputError(f"{path}: no words in it; expected {expected} a line")


def read_manifest_sentences(folder: Path, split: str) -> Iterator[list[str]]:
    """The words of each utterance of a split. Raises InputError as `read_manifest` does."""
    from asr_kd.data.manifest import read_manifest

    return (words_of(utterance.text) for utterance in read_manifest(folder, split))


def read_vocabulary(path: Path) -> list[str]:
    """The first field of each line: a word list, Kaldi's words.txt, or a lexicon (`WORD(2)` is WORD once more).

    Comments (`;;;`, `#0`), `<eps>` and sentence ends are no words. InputError for a file without any.
    """
    words = dict.fromkeys(fields[0] for _, fields in read_rows(path) if not fields[0].startswith(";;;"))
    found = [word for word in words
             if word not in _NO_WORDS and not (word.startswith("#") and word[1:].isdigit())
             and not ((variant := _VARIANT.fullmatch(word)) and variant[1] in words)]
    if not found:
        raise InputError(f"{path}: no word in it; expected one a line, or a lexicon")
    return found


@dataclass(frozen=True)
class EncodedText:
    """Sentences run together, each `<s>` words `</s>`, as indices into `vocabulary`.

    tokens: int32; words that the vocabulary lacks are the unknown word, or len(vocabulary) where there is none.
    oov counts them.
    """

    tokens: np.ndarray
    vocabulary: list[str]
    sentences: int
    oov: int

    @property
    def words(self) -> int:
        return len(self.tokens) - 2 * self.sentences


def encode(
    texts: Sequence[Sentences],
    vocabulary: Iterable[str] | None = None,
    *,
    unknown_word: str | None = None,
    min_count: int = 1,
) -> list[EncodedText]:
    """Each text as word ids of one vocabulary: `<s>`, `</s>`, the unknown word if one is named, then words sorted.

    `vocabulary` None takes the words seen at least `min_count` times in all texts together. Sentences without words
    are passed over. Raises InputError for a text without a word, an empty vocabulary, and `<s>` or `</s>` as a word.
    """
    encoder = _Encoder(vocabulary)
    streams = [encoder.encode(text, number, len(texts)) for number, text in enumerate(texts, 1)]
    if other := str(find_other_forms(encoder.ids.absent, encoder.ids)):
        logger.warning("of the words outside the vocabulary of the language model it has %s", other)
    return encoder.finish(streams, unknown_word, min_count)


class _Words(dict[str, int]):
    """Word -> number in the order of first sight; `grow` off: unseen words are -1, the first of them `absent`."""

    grow = True

    def __init__(self, numbers: dict[str, int]) -> None:
        super().__init__(numbers)
        self.absent: set[str] = set()

    def __missing__(self, word: str) -> int:
        if not self.grow:
            if len(self.absent) < _ABSENT:
                self.absent.add(word)
            return -1
        self[word] = number = len(self)
        return number


class _Encoder:
    def __init__(self, vocabulary: Iterable[str] | None) -> None:
        self.ids = _Words({BEGIN: 0, END: 1})
        self.closed = vocabulary is not None
        if vocabulary is not None:
            for word in vocabulary:
                self.ids[word]
            self.ids.grow = False
            if len(self.ids) == 2:
                raise InputError("the vocabulary of the language model is empty")

    def encode(self, text: Sentences, number: int, of: int) -> np.ndarray:
        tokens, look_up, ends = array("i"), self.ids.__getitem__, [1, 0]
        tokens.append(0)
        sentences = 0
        for words in text:
            if len(words):
                sentences += 1
                tokens.extend(chain(map(look_up, words), ends))
        tokens.pop()
        which = f"text {number} of {of}" if of > 1 else "the text"
        if not sentences:
            raise InputError(f"{which} of the language model has no words")
        stream = np.frombuffer(tokens, np.int32)
        if any(np.count_nonzero(stream == marker) != sentences for marker in (0, 1)):
            raise InputError(f"{which} of the language model holds {BEGIN} or {END} as words")
        return stream

    def finish(self, streams: list[np.ndarray], unknown_word: str | None, min_count: int) -> list[EncodedText]:
        seen = list(self.ids)
        if self.closed:
            kept = set(seen)
        else:
            counts = sum(np.bincount(stream, minlength=len(seen)) for stream in streams)
            kept = {word for word, count in zip(seen, np.asarray(counts).tolist(), strict=True) if count >= min_count}
        special = [BEGIN, END, *([unknown_word] if unknown_word else [])]
        vocabulary = [*special, *sorted(kept.difference(special))]
        if len(vocabulary) == len(special):
            raise InputError(f"no word occurs {min_count} times; the language model would have no vocabulary")
        new = {word: i for i, word in enumerate(vocabulary)}
        missing = 2 if unknown_word else len(vocabulary)
        # The last entry is what -1 points at.
        mapping = np.array([*(new.get(word, missing) for word in seen), missing], np.int32)
        is_oov = np.array([*(word not in new for word in seen), True])
        return [EncodedText(mapping[stream], vocabulary, int(np.count_nonzero(stream == 0)),
                            int(np.count_nonzero(is_oov[stream]))) for stream in streams]
