"""Back-off n-gram models in the ARPA format."""

import gzip
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.text_tables import decimal_number, read_table_lines, words_of
from asr_kd.lm.index import Level, NgramIndex
from asr_kd.lm.model import BEGIN, END, LN10, NEVER, NgramModel, Ngrams, in_decimals

__all__ = ["NgramModel", "Ngrams", "read_arpa", "write_arpa"]

_LINES_AT_ONCE = 100_000
# Of log10: -99 stands for no probability at all, and single precision still tells such sums apart.
_LOWEST = -1e5
_COUNT = re.compile(r"ngram[ \t]+(\d{1,18})[ \t]*=[ \t]*(\d{1,18})", re.ASCII)
_EMPTY_WORD = re.compile(r"\t *\t")


def read_arpa(path: Path) -> NgramModel:
    """Read an ARPA file (`.gz` too) and check all of it.

    Raises InputError with file and line: wrong counts, log-probabilities that are NaN, positive or below -1e5
    (base 10), missing sections or
    `\\end\\`, duplicate n-grams, words without unigram, n-grams whose history is absent or has no backoff.
    """
    return _Reader(path).read()


def write_arpa(model: NgramModel, path: Path) -> None:
    """Write an ARPA file, gzip'd where its name ends in `.gz`; the same model gives the same bytes.

    Seven decimals; a backoff stands where it is not 0 and where longer n-grams begin with the n-gram.
    """
    path = Path(path)
    with atomic_file(path, "wb") as file:
        if path.suffix != ".gz":
            file.writelines(_chunks(model))
            return
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            for chunk in _chunks(model):
                packed.write(chunk)


def _chunks(model: NgramModel) -> Iterator[bytes]:
    head = ["", "\\data\\", *(f"ngram {n}={len(ngrams)}" for n, ngrams in enumerate(model.orders, 1)), ""]
    yield ("\n".join(head) + "\n").encode()
    for n, ngrams in enumerate(model.orders, 1):
        yield f"\\{n}-grams:\n".encode()
        is_history = np.zeros(len(ngrams), bool)
        if n < model.order:
            is_history[model.index.levels[n].histories] = True
        for first in range(0, len(ngrams), _LINES_AT_ONCE):
            part = slice(first, first + _LINES_AT_ONCE)
            yield "".join(_format(model, ngrams, part, is_history)).encode()
        yield b"\n"
    yield b"\\end\\\n"


def _format(model: NgramModel, ngrams: Ngrams, part: slice, is_history: np.ndarray) -> Iterator[str]:
    log_probs, backoffs = (in_decimals(a[part]) for a in (ngrams.log_probs, ngrams.backoffs))
    written = (is_history[part] | (backoffs != 0)).tolist()
    names = model.words
    rows = zip(ngrams.words[part].tolist(), (log_probs / 1e7).tolist(), (backoffs / 1e7).tolist(), written,
               strict=True)
    for ids, log_prob, backoff, with_backoff in rows:
        words = " ".join([names[i] for i in ids])
        yield f"{log_prob:.7f}\t{words}\t{backoff:.7f}\n" if with_backoff else f"{log_prob:.7f}\t{words}\n"


