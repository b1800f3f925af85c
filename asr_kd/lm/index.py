"""An index of a model's n-grams, and back-off probabilities of many words at once.

The row of an n-gram is found from the row of its history and its last word: one sorted array of packed keys an order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Probabilities(Protocol):
    """The n-grams of one order: natural logarithms, float64 (ngrams,)."""

    @property
    def log_probs(self) -> np.ndarray: ...
    @property
    def backoffs(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Level:
    """One order. histories: int64 (ngrams,), rows in the order below (-1: not there); keys: int64, sorted; rows: of
    the keys; last_words: int32 (ngrams,)."""

    histories: np.ndarray
    last_words: np.ndarray
    keys: np.ndarray
    rows: np.ndarray

    @property
    def duplicate(self) -> int | None:
        """The first row whose n-gram stands before it already."""
        same = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        return int(np.minimum.reduce(self.rows[same + 1])) if len(same) else None


@dataclass(frozen=True)
class NgramIndex:
    """levels: one an order, from unigrams; begin: the id of `<s>`, which no n-gram holds but as its first word."""

    levels: list[Level]
    num_words: int
    begin: int

    @staticmethod
    def build(tables: Sequence[np.ndarray], num_words: int, begin: int) -> "NgramIndex":
        """tables: int32 (ngrams, n) for n = 1, 2..."""
        index = NgramIndex([], num_words, begin)
        for table in tables:
            index.append(table)
        return index

    def append(self, table: np.ndarray) -> Level:
        """Add the n-grams of the next order, int32 (ngrams, n)."""
        histories = self.find(table[:, :-1]) if self.levels else np.zeros(len(table), np.int64)
        last_words = np.ascontiguousarray(table[:, -1])
        keys = histories * self.num_words + last_words
        if np.all(keys[1:] > keys[:-1]):
            rows = np.arange(len(keys))
        else:
            rows = np.argsort(keys, kind="stable")
            keys = keys[rows]
        level = Level(histories, last_words, keys, rows)
        self.levels.append(level)
        return level

    def extend(self, order: int, histories: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Rows of the n-grams of `order` that lengthen those of `histories` (rows in the order below) by `words`.

        int64, -1 where there is none, where the history is -1 and where the word is -1.
        """
        level = self.levels[order - 1]
        if not len(level.keys):
            return np.full(len(words), -1, np.int64)
        wanted = histories * self.num_words + words
        places = np.minimum(np.searchsorted(level.keys, wanted), len(level.keys) - 1)
        found = (level.keys[places] == wanted) & (words >= 0) & (histories >= 0)
        return np.where(found, level.rows[places], -1)

    def find(self, table: np.ndarray) -> np.ndarray:
        """Rows of the n-grams `table` (ngrams, n), -1 where there is none. int64 (ngrams,)."""
        rows = np.zeros(len(table), np.int64)
        for column in range(table.shape[1]):
            rows = self.extend(column + 1, rows, table[:, column])
        return rows

    def find_suffixes(self, table: np.ndarray) -> list[np.ndarray]:
        """For m = 1..n: rows of the last m words of each n-gram of `table` (ngrams, n), -1 where there is none."""
        current: list[np.ndarray] = []
        for column in range(table.shape[1]):
            current = self._lengthen(current, table[:, column])
        return current

    def find_stream(self, tokens: np.ndarray) -> list[np.ndarray]:
        """For m = 1..order: rows of the last m tokens up to each of `tokens` (sentences begin with `<s>`), or -1."""
        rows: list[np.ndarray] = []
        for order in range(1, len(self.levels) + 1):
            before = np.zeros(len(tokens), np.int64)
            if order > 1:
                before[0] = -1
                before[1:] = rows[-1][:-1]
                before[tokens == self.begin] = -1
            rows.append(self.extend(order, before, tokens))
        return rows

    def _lengthen(self, before: list[np.ndarray], words: np.ndarray) -> list[np.ndarray]:
        rows = [self.extend(1, np.zeros(len(words), np.int64), words)]
        rows += [self.extend(order, shorter, words)
                 for order, shorter in enumerate(before[: len(self.levels) - 1], 2)]
        return rows


def score_last_words(index: NgramIndex, orders: Sequence[Probabilities], table: np.ndarray) -> np.ndarray:
    """ln p(last word | words before it) of each row of `table` (ngrams, n), float64; -inf for a word -1."""
    before: list[np.ndarray] = index.find_suffixes(table[:, :-1]) if table.shape[1] > 1 else []
    return _back_off(orders, before, index._lengthen(before, table[:, -1]))


def score_stream(index: NgramIndex, orders: Sequence[Probabilities], tokens: np.ndarray) -> np.ndarray:
    """ln p of each of `tokens` (sentences run together, each begins with `<s>`) after those before it, float64.

    -inf for a token -1; what stands at `<s>` means nothing.
    """
    rows = index.find_stream(tokens)
    before = [np.concatenate(([-1], found[:-1])) for found in rows]
    return _back_off(orders, before, rows)


def _back_off(orders: Sequence[Probabilities], before: list[np.ndarray], rows: list[np.ndarray]) -> np.ndarray:
    """The longest n-gram that there is, and the backoffs of the histories too long for it.

    before, rows: for m = 1, 2..., rows of the m words before the last one, and of those up to it.
    """
    total = np.zeros(len(rows[0]))
    open_ = np.ones(len(total), bool)
    for order in range(len(rows), 0, -1):
        found = rows[order - 1]
        hit = open_ & (found >= 0)
        total[hit] += orders[order - 1].log_probs[found[hit]]
        open_ &= ~hit
        if order > 1:
            history = before[order - 2]
            backed = open_ & (history >= 0)
            total[backed] += orders[order - 2].backoffs[history[backed]]
    total[open_] = -np.inf
    return total
