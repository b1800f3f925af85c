"""Back-off n-gram models in memory."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.lm.index import NgramIndex, score_last_words

BEGIN, END = "<s>", "</s>"
UNKNOWN_WORDS = ("<unk>", "<UNK>")
LN10 = math.log(10.0)
# What an ARPA file says of <s>, which is never predicted.
NEVER = -99.0 * LN10

# A log10 value counts to seven decimals, in files and in the digest.
_DECIMALS = 1e7


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of one order n.

    words: int32 (ngrams, n), indices into `NgramModel.words`; log_probs, backoffs: float64 (ngrams,), natural
    logarithms; a backoff that the file leaves out is 0.
    """

    words: np.ndarray
    log_probs: np.ndarray
    backoffs: np.ndarray

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class NgramModel:
    """A back-off n-gram model: vocabulary (`<s>` and `</s>` among it) and n-grams by order.

    `path` is where it was read from, or says how it was made. Every history is an n-gram of the order below.
    """

    path: str
    words: list[str]
    orders: list[Ngrams]

    @property
    def order(self) -> int:
        return len(self.orders)

    @property
    def num_ngrams(self) -> int:
        return sum(len(ngrams) for ngrams in self.orders)

    @cached_property
    def word_id(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def unknown_word(self) -> str | None:
        """The word that stands for all that the vocabulary lacks, if the model has one."""
        return next((word for word in UNKNOWN_WORDS if word in self.word_id), None)

    @cached_property
    def index(self) -> NgramIndex:
        """Finds the rows of n-grams."""
        return NgramIndex.build([ngrams.words for ngrams in self.orders], len(self.words), self.word_id[BEGIN])

    @cached_property
    def digest(self) -> str:
        """Identifies words and n-grams, log10 values to seven decimals, in hexadecimal digits.

        A model and the ARPA file written from it have the same one.
        """
        found = hashlib.sha256("\n".join(self.words).encode())
        for ngrams in self.orders:
            found.update(ngrams.words.astype("<i4").tobytes())
            found.update(in_decimals(ngrams.log_probs).tobytes())
            found.update(in_decimals(ngrams.backoffs).tobytes())
        return found.hexdigest()

    def map_words(self, words: Sequence[str]) -> np.ndarray:
        """int32 (words,): their ids; words outside the vocabulary become the unknown word, or -1 without one."""
        unknown = -1 if self.unknown_word is None else self.word_id[self.unknown_word]
        return np.array([self.word_id.get(word, unknown) for word in words], np.int32)

    def score(self, history: Sequence[str], word: str) -> float:
        """ln p(word | history); `history` may begin with `<s>`, and its last order - 1 words count.

        Raises InputError for a word that the model does not know, if it has no unknown word.
        """
        kept = history[len(history) - min(len(history), self.order - 1):]
        ids = self.map_words([*kept, word])
        if ids[-1] < 0:
            raise InputError(f"{self.path}: the word {word!r} is not in the language model")
        return float(score_last_words(self.index, self.orders, ids[None])[0])


def in_decimals(values: np.ndarray) -> np.ndarray:
    """int64: natural logarithms as log10 in units of 1e-7."""
    return np.rint(values * (_DECIMALS / LN10)).astype("<i8")
