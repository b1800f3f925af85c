"""A recipe's language model: mixture, pruning, report."""

import json
from pathlib import Path

import pydantic
import pytest

from asr_kd.core.errors import InputError
from asr_kd.lm.perplexity import perplexity
from asr_kd.lm.text import read_sentences, read_vocabulary
from asr_kd.lm.training import LanguageModelConfig, train_language_model
from tests.lm.models import sums

TEXT = [list("abab"), list("abc"), list("cab")]
EXTRA = [list("dddd"), list("dcba"), list("dda")]


def test_one_text_needs_no_weights_and_no_development_text() -> None:
    model, report = train_language_model(TEXT, config=LanguageModelConfig(order=2))
    assert model.order == 2 and set(model.words) == {"<s>", "</s>", *"abc"}
    assert report.components[0].weight == 1.0 and report.dev is None
    assert report.ngrams == [5, len(model.orders[1])] and report.vocabulary == 4
    assert (report.components[0].sentences, report.components[0].words, report.components[0].oov) == (3, 10, 0)


def test_extra_text_lowers_the_perplexity_of_text_like_it() -> None:
    dev = [list("abdd"), list("ab")]
    _, alone = train_language_model(TEXT, vocabulary="abcd", dev=dev)
    model, report = train_language_model(TEXT, [EXTRA], "abcd", dev=dev)
    assert report.dev is not None and alone.dev is not None
    assert report.dev.perplexity < min(c.dev.perplexity for c in report.components if c.dev is not None)
    assert report.components[0].dev == alone.dev
    assert sum(component.weight for component in report.components) == pytest.approx(1)
    assert report.dev == perplexity(model, dev)
    assert sums(model) == pytest.approx([1.0] * len(sums(model)), abs=1e-9)


def test_given_weights_are_taken() -> None:
    _, report = train_language_model(TEXT, [EXTRA], config=LanguageModelConfig(weights=[0.25, 0.75]))
    assert [component.weight for component in report.components] == [0.25, 0.75]


def test_words_of_all_texts_are_the_vocabulary_of_each() -> None:
    model, report = train_language_model(TEXT, [EXTRA], config=LanguageModelConfig(weights=[1.0, 0.0]))
    assert set(model.words) == {"<s>", "</s>", *"abcd"}
    assert [component.oov for component in report.components] == [0, 0]


def test_pruning_is_reported_beside_the_whole_model() -> None:
    dev = [list("abc")]
    model, report = train_language_model(TEXT, config=LanguageModelConfig(max_ngrams=8), dev=dev)
    assert model.num_ngrams == sum(report.ngrams) <= 8 < sum(report.ngrams_unpruned)
    assert report.dev is not None and report.dev_unpruned is not None
    assert report.dev.perplexity > report.dev_unpruned.perplexity


def test_the_report_is_json() -> None:
    _, report = train_language_model(TEXT, [EXTRA], "abc", LanguageModelConfig(unknown_word="<unk>"), [list("abd")])
    value = json.loads(json.dumps(report.as_dict()))
    assert value["components"][1]["oov"] == 7 and value["components"][1]["words"] == 11
    assert value["components"][0]["discounts"][0]["is_fallback"] is True
    assert value["dev"]["perplexity"] == report.dev.perplexity if report.dev else False
    assert value["dev"]["oov"] == 1


def test_leaving_speakers_out_raises_their_perplexity(shared: Path) -> None:
    corpus = shared / "corpora" / "speechocean762"
    text = list(read_sentences([corpus / "train" / "text"], ids=True))
    vocabulary = read_vocabulary(corpus / "lexicon" / "lexicon.txt")
    left_out = text[:500]  # 25 speakers with 20 sentences each
    config = LanguageModelConfig(order=2)
    whole, _ = train_language_model(text, vocabulary=vocabulary, config=config)
    unseen, _ = train_language_model(text[500:], vocabulary=vocabulary, config=config)
    assert perplexity(whole, left_out).perplexity < 0.5 * perplexity(unseen, left_out).perplexity


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(text=[[]]), "the text of the language model has no words"),
    (dict(text=TEXT, extra=[[]], dev=TEXT), "text 2 of 2 of the language model has no words"),
    (dict(text=TEXT, extra=[EXTRA]), "extra texts need a development text that chooses their weights, or weights"),
    (dict(text=TEXT, vocabulary=[]), "the vocabulary of the language model is empty"),
    (dict(text=TEXT, vocabulary=["q"]), "none of the .* words of the text is in the vocabulary"),
    (dict(text=TEXT, extra=[[["q"]]], dev=TEXT, vocabulary=["a"]), "none of the 1 words of text 2 of 2"),
    (dict(text=TEXT, dev=[["x"]]), "knows no word of the text"),
    (dict(text=TEXT, dev=[]), "has no words"),
    (dict(text=TEXT, config=LanguageModelConfig(weights=[0.5, 0.5])), r"2 interpolation weights \(0.5, 0.5\) for 1"),
    (dict(text=TEXT, config=LanguageModelConfig(max_ngrams=2)), "2 n-grams are fewer than its 5 unigrams"),
])
def test_what_cannot_work_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_language_model(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("settings", "message"), [
    (dict(order=0), "greater than or equal to 1"),
    (dict(prune_threshold=1e-7, max_ngrams=100), "prune_threshold or max_ngrams, not both"),
    (dict(min_counts=[2, 1]), "n-gram cutoffs 2, 1: expected numbers from 1 that do not fall"),
    (dict(unknown_word="UNK"), "'<unk>' or '<UNK>'"),
])
def test_faulty_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        LanguageModelConfig(**settings)
