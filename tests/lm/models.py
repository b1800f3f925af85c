"""Random small models, and back-off by its definition."""

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from asr_kd.lm.arpa import NgramModel
from asr_kd.lm.backoff import with_backoffs
from asr_kd.lm.index import score_last_words
from asr_kd.lm.kneser_ney import estimate

LETTERS = "abcd"


def sentences(min_size: int = 1, max_size: int = 8) -> st.SearchStrategy[list[list[str]]]:
    words = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=6)
    return st.lists(words, min_size=min_size, max_size=max_size)


@st.composite
def models(draw: st.DrawFn, vocabulary: str = LETTERS) -> NgramModel:
    """A model as it may come from outside: some n-grams without their suffix, some histories without n-grams."""
    order = draw(st.integers(1, 4))
    whole = estimate(draw(sentences()), order, vocabulary, unknown_word=draw(st.sampled_from([None, "<unk>"])))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    kept = [np.ones(len(whole.orders[0]), bool)]
    for level, ngrams in zip(whole.index.levels[1:], whole.orders[1:], strict=True):
        kept.append(kept[-1][level.histories] & (generator.random(len(ngrams)) < 0.7))
    tables = [(ngrams.words[chosen], ngrams.log_probs[chosen].copy())
              for ngrams, chosen in zip(whole.orders, kept, strict=True) if chosen.any()]
    return with_backoffs("random", whole.words, tables, lambda t: score_last_words(whole.index, whole.orders, t))


def tables_of(model: NgramModel) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
    """Log-probabilities and backoffs by n-gram, in words."""
    log_probs, backoffs = {}, {}
    for ngrams in model.orders:
        for ids, log_prob, backoff in zip(ngrams.words, ngrams.log_probs, ngrams.backoffs, strict=True):
            ngram = tuple(model.words[i] for i in ids)
            log_probs[ngram], backoffs[ngram] = float(log_prob), float(backoff)
    return log_probs, backoffs


def backed_off(model: NgramModel, history: Sequence[str], word: str) -> float:
    """ln p(word | history), by the definition of a back-off model."""
    log_probs, backoffs = tables_of(model)
    history = tuple(history)[max(0, len(history) - model.order + 1):]
    total = 0.0
    while (*history, word) not in log_probs:
        if not history:
            return -math.inf
        total += backoffs.get(history, 0.0)
        history = history[1:]
    return total + log_probs[(*history, word)]


def histories_of(model: NgramModel) -> list[tuple[str, ...]]:
    """All n-grams that may be a history, and the empty one."""
    found = [()]
    for ngrams in model.orders[:-1]:
        found += [tuple(model.words[i] for i in ids) for ids in ngrams.words.tolist()]
    return [history for history in found if "</s>" not in history]


def sums(model: NgramModel) -> list[float]:
    """For each history the sum of the probabilities of all words that can be predicted."""
    return [sum(math.exp(model.score(history, word)) for word in model.words if word != "<s>")
            for history in histories_of(model)]

