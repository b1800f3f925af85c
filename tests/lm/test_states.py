"""Integer states: every sentence costs what the model and the grammar G say."""

import numpy as np
import pytest
from hypothesis import given, settings

from asr_kd.graph.grammar_fst import build_grammar
from asr_kd.lm.arpa import NgramModel
from asr_kd.lm.kneser_ney import estimate
from asr_kd.lm.states import LanguageModelStates
from tests.lm.models import backed_off, models, sentences


@settings(max_examples=60, deadline=None)
@given(models(), sentences())
def test_each_step_has_the_probability_of_the_word_after_all_before_it(
    model: NgramModel, text: list[list[str]]
) -> None:
    words = ["<eps>", *"dcba"]
    states = LanguageModelStates.build(model, words)
    for sentence in text:
        state, history = states.start, ["<s>"]
        for word in sentence:
            assert states.final_log_prob(state) == pytest.approx(backed_off(model, history, "</s>"), abs=1e-9)
            state, log_prob = states.step(state, words.index(word))
            assert log_prob == pytest.approx(backed_off(model, history, word), abs=1e-9)
            history.append(word)


@settings(max_examples=30, deadline=None)
@given(models())
def test_states_and_arcs_are_those_of_the_grammar(model: NgramModel) -> None:
    words = ["<eps>", *sorted(set(model.words) - {"<s>", "</s>"})]
    states = LanguageModelStates.build(model, words)
    grammar = build_grammar(model, words)
    backoff_arcs = grammar.fst.arcs["ilabel"] == len(words)
    assert grammar.dropped_words == [] and states.num_states == grammar.fst.num_states
    ends = int(np.sum(states.words == states.end))
    assert len(states.words) - ends == int(np.sum(~backoff_arcs))
    assert ends == int(np.sum(np.isfinite(grammar.fst.finals)))
    np.testing.assert_allclose(np.sort(states.log_probs[states.words != states.end]),
                               np.sort(-grammar.fst.arcs["weight"][~backoff_arcs]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.sort(states.backoff_log_probs[1:]),
                               np.sort(-grammar.fst.arcs["weight"][backoff_arcs]), rtol=1e-5, atol=1e-6)


def test_words_that_the_model_lacks_cannot_be_or_are_its_unknown_word() -> None:
    words = ["<eps>", "a", "x"]
    without = LanguageModelStates.build(estimate([list("ab")], 2), words)
    assert without.step(without.start, 2) == (0, -np.inf)
    model = estimate([list("ab")], 2, "ab", unknown_word="<unk>")
    states = LanguageModelStates.build(model, words)
    assert states.step(states.start, 2)[1] == pytest.approx(model.score(["<s>"], "<unk>"))
    assert states.labels.tolist() == [-1, model.word_id["a"], model.word_id["<unk>"]]


def test_without_words_the_ids_are_the_model_s_own() -> None:
    model = estimate([list("ab")], 2)
    states = LanguageModelStates.build(model)
    state, log_prob = states.step(states.start, model.word_id["a"])
    assert log_prob == pytest.approx(model.score(["<s>"], "a"))
    assert states.step(state, model.word_id["b"])[1] == pytest.approx(model.score(["a"], "b"))