@dataclass
class _Section:
    """The n-grams of one order as they are read; lines: of the file, negative where no backoff is given."""

    words: array = field(default_factory=lambda: array("i"))
    log_probs: array = field(default_factory=lambda: array("d"))
    backoffs: array = field(default_factory=lambda: array("d"))
    lines: array = field(default_factory=lambda: array("q"))

    def line(self, row: int) -> int:
        return abs(self.lines[row])


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = read_table_lines(path)
        self.number = 0
        self.ids: dict[str, int] = {}

    def read(self) -> NgramModel:
        counts, heading = self._read_counts()
        orders: list[Ngrams] = []
        index = NgramIndex([], 0, 0)
        shorter: _Section | None = None
        for order, count in enumerate(counts, 1):
            if heading != f"\\{order}-grams:":
                raise self._error(f"expected \\{order}-grams:, found {heading!r}")
            section, heading = self._read_section(order, len(counts))
            table = np.frombuffer(section.words, np.int32).reshape(-1, order)
            if order == 1:
                index = NgramIndex([], len(self.ids), self.ids.get(BEGIN, -1))
            level = index.append(table)
            if level.duplicate is not None:
                raise self._at(section.line(level.duplicate), f"the n-gram {self._name(table[level.duplicate])!r} "
                               "stands here a second time")
            if len(table) != count:
                raise self._error(f"the header says ngram {order}={count}, but there are {len(table)}")
            if shorter is not None:
                self._check_histories(table, level, section, shorter)
            orders.append(Ngrams(table, np.array(section.log_probs), np.array(section.backoffs)))
            shorter = section
        if heading != "\\end\\":
            raise self._error(f"expected \\end\\ after the {len(counts)}-grams, found {heading!r}")
        for symbol in (BEGIN, END):
            if symbol not in self.ids:
                raise InputError(f"{self.path}: no unigram {symbol}; the model must know sentence ends")
        for _ in self.lines:  # what follows \end\ is ignored, but a damaged .gz must not be
            pass
        return NgramModel(str(self.path), list(self.ids), orders)

    def _error(self, message: str) -> InputError:
        return self._at(self.number, message)

    def _at(self, line: int, message: str) -> InputError:
        return InputError(f"{self.path}:{line}: {message}")

    def _name(self, ids: np.ndarray) -> str:
        vocabulary = list(self.ids)
        return " ".join(vocabulary[i] for i in ids)

    def _next(self) -> str:
        """The next line that is not blank, stripped."""
        for number, line in self.lines:
            self.number = number
            if line:
                return line
        raise self._error("the file ends before \\end\\; is it truncated?")

    def _read_counts(self) -> tuple[list[int], str]:
        """The counts of the header, and the line that ends it."""
        while self._next() != "\\data\\":
            pass
        counts: list[int] = []
        while True:
            line = self._next()
            match = _COUNT.fullmatch(line)
            if match is None:
                break
            if int(match[1]) != len(counts) + 1:
                raise self._error(f"expected 'ngram {len(counts) + 1}=COUNT', found {line!r}")
            counts.append(int(match[2]))
        if not counts:
            raise self._error(f"expected 'ngram 1=COUNT', found {line!r}")
        return counts, line

    def _read_section(self, order: int, highest: int) -> tuple[_Section, str]:
        """The n-grams of one order, and the heading of the next section."""
        section, ids = _Section(), self.ids
        while True:
            line = self._next()
            fields = words_of(line)
            if not order + 1 <= len(fields) <= order + 2 or (order == highest and len(fields) > order + 1):
                if line.startswith("\\"):
                    return section, line
                raise self._error(f"expected a log-probability, {order} word(s)"
                                  f"{' and perhaps a backoff' if order < highest else ''}, found {line!r}")
            if _EMPTY_WORD.search(line):
                raise self._error(f"an empty word between two tabs in {line!r}")
            section.log_probs.append(self._log_prob(fields[0], fields[1]))
            with_backoff = len(fields) == order + 2
            section.backoffs.append(self._backoff(fields[-1]) if with_backoff else 0.0)
            section.lines.append(self.number if with_backoff else -self.number)
            if order == 1:
                if ids.setdefault(fields[1], len(ids)) != len(section.words):
                    raise self._error(f"the n-gram {fields[1]!r} stands here a second time")
                section.words.append(len(section.words))
                continue
            try:
                section.words.extend([ids[word] for word in fields[1:order + 1]])
            except KeyError as error:
                raise self._error(f"the word {error.args[0]!r} has no unigram") from None

    def _log_prob(self, text: str, word: str) -> float:
        value = self._number(text)
        if value == -math.inf and word == BEGIN:
            return NEVER
        if not math.isfinite(value) or value > 0:
            raise self._error(f"log-probability {text} is not a finite number at or below 0")
        if value < _LOWEST:
            raise self._error(f"log-probability {text} is below {_LOWEST:g}; write -99 for a word that cannot be")
        return value * LN10

    def _backoff(self, text: str) -> float:
        value = self._number(text)
        if not math.isfinite(value):
            raise self._error(f"backoff {text} is not a finite number")
        if abs(value) > -_LOWEST:
            raise self._error(f"backoff {text} is not from {_LOWEST:g} to {-_LOWEST:g}; it is a logarithm to base 10")
        return value * LN10

    def _number(self, text: str) -> float:
        try:
            return decimal_number(text)
        except ValueError:
            raise self._error(f"expected a number, found {text!r}") from None

    def _check_histories(self, table: np.ndarray, level: Level, section: _Section, shorter: _Section) -> None:
        """Every history is an n-gram of the order below, and has a backoff."""
        missing = np.flatnonzero(level.histories < 0)
        if len(missing):
            first = int(missing[0])
            raise self._at(section.line(first), f"the history {self._name(table[first, :-1])!r} of this n-gram is not "
                           f"among the {table.shape[1] - 1}-grams")
        without = np.flatnonzero(np.frombuffer(shorter.lines, np.int64)[level.histories] < 0)
        if len(without):
            first = int(without[0])
            raise self._at(shorter.line(int(level.histories[first])), f"{self._name(table[first, :-1])!r} has no "
                           f"backoff, but longer n-grams (line {section.line(first)}) begin with it")
