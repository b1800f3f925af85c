"""Entropy pruning: the rise by enumeration, what stays, what it sums to."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lm.arpa import NgramModel
from asr_kd.lm.backoff import with_backoffs
from asr_kd.lm.index import score_last_words
from asr_kd.lm.kneser_ney import estimate
from asr_kd.lm.model import Ngrams
from asr_kd.lm.perplexity import perplexity
from asr_kd.lm.pruning import prune, relative_rises
from asr_kd.lm.text import read_sentences, read_vocabulary
from tests.lm.models import models, sums, tables_of


def log_marginal(model: NgramModel, history: tuple[str, ...]) -> float:
    first = "</s>" if history[0] == "<s>" else history[0]
    return model.score((), first) + sum(model.score(history[:i], history[i]) for i in range(1, len(history)))


@settings(max_examples=40, deadline=None)
@given(models())
def test_the_rise_is_the_divergence_of_the_model_without_the_ngram(model: NgramModel) -> None:
    rises = relative_rises(model)
    for n in range(2, model.order + 1):
        ngrams = model.orders[n - 1]
        needed = set(model.index.levels[n].histories.tolist()) if n < model.order else set()
        for row in set(range(len(ngrams))) - needed:
            tables = [(o.words, o.log_probs.copy()) for o in model.orders]
            tables[n - 1] = (np.delete(ngrams.words, row, 0), np.delete(ngrams.log_probs, row))
            tables = [table for table in tables if len(table[0])]
            if n < model.order and not len(ngrams.words) - 1:
                continue
            without = with_backoffs("", model.words, tables,
                                    lambda t: score_last_words(model.index, model.orders, t))
            history = tuple(model.words[i] for i in ngrams.words[row, :-1])
            divergence = sum(
                math.exp(model.score(history, word)) * (model.score(history, word) - without.score(history, word))
                for word in model.words if word != "<s>")
            expected = math.expm1(math.exp(log_marginal(model, history)) * divergence)
            assert rises[n - 1][row] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(models(), st.floats(0, 0.1))
def test_what_stays_keeps_its_probability_and_its_histories_and_sums_to_one(
    model: NgramModel, threshold: float
) -> None:
    small = prune(model, threshold=threshold)
    before, after = tables_of(model)[0], tables_of(small)[0]
    assert after.keys() <= before.keys()
    assert all(after[ngram] == before[ngram] for ngram in after)
    assert all(ngram[:-1] in after for ngram in after if len(ngram) > 1)
    assert {ngram for ngram in before if len(ngram) == 1} <= after.keys()
    assert sums(small) == pytest.approx([1.0] * len(sums(small)), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(models(), st.integers(0, 60))
def test_a_number_of_ngrams_is_kept_to(model: NgramModel, more: int) -> None:
    wanted = len(model.orders[0]) + more
    small = prune(model, max_ngrams=wanted)
    assert small.num_ngrams <= wanted
    if wanted >= model.num_ngrams:
        assert tables_of(small)[0].keys() == tables_of(model)[0].keys()
    else:
        rises = np.concatenate([np.zeros(0), *relative_rises(model)[1:]])
        least_kept = np.sort(rises)[::-1][: small.num_ngrams - len(model.orders[0])]
        next_ones = np.sum(np.isclose(rises, np.sort(rises)[::-1][len(least_kept)], rtol=1e-12, atol=0))
        assert small.num_ngrams + next_ones > wanted  # but for ties, none more would fit


def test_an_ngram_that_says_what_the_backoff_says_is_pruned_first_whatever_rounding_makes_of_it() -> None:
    unigrams = Ngrams(np.arange(6, dtype=np.int32)[:, None],
                      np.array([-227.95592421, -1.49165488, -1.24653242, -1.81707728, -1.49165488, -2.30258509]),
                      np.array([-0.69314718, 0.0, 0.10919929, 0.0, -0.07245508, 0.0]))
    bigrams = Ngrams(np.array([[0, 2], [2, 1], [2, 2], [2, 3], [4, 1]], np.int32),
                     np.array([-0.44044483, -1.54881329, -1.41161217, -1.70787799, -1.2759463]), np.zeros(5))
    model = NgramModel("by hand", ["<s>", "</s>", "a", "b", "c", "d"], [unigrams, bigrams])
    assert min(rises.min() for rises in relative_rises(model)) >= 0
    assert prune(model, max_ngrams=11).num_ngrams == 11
    assert tables_of(prune(model, max_ngrams=10))[0].keys() == tables_of(model)[0].keys() - {("a", "b")}


def test_perplexity_rises_slowly_as_the_corpus_model_shrinks(shared: Path) -> None:
    corpus = shared / "corpora" / "speechocean762"
    model = estimate(read_sentences([corpus / "train" / "text"], ids=True), 3,
                     read_vocabulary(corpus / "lexicon" / "lexicon.txt"))
    dev = list(read_sentences([corpus / "dev" / "text"], ids=True))
    sizes, perplexities = [], []
    for threshold in (0.0, 1e-6, 1e-5, 1e-4):
        small = prune(model, threshold=threshold)
        sizes.append(small.num_ngrams)
        perplexities.append(perplexity(small, dev).perplexity)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == model.num_ngrams
    assert perplexities == sorted(perplexities)
    assert sizes[1] < 0.8 * sizes[0] and perplexities[1] < 1.01 * perplexities[0]


@pytest.mark.parametrize(("threshold", "max_ngrams", "message"), [
    (None, None, "either a threshold or a number"), (0.1, 100, "either a threshold or a number"),
    (-0.1, None, "pruning threshold -0.1: expected 0 or more"), (math.nan, None, "pruning threshold nan"),
    (None, 3, "3 n-grams are fewer than its 4 unigrams, which all stay"),
])
def test_settings_that_make_no_sense_are_refused(
    threshold: float | None, max_ngrams: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prune(estimate([["a", "b"]], 2), threshold=threshold, max_ngrams=max_ngrams)
