"""Counts of n-grams, and of what stands before them."""

from dataclasses import dataclass

import numpy as np

from asr_kd.lm.text import EncodedText


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one order n that a text holds, in the order of their word ids.

    histories, suffixes: int64, rows of the first and of the last n - 1 words in the order below (0 for n = 1);
    last_words: int32; occurrences: int64; adjusted: int64, the count that Kneser-Ney smoothing works with: at the
    highest order, and for n-grams that begin with `<s>`, the occurrences, else the number of different words before.
    """

    histories: np.ndarray
    suffixes: np.ndarray
    last_words: np.ndarray
    occurrences: np.ndarray
    adjusted: np.ndarray

    def __len__(self) -> int:
        return len(self.last_words)


def count_ngrams(text: EncodedText, order: int) -> list[NgramCounts]:
    """Counts of orders 1 to `order`; fewer, where no sentence is so long.

    Unigrams: one row for each word of the vocabulary, `<s>` counted 0 times. `</s>` is a word like others; n-grams
    do not reach over sentence ends; those with a word outside the vocabulary count as what stands before others, and
    are left out. As kenlm's `lmplz` (adjust_counts.cc).
    """
    num_words = len(text.vocabulary)
    is_begin = text.tokens == 0
    # rows: of the n-gram that ends at each token, -1 where a sentence begins too near.
    rows = text.tokens.astype(np.int64)
    occurrences = np.bincount(rows, minlength=num_words + 1)
    occurrences[0] = 0
    nothing = np.zeros(num_words + 1, np.int64)
    counts = [NgramCounts(nothing, nothing, np.arange(num_words + 1, dtype=np.int32), occurrences, occurrences)]
    begins = np.arange(num_words + 1) == 0
    for _ in range(1, order):
        before = np.concatenate(([-1], rows[:-1]))
        before[is_begin] = -1
        ends = np.flatnonzero(before >= 0)
        if not len(ends):
            break
        keys, firsts, ranks, occurrences = _unique(before[ends] * (num_words + 1) + text.tokens[ends])
        histories, last_words = np.divmod(keys, num_words + 1)
        suffixes = rows[ends[firsts]]
        shorter = counts[-1]
        different = np.bincount(suffixes, minlength=len(shorter))
        counts[-1] = NgramCounts(shorter.histories, shorter.suffixes, shorter.last_words, shorter.occurrences,
                                 np.where(begins, shorter.occurrences, different))
        counts.append(NgramCounts(histories, suffixes, last_words.astype(np.int32), occurrences, occurrences))
        begins = begins[histories]
        rows = np.full(len(rows), -1, np.int64)
        rows[ends] = ranks
    return _without_last_word(counts)


def _unique(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorted distinct keys, the place of one of each, for every key its rank among them, how often each occurs."""
    order = np.argsort(keys)
    arranged = keys[order]
    is_new = np.concatenate(([True], arranged[1:] != arranged[:-1]))
    starts = np.flatnonzero(is_new)
    ranks = np.empty(len(keys), np.int64)
    ranks[order] = np.cumsum(is_new) - 1
    return arranged[starts], order[starts], ranks, np.diff(starts, append=len(keys))


def _without_last_word(counts: list[NgramCounts]) -> list[NgramCounts]:
    """The counts without n-grams that hold the word of the highest id, which stands for words of no vocabulary."""
    hidden = len(counts[0]) - 1
    kept_below = np.ones(1, bool)
    places = np.zeros(1, np.int64)
    left = []
    for level in counts:
        kept = kept_below[level.histories] & (level.last_words != hidden)
        if not kept.any():
            break
        left.append(NgramCounts(places[level.histories[kept]], places[level.suffixes[kept]], level.last_words[kept],
                                level.occurrences[kept], level.adjusted[kept]))
        kept_below = kept
        places = np.cumsum(kept) - 1
    return left
