"""Interpolation: the mixture's probabilities, what they sum to, the weights."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lm.arpa import NgramModel
from asr_kd.lm.interpolation import interpolate, tune_weights
from asr_kd.lm.kneser_ney import estimate
from asr_kd.lm.perplexity import perplexity
from tests.lm.models import backed_off, models, sentences, sums, tables_of


def known(model: NgramModel, word: str) -> bool:
    return word in model.word_id


@settings(max_examples=60, deadline=None)
@given(models("abc"), models("abcd"), st.floats(0.01, 0.99))
def test_each_ngram_has_the_weighted_probability_and_histories_sum_to_one(
    first: NgramModel, second: NgramModel, weight: float
) -> None:
    mixed = interpolate([first, second], [weight, 1 - weight])
    log_probs, _ = tables_of(mixed)
    assert log_probs.keys() == tables_of(first)[0].keys() | tables_of(second)[0].keys()
    for *history, word in log_probs.keys() - {("<s>",)}:
        expected = 0.0
        for model, share in ((first, weight), (second, 1 - weight)):
            # A history's word that a model lacks is its unknown word, or unknown to all its n-grams.
            own = [w if known(model, w) else "<unk>" for w in history]
            expected += share * math.exp(backed_off(model, own, word))
        assert math.exp(mixed.score(history, word)) == pytest.approx(expected, rel=1e-9)
    assert sums(mixed) == pytest.approx([1.0] * len(sums(mixed)), abs=1e-9)


def test_a_model_of_weight_0_leaves_no_trace() -> None:
    first, second = estimate([list("ab")], 2), estimate([list("cd")], 3)
    for ours, theirs in zip(tables_of(interpolate([first, second], [1, 0])), tables_of(first), strict=True):
        assert ours == pytest.approx(theirs)


@settings(max_examples=30, deadline=None)
@given(sentences(2), sentences(2), sentences(2))
def test_no_other_weights_give_less_perplexity(
    first: list[list[str]], second: list[list[str]], dev: list[list[str]]
) -> None:
    # Unigrams: there the mixture of the models and the mixture made one model are the same.
    pair = [estimate(text, 1, "abcd") for text in (first, second)]
    weights = tune_weights(pair, dev)
    assert sum(weights) == pytest.approx(1)
    best = perplexity(interpolate(pair, weights), dev).perplexity
    for weight in np.linspace(0.001, 0.999, 50):
        assert best <= perplexity(interpolate(pair, [weight, 1 - weight]), dev).perplexity + 1e-4


def test_the_text_that_is_like_the_development_text_gets_the_weight() -> None:
    like, unlike = estimate([list("abab")] * 3, 2, "abc"), estimate([list("ccba")] * 3, 2, "abc")
    weights = tune_weights([unlike, like], [list("abab")])
    assert weights[1] > 0.99


def test_words_that_only_one_model_knows_count_for_it() -> None:
    first, second = estimate([list("ab")], 1), estimate([list("cd")], 1)
    # The mixture gives a, b and c a third of their model's weight, </s> a third, x nothing (left out).
    assert tune_weights([first, second], [list("abx"), list("c")]) == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize(("weights", "message"), [
    ([0.5], r"1 interpolation weights \(0.5\) for 2 language models"),
    ([0.5, 0.6], "interpolation weights 0.5, 0.6: expected shares from 0 to 1 that sum to 1"),
    ([1.5, -0.5], "interpolation weights 1.5, -0.5: expected shares"),
    ([math.nan, 0.5], "interpolation weights nan, 0.5: expected shares"),
])
def test_weights_that_do_not_fit_are_refused(weights: list[float], message: str) -> None:
    pair = [estimate([["a"]], 1), estimate([["b"]], 1)]
    with pytest.raises(InputError, match=message):
        interpolate(pair, weights)


def test_a_development_text_of_unknown_words_is_refused() -> None:
    pair = [estimate([["a"]], 1), estimate([["b"]], 1)]
    with pytest.raises(InputError, match=r"no word of the development text \(2 words\) is known"):
        tune_weights(pair, [["x", "y"]])
    with pytest.raises(InputError, match="interpolation needs a language model"):
        interpolate([], [])
