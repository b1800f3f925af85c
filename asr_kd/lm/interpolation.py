"""Several models made into one by linear interpolation."""

from collections.abc import Sequence

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.parallel import one_blas_thread
from asr_kd.lm.backoff import with_backoffs
from asr_kd.lm.index import NgramIndex, score_last_words
from asr_kd.lm.model import BEGIN, END, NgramModel
from asr_kd.lm.perplexity import score_encoded
from asr_kd.lm.text import Sentences, encode

_MAX_ITERATIONS = 10_000
# Of what the best weights would gain, ln p a word.
_TOLERANCE = 1e-6


def interpolate(models: Sequence[NgramModel], weights: Sequence[float]) -> NgramModel:
    """One back-off model of the n-grams of all: p(w | h) = sum of weight times each model's p(w | h).

    Exact for every n-gram that some model holds; all else backs off, to histories that sum to one (SRILM's
    `ngram -mix-lm`). Each model gives words that it lacks no probability; in histories they are its unknown word, or
    cut the history. Raises InputError for a wrong number of weights, or weights that are no shares of 1.
    """
    weights = check_weights(weights, len(models))
    models = [model for model, weight in zip(models, weights, strict=True) if weight]
    weights = [weight for weight in weights if weight]
    words = _merge_vocabularies(models)
    new_id = {word: i for i, word in enumerate(words)}
    mappings = [np.array([new_id[word] for word in model.words], np.int32) for model in models]
    # To each model's ids from the common ones: as a history, and as the word that is predicted.
    in_history = [model.map_words(words) for model in models]
    as_last = [np.array([model.word_id.get(word, -1) for word in words], np.int32) for model in models]

    def score(table: np.ndarray) -> np.ndarray:
        total = np.zeros(len(table))
        for model, weight, history, last in zip(models, weights, in_history, as_last, strict=True):
            own = np.column_stack((history[table[:, :-1]], last[table[:, -1]])).astype(np.int32)
            total += weight * np.exp(score_last_words(model.index, model.orders, own))
        with np.errstate(divide="ignore"):
            return np.log(total)

    shared = NgramIndex([], len(words), new_id[BEGIN])
    table, tables = np.zeros((1, 0), np.int32), []
    for n in range(max(model.order for model in models)):
        of_all = np.concatenate([mapping[model.orders[n].words] for model, mapping in zip(models, mappings, strict=True)
                                 if n < model.order])
        histories, last_words = np.divmod(np.unique(shared.find(of_all[:, :-1]) * len(words) + of_all[:, -1]),
                                          len(words))
        table = np.column_stack((table[histories], last_words)).astype(np.int32)
        shared.append(table)
        tables.append((table, score(table)))
    path = " + ".join(f"{weight:.4g} x {model.path}" for model, weight in zip(models, weights, strict=True))
    return with_backoffs(path, words, tables, score)


@one_blas_thread()
def tune_weights(models: Sequence[NgramModel], dev: Sentences) -> list[float]:
    """The weights whose mixture gives `dev` the least perplexity, by EM; they sum to 1.

    Words that no model knows are left out. Raises InputError where no model knows any word of `dev`.
    """
    words = _merge_vocabularies(models)
    text, = encode([dev], (word for word in words if word not in (BEGIN, END)))
    known = np.ones(len(text.vocabulary) + 1, bool)
    known[[0, -1]] = False
    scored = known[text.tokens]
    if not (scored & (text.tokens > 1)).any():
        raise InputError(f"no word of the development text ({text.words} words) is known to any of the language "
                         "models; nothing can choose their weights")
    columns = []
    for model in models:
        own = np.array([word in model.word_id for word in text.vocabulary])
        probabilities = np.exp(score_encoded(model, text)[scored])
        columns.append(np.where(own[text.tokens[scored]], probabilities, 0.0))
    table = np.stack(columns)
    weights = np.full(len(models), 1.0 / len(models))
    for _ in range(_MAX_ITERATIONS):
        growth = (table / (weights @ table)).mean(1)
        weights = weights * growth
        # The likelihood is concave: no weights gain more than its steepest way up promises.
        if growth.max() - 1 < _TOLERANCE:
            break
    return [float(weight) for weight in weights / weights.sum()]


def check_weights(weights: Sequence[float], count: int) -> list[float]:
    """The weights, made to sum to 1 to the last bit. InputError where they do not fit."""
    if not count:
        raise InputError("interpolation needs a language model")
    said = ", ".join(f"{weight:g}" for weight in weights)
    if len(weights) != count:
        raise InputError(f"{len(weights)} interpolation weights ({said}) for {count} language models")
    if not all(weight >= 0 for weight in weights) or not abs(sum(weights) - 1) < 1e-3:
        raise InputError(f"interpolation weights {said}: expected shares from 0 to 1 that sum to 1")
    total = sum(weights)
    return [weight / total for weight in weights]


def _merge_vocabularies(models: Sequence[NgramModel]) -> list[str]:
    special = [BEGIN, END]
    return [*special, *sorted({word for model in models for word in model.words}.difference(special))]
