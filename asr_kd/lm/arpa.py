"""Back-off n-gram models in the ARPA format."""

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_lines

_LN10 = math.log(10.0)


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
    """A back-off n-gram model: vocabulary (`<s>` and `</s>` among it), n-grams by order, hash of its content."""

    path: str
    words: list[str]
    orders: list[Ngrams]
    digest: str

    @property
    def order(self) -> int:
        return len(self.orders)


def read_arpa(path: Path) -> NgramModel:
    """Read an ARPA file (`.gz` too) and check all of it.

    Raises InputError with file and line: wrong counts, NaN or positive log-probabilities, missing sections or
    `\\end\\`, duplicate n-grams, words without unigram, n-grams whose history is absent or has no backoff.
    """
    return _Reader(path).read()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = read_lines(path)
        self.number = 0
        self.hash = hashlib.sha256()
        self.index: dict[str, int] = {}

    def read(self) -> NgramModel:
        counts, section = self._read_counts()
        orders: list[Ngrams] = []
        rows: dict[tuple[int, ...], int] = {}
        lines: list[int] = []
        for order, count in enumerate(counts, 1):
            if section != f"\\{order}-grams:":
                raise self._error(f"expected \\{order}-grams:, found {section!r}")
            ngrams, order_rows, order_lines, section = self._read_section(order, count, len(counts))
            if order > 1:
                self._check_histories(ngrams, order_lines, orders[-1], rows, lines)
            orders.append(ngrams)
            rows, lines = order_rows, order_lines
        if section != "\\end\\":
            raise self._error(f"expected \\end\\ after the {len(counts)}-grams, found {section!r}")
        for symbol in ("<s>", "</s>"):
            if symbol not in self.index:
                raise InputError(f"{self.path}: no unigram {symbol}; the model must know sentence ends")
        for _ in self.lines:  # what follows \end\ is ignored, but a damaged .gz must not be
            pass
        return NgramModel(str(self.path), list(self.index), orders, self.hash.hexdigest())

    def _error(self, message: str) -> InputError:
        return InputError(f"{self.path}:{self.number}: {message}")

    def _next(self) -> str:
        """The next line that is not blank, stripped."""
        for number, line in self.lines:
            self.number = number
            text = line.strip()
            if text:
                self.hash.update(text.encode() + b"\n")
                return text
        raise self._error("the file ends before \\end\\; is it truncated?")

    def _read_counts(self) -> tuple[list[int], str]:
        """The counts of the header, and the line that ends it."""
        while self._next() != "\\data\\":
            pass
        self.hash = hashlib.sha256()
        counts: list[int] = []
        while True:
            line = self._next()
            match = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line)
            if match is None:
                break
            if int(match[1]) != len(counts) + 1:
                raise self._error(f"expected 'ngram {len(counts) + 1}=COUNT', found {line!r}")
            counts.append(int(match[2]))
        if not counts:
            raise self._error(f"expected 'ngram 1=COUNT', found {line!r}")
        return counts, line

    def _read_section(
        self, order: int, count: int, highest: int
    ) -> tuple[Ngrams, dict[tuple[int, ...], int], list[int], str]:
        """n-grams of one order, their rows, their line numbers (negative: no backoff given), the next section."""
        words: list[tuple[int, ...]] = []
        log_probs: list[float] = []
        backoffs: list[float] = []
        lines: list[int] = []
        rows: dict[tuple[int, ...], int] = {}
        while not (line := self._next()).startswith("\\"):
            fields = line.split()
            if not order + 1 <= len(fields) <= order + 2 or (order == highest and len(fields) > order + 1):
                raise self._error(f"expected a log-probability, {order} word(s)"
                                  f"{' and perhaps a backoff' if order < highest else ''}, found {line!r}")
            log_probs.append(self._log_prob(fields[0], fields[1]))
            backoffs.append(self._backoff(fields[-1]) if len(fields) == order + 2 else 0.0)
            ngram = self._ids(fields[1 : order + 1])
            if rows.setdefault(ngram, len(words)) != len(words):
                raise self._error(f"the n-gram {' '.join(fields[1:order + 1])!r} stands here a second time")
            words.append(ngram)
            lines.append(self.number if len(fields) == order + 2 else -self.number)
        if len(words) != count:
            raise self._error(f"the header says ngram {order}={count}, but there are {len(words)}")
        table = np.array(words, np.int32).reshape(-1, order)
        return Ngrams(table, np.array(log_probs), np.array(backoffs)), rows, lines, line

    def _ids(self, words: list[str]) -> tuple[int, ...]:
        if len(words) == 1:
            return (self.index.setdefault(words[0], len(self.index)),)
        try:
            return tuple([self.index[word] for word in words])
        except KeyError as error:
            raise self._error(f"the word {error.args[0]!r} has no unigram") from None

    def _log_prob(self, text: str, word: str) -> float:
        value = self._number(text)
        if value == -math.inf and word == "<s>":
            return -99.0 * _LN10
        if not math.isfinite(value) or value > 0:
            raise self._error(f"log-probability {text} is not a finite number at or below 0")
        return value * _LN10

    def _backoff(self, text: str) -> float:
        value = self._number(text)
        if not math.isfinite(value):
            raise self._error(f"backoff {text} is not a finite number")
        return value * _LN10

    def _number(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise self._error(f"expected a number, found {text!r}") from None

    def _check_histories(
        self, ngrams: Ngrams, ngram_lines: list[int], shorter: Ngrams, rows: dict[tuple[int, ...], int],
        lines: list[int],
    ) -> None:
        """Every history is an n-gram of the order below, and has a backoff."""
        vocabulary = list(self.index)
        for history, first in zip(*np.unique(ngrams.words[:, :-1], axis=0, return_index=True), strict=True):
            row = rows.get(tuple(history.tolist()))
            name = " ".join(vocabulary[i] for i in history)
            if row is None:
                raise InputError(f"{self.path}:{abs(ngram_lines[first])}: the history {name!r} of this n-gram "
                                 f"is not among the {shorter.words.shape[1]}-grams")
            if lines[row] < 0:
                raise InputError(f"{self.path}:{-lines[row]}: {name!r} has no backoff, but longer n-grams "
                                 f"(line {abs(ngram_lines[first])}) begin with it")
