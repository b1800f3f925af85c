"""Perplexity: the corpus's own models, the definition, words outside the vocabulary."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings

from asr_kd.core.errors import InputError
from asr_kd.lm.arpa import NgramModel, read_arpa
from asr_kd.lm.kneser_ney import estimate
from asr_kd.lm.perplexity import perplexity
from asr_kd.lm.text import read_sentences
from tests.lm.models import backed_off, models, sentences


@pytest.mark.parametrize(("name", "dev", "test"), [("2gram", 131.18, 121.11), ("3gram", 139.67, 121.42)])
def test_perplexity_of_the_corpus_models_is_that_of_their_readme(
    shared: Path, name: str, dev: float, test: float
) -> None:
    corpus = shared / "corpora" / "speechocean762"
    model = read_arpa(corpus / "lm" / f"{name}.arpa.gz")
    for split, expected, words in (("dev", dev, 6390), ("test", test, 9577)):
        report = perplexity(model, read_sentences([corpus / split / "text"], ids=True))
        assert report.perplexity == pytest.approx(expected, abs=0.005)
        assert (report.words, report.oov) == (words, 0)


def test_rate_of_unseen_words_is_that_of_the_corpus_readme(shared: Path) -> None:
    corpus = shared / "corpora" / "speechocean762"
    model = estimate(read_sentences([corpus / "train" / "text"], ids=True), 2)
    for split, oov, words in (("dev", 397, 6390), ("test", 519, 9577)):
        report = perplexity(model, read_sentences([corpus / split / "text"], ids=True))
        assert (report.oov, report.words) == (oov, words)
        assert report.oov_rate == oov / words


@settings(max_examples=60, deadline=None)
@given(models(), sentences())
def test_the_sum_is_that_of_every_word_by_itself(model: NgramModel, text: list[list[str]]) -> None:
    words, ends = 0.0, 0.0
    for sentence in text:
        history = ["<s>"]
        for word in sentence:
            words += backed_off(model, history, word)
            history.append(word)
        ends += backed_off(model, history, "</s>")
    report = perplexity(model, text)
    assert report.log_prob_words == pytest.approx(words, rel=1e-9)
    assert report.log_prob_ends == pytest.approx(ends, rel=1e-9)
    tokens = sum(map(len, text))
    assert (report.sentences, report.words, report.oov) == (len(text), tokens, 0)
    assert report.perplexity == pytest.approx(math.exp(-(words + ends) / (tokens + len(text))))
    assert report.perplexity_without_ends == pytest.approx(math.exp(-words / tokens))


def test_words_outside_the_vocabulary_cut_the_history_and_are_counted() -> None:
    model = estimate([list("abab"), list("ba")], 3)
    report = perplexity(model, [["a", "x", "b"], []])
    expected = model.score(["<s>"], "a") + model.score([], "b")
    assert report.log_prob_words == pytest.approx(expected)
    assert report.log_prob_ends == pytest.approx(model.score(["b"], "</s>"))
    assert (report.sentences, report.words, report.oov) == (1, 3, 1)
    assert report.log_prob_oov is None and report.perplexity_with_oov is None
    assert report.perplexity == pytest.approx(math.exp(-report.log_prob / 3))


def test_words_outside_the_vocabulary_are_the_unknown_word_where_there_is_one() -> None:
    model = estimate([list("abab"), list("bxa")], 3, "ab", unknown_word="<unk>")
    report = perplexity(model, [["a", "y", "b"]])
    assert report.log_prob_oov == pytest.approx(model.score(["<s>", "a"], "<unk>"))
    assert report.log_prob_words == pytest.approx(model.score(["<s>"], "a") + model.score(["a", "<unk>"], "b"))
    assert report.oov == 1
    assert report.perplexity == pytest.approx(math.exp(-report.log_prob / 3))
    assert report.perplexity_with_oov == pytest.approx(math.exp(-(report.log_prob + report.log_prob_oov) / 4))


def test_a_text_of_unknown_words_and_one_without_words_are_refused() -> None:
    model = estimate([["a"]], 2)
    with pytest.raises(InputError, match=r"knows no word of the text \(2 words\)"):
        perplexity(model, [["x"], ["y"]])
    with pytest.raises(InputError, match="the text of the language model has no words"):
        perplexity(model, [[]])
    with pytest.raises(InputError, match="'x' is not in the language model"):
        model.score(["a"], "x")
