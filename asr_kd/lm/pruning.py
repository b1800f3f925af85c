"""Smaller models: entropy pruning.

Stolcke 1998 (Entropy-based pruning of backoff language models), as SRILM's `ngram -prune`: an n-gram goes when
leaving it to the backoff raises the model's perplexity by less than a share of it.
"""

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.lm.backoff import with_backoffs
from asr_kd.lm.index import score_last_words
from asr_kd.lm.model import BEGIN, END, NgramModel

_TINY = 1e-12


def prune(model: NgramModel, *, threshold: float | None = None, max_ngrams: int | None = None) -> NgramModel:
    """The model without the n-grams that matter least; unigrams, and histories of what stays, stay.

    threshold: relative rise of perplexity, as 1e-7, below which an n-gram goes. max_ngrams: at most so many n-grams of
    all orders stay (the threshold that does it; ties go). Every rise is that of the n-gram alone taken from the whole
    model. Raises InputError unless exactly one of the two is given, for a negative threshold, and where max_ngrams is
    less than the number of unigrams.
    """
    if (threshold is None) == (max_ngrams is None):
        raise InputError("pruning takes either a threshold or a number of n-grams")
    rises = relative_rises(model)
    if max_ngrams is not None:
        threshold = _threshold_for(model, rises, max_ngrams)
    if threshold is None or not threshold >= 0:
        raise InputError(f"pruning threshold {threshold}: expected 0 or more")
    kept = [np.ones(len(model.orders[0]), bool), *(rise >= threshold for rise in rises[1:])]
    tables = [(ngrams.words[chosen], ngrams.log_probs[chosen].copy())
              for ngrams, chosen in zip(model.orders, kept, strict=True) if chosen.any()]
    return with_backoffs(model.path, model.words, tables, lambda t: score_last_words(model.index, model.orders, t))


def relative_rises(model: NgramModel) -> list[np.ndarray]:
    """For each order, float64 (ngrams,): the relative rise of perplexity at which an n-gram goes.

    exp(D) - 1 with Stolcke's D of that n-gram alone (equation 3 ff.), or that of the longer n-grams that need it as
    their history, whichever is larger. Unigrams: infinite.
    """
    alone = [np.full(len(model.orders[0]), np.inf)]
    marginals = _log_marginals(model)
    for n in range(2, model.order + 1):
        alone.append(np.expm1(np.maximum(_divergences(model, n, marginals[n - 2]), 0.0)))  # rounding: below 0 at times
    for n in range(model.order - 1, 0, -1):
        np.maximum.at(alone[n - 1], model.index.levels[n].histories, alone[n])
    return alone


def _divergences(model: NgramModel, n: int, log_marginals: np.ndarray) -> np.ndarray:
    """D(p || p') for each n-gram of order n: p' lacks it, and has its history's backoff recomputed."""
    ngrams, shorter = model.orders[n - 1], model.orders[n - 2]
    histories = model.index.levels[n - 1].histories
    lower_log = score_last_words(model.index, model.orders, ngrams.words[:, 1:])
    own, lower = np.exp(ngrams.log_probs), np.exp(lower_log)
    unseen = np.maximum(1.0 - np.bincount(histories, own, len(shorter)), _TINY)[histories]
    unseen_lower = np.maximum(1.0 - np.bincount(histories, lower, len(shorter)), _TINY)[histories]
    new_backoff = np.log(unseen + own) - np.log(unseen_lower + lower)
    old_backoff = np.log(unseen) - np.log(unseen_lower)
    rise = own * (lower_log + new_backoff - ngrams.log_probs) + unseen * (new_backoff - old_backoff)
    return -np.exp(log_marginals[histories]) * rise


def _log_marginals(model: NgramModel) -> list[np.ndarray]:
    """ln p of each n-gram as a history, by the chain rule; `<s>` counts as often as `</s>`."""
    unigrams = model.orders[0]
    first = unigrams.log_probs.copy()
    first[unigrams.words[:, 0] == model.word_id[BEGIN]] = first[unigrams.words[:, 0] == model.word_id[END]]
    found = [first]
    for n, ngrams in enumerate(model.orders[1:], 1):
        found.append(found[-1][model.index.levels[n].histories] + ngrams.log_probs)
    return found


def _threshold_for(model: NgramModel, rises: list[np.ndarray], max_ngrams: int) -> float:
    """The least threshold that leaves at most `max_ngrams` n-grams."""
    room = max_ngrams - len(model.orders[0])
    if room < 0:
        raise InputError(f"{model.path}: {max_ngrams} n-grams are fewer than its {len(model.orders[0])} unigrams, "
                         "which all stay")
    longer = np.sort(np.concatenate([np.zeros(0), *rises[1:]]))[::-1]
    if room >= len(longer):
        return 0.0
    return float(np.nextafter(longer[room], np.inf))
