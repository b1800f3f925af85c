"""Backoffs that make the probabilities of every history sum to one."""

from collections.abc import Callable, Sequence

import numpy as np

from asr_kd.lm.index import NgramIndex, score_last_words
from asr_kd.lm.model import BEGIN, NEVER, NgramModel, Ngrams

# Below this share the mass of what was not seen is lost in the rounding of 1 - sum, and is summed word by word.
_SMALL = 1e-4


def with_backoffs(
    path: str,
    words: list[str],
    tables: Sequence[tuple[np.ndarray, np.ndarray]],
    score: Callable[[np.ndarray], np.ndarray],
) -> NgramModel:
    """The model of these n-grams, each history's backoff such that its probabilities sum to one.

    tables: by order, words int32 (ngrams, n) and ln p (ngrams,). backoff(h) = (1 - sum p(w | h)) / (1 - sum p(w | h')),
    over the words w that n-grams have after h, h' without its first word. `score` gives ln p of the last word of each
    n-gram, int32 (ngrams, n), by the model that the probabilities come from: wanted where that quotient is ill
    conditioned.
    """
    index = NgramIndex.build([table for table, _ in tables], len(words), words.index(BEGIN))
    orders = [Ngrams(table, log_probs, np.zeros(len(table))) for table, log_probs in tables]
    predicted = np.flatnonzero(np.arange(len(words)) != index.begin).astype(np.int32)
    for n in range(1, len(orders)):
        ngrams, shorter = orders[n], orders[n - 1]
        histories, keys = index.levels[n].histories, index.levels[n].keys
        lower = score_last_words(index, orders, ngrams.words[:, 1:])
        unseen = 1.0 - np.bincount(histories, np.exp(ngrams.log_probs), len(shorter))
        unseen_lower = 1.0 - np.bincount(histories, np.exp(lower), len(shorter))
        num_seen = np.bincount(histories, minlength=len(shorter))
        small = (num_seen > 0) & (np.minimum(unseen, unseen_lower) < _SMALL)
        for row in np.flatnonzero(small):
            first, last = np.searchsorted(keys, (row * len(words), (row + 1) * len(words)))
            rest = np.setdiff1d(predicted, keys[first:last] - row * len(words))
            if not len(rest):
                unseen[row] = unseen_lower[row] = 1.0
                continue
            context = np.broadcast_to(shorter.words[row], (len(rest), n))
            longer = np.column_stack((context, rest)).astype(np.int32)
            unseen[row] = np.exp(score(longer)).sum()
            unseen_lower[row] = np.exp(score_last_words(index, orders, longer[:, 1:])).sum()
        has_backoff = num_seen > 0
        shorter.backoffs[has_backoff] = np.log(unseen[has_backoff] / unseen_lower[has_backoff])
    orders[0].log_probs[orders[0].words[:, 0] == index.begin] = NEVER
    return NgramModel(path, words, orders)
