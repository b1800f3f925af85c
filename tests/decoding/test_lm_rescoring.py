"""Lattices rescored with another language model, against the enumeration of all ways to back off."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.decoding.lm_rescoring import GrammarScores, rescore_lm
from asr_kd.graph.grammar_fst import build_grammar
from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.word_lattice import WordLattice
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.model import NgramModel
from tests.decoding.random_graph import WORDS
from tests.lattices.random_lattice import random_lattice
from tests.lattices.word_readings import SCALE, readings_of

LEXICON = WORDS[:-1]


def random_model(folder: Path, seed: int, vocabulary: list[str]) -> NgramModel:
    """A trigram model with random n-grams; nothing sums to one, so that backing off is often cheaper."""
    rng = np.random.default_rng(seed)
    begun = ["<s>", *vocabulary]
    bigrams = [(a, b) for a, b in itertools.product(begun, [*vocabulary, "</s>"]) if rng.random() < 0.5]
    trigrams = [(a, b, c) for (a, b), c in itertools.product(bigrams, [*vocabulary, "</s>"])
                if b != "</s>" and rng.random() < 0.3]
    lines = ["\\data\\", f"ngram 1={len(vocabulary) + 2}", f"ngram 2={len(bigrams)}", f"ngram 3={len(trigrams)}"]

    def log(low: float = -2.0) -> str:
        return f"{rng.uniform(low, 0):.4f}"

    lines += ["", "\\1-grams:", f"-99 <s> {log()}", f"{log()} </s>"]
    lines += [f"{log()} {word} {log()}" for word in vocabulary]
    lines += ["", "\\2-grams:", *(f"{log()} {a} {b} {log()}" if b != "</s>" else f"{log()} {a} {b}"
                                  for a, b in bigrams)]
    lines += ["", "\\3-grams:", *(f"{log()} {a} {b} {c}" for a, b, c in trigrams), "", "\\end\\"]
    path = folder / f"{seed}.arpa"
    path.write_text("\n".join(lines) + "\n")
    return read_arpa(path)


def least_cost(model: NgramModel, words: tuple[int, ...]) -> float:
    """The least cost of the words in G, by walking all its paths."""
    fst = build_grammar(model, LEXICON).fst

    def walk(state: int, rest: tuple[int, ...]) -> float:
        best = float(fst.finals[state]) if not rest else np.inf
        for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
            label = int(arc["ilabel"])
            if label == len(LEXICON):
                best = min(best, float(arc["weight"]) + walk(int(arc["nextstate"]), rest))
            elif rest and label == rest[0]:
                best = min(best, float(arc["weight"]) + walk(int(arc["nextstate"]), rest[1:]))
        return best

    return walk(fst.start, words)


def lattice_of(seed: int) -> WordLattice:
    return determinize(random_lattice(seed, frames=5), 10.0, SCALE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_each_word_sequence_gets_the_new_models_cost_for_the_olds(folder: Path, seed: int) -> None:
    old, new = (random_model(folder, seed + n, LEXICON[1:]) for n in (0, 1))
    lattice = lattice_of(seed)
    rescored = rescore_lm(lattice, GrammarScores(old, LEXICON), GrammarScores(new, WORDS))
    assert rescored.fault() is None
    before, after = readings_of(lattice), dict(readings_of(rescored))
    assert len(before) == len(readings_of(rescored)) == len(after)
    for words, (graph, acoustic, tids) in before:
        expected = graph - least_cost(old, words) + least_cost(new, words)
        assert after[words][0] == pytest.approx(expected, abs=1e-3)
        assert after[words][1] == pytest.approx(acoustic, abs=1e-3)
        assert after[words][2] == tids


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_the_same_model_changes_nothing(folder: Path, seed: int) -> None:
    model = random_model(folder, seed, LEXICON[1:])
    lattice = lattice_of(seed)
    rescored = rescore_lm(lattice, GrammarScores(model, LEXICON), GrammarScores(model, LEXICON))
    before, after = dict(readings_of(lattice)), dict(readings_of(rescored))
    assert set(before) == set(after)
    for words, reading in before.items():
        assert after[words][0] == pytest.approx(reading[0], abs=1e-4)


def test_words_that_the_new_model_lacks_disappear(folder: Path) -> None:
    lattice = lattice_of(5)
    old, new = random_model(folder, 1, LEXICON[1:]), random_model(folder, 2, ["one", "two"])
    found = {words for words, _ in readings_of(rescore_lm(lattice, *(GrammarScores(m, LEXICON) for m in (old, new))))}
    wanted = {words for words, _ in readings_of(lattice) if 3 not in words}
    assert found == wanted and 0 < len(wanted) < len(readings_of(lattice))


def test_a_lattice_of_which_nothing_is_left_has_no_states(folder: Path) -> None:
    lattice = lattice_of(5)
    lattice.words[:] = 3
    old, new = random_model(folder, 1, LEXICON[1:]), random_model(folder, 2, ["one", "two"])
    rescored = rescore_lm(lattice, GrammarScores(old, LEXICON), GrammarScores(new, LEXICON))
    assert rescored.num_states == rescored.num_arcs == 0 and rescored.fault() is None


def test_a_model_that_the_lattice_was_not_decoded_with_is_refused(folder: Path) -> None:
    old = random_model(folder, 3, ["one"])
    with pytest.raises(InputError, match="3.arpa: the word '(two|three)' .* decoded with another one"):
        rescore_lm(lattice_of(5), GrammarScores(old, LEXICON), GrammarScores(old, LEXICON))
