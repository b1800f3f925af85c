"""G: sentence probabilities, words that the lexicon lacks."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.graph.fst import Fst
from asr_kd.graph.grammar_fst import build_grammar
from asr_kd.lm.arpa import NgramModel, read_arpa
from tests.lm.models import models


def sentence_cost(fst: Fst, labels: list[int], disambiguation: int) -> float:
    """Cost of a sentence, backing off only where a state has no arc with the word."""
    state, cost = fst.start, 0.0
    for label in [*labels, -1]:
        while True:
            arcs = fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]
            if label < 0 and np.isfinite(fst.finals[state]):
                return cost + float(fst.finals[state])
            found = arcs[arcs["ilabel"] == (label if label in arcs["ilabel"] else disambiguation)]
            assert len(found) == 1
            state, cost = int(found["nextstate"][0]), cost + float(found["weight"][0])
            if found["ilabel"][0] == label:
                assert found["olabel"][0] == label
                break
            assert found["olabel"][0] == 0
    raise AssertionError


def test_sentences_cost_what_the_model_says(arpa_path: Path) -> None:
    words = ["<eps>", "A", "B", "C", "D"]
    fst = build_grammar(read_arpa(arpa_path), words).fst
    ten = math.log(10)
    # <s> A B (3-gram); A B C (3-gram); then C has only unigrams left: back-off of C, </s>. "B C" backs off at 0.
    assert sentence_cost(fst, [1, 2, 3], 5) == pytest.approx(ten * (0.2 + 0.1 + 0.35 + 0.35 + 0.8))
    # D from <s>: back-off of <s>. </s> after D: no history D.
    assert sentence_cost(fst, [4], 5) == pytest.approx(ten * (0.3 + 1.2 + 0.8))
    # "<s> A" has no </s>: back-off to "A", which has.
    assert sentence_cost(fst, [1], 5) == pytest.approx(ten * (0.2 + 0.15 + 0.4))


def test_words_absent_from_the_lexicon_are_dropped_and_counted(arpa_path: Path) -> None:
    grammar = build_grammar(read_arpa(arpa_path), ["<eps>", "A", "B", "D"])
    assert grammar.dropped_words == ["C", "ELSEWHERE"]
    assert grammar.dropped_ngrams == 5
    assert set(grammar.fst.arcs["ilabel"].tolist()) == {1, 2, 3, 4}


@settings(max_examples=40, deadline=None)
@given(models(), st.integers(0, 2**16))
def test_every_short_sentence_costs_what_the_model_says(model: NgramModel, seed: int) -> None:
    words = ["<eps>", *np.random.default_rng(seed).permutation(list("abcd")).tolist()]
    grammar = build_grammar(model, words)
    assert grammar.dropped_words == [word for word in model.words if word == "<unk>"]
    for length in range(4):
        for sentence in itertools.product("abcd", repeat=length):
            padded = ["<s>", *sentence, "</s>"]
            expected = -sum(model.score(padded[:i], padded[i]) for i in range(1, len(padded)))
            cost = sentence_cost(grammar.fst, [words.index(word) for word in sentence], len(words))
            assert cost == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "dev", "test"), [("2gram", 131.18, 121.11), ("3gram", 139.67, 121.42)])
def test_perplexity_is_that_of_the_corpus_readme(shared: Path, name: str, dev: float, test: float) -> None:
    corpus = shared / "corpora" / "speechocean762"
    model = read_arpa(corpus / "lm" / f"{name}.arpa.gz")
    words = ["<eps>", *sorted(set(model.words) - {"<s>", "</s>"})]
    word_id = {word: i for i, word in enumerate(words)}
    fst = build_grammar(model, words).fst
    for split, expected in (("dev", dev), ("test", test)):
        cost, tokens = 0.0, 0
        for line in (corpus / split / "text").read_text().splitlines():
            labels = [word_id[word] for word in line.split()[1:]]
            cost += sentence_cost(fst, labels, len(words))
            tokens += len(labels) + 1
        assert math.exp(cost / tokens) == pytest.approx(expected, abs=0.01)
