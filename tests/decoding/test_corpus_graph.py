"""A graph of a real lexicon and language model, searched with scores made from the transcripts."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.rescoring import best_path
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.decoding.word_times import word_times
from asr_kd.graph.hclg import build_graph
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lm.arpa import read_arpa


@pytest.fixture(scope="module")
def model(shared: Path) -> HmmModel:
    lexicon = Lexicon.read(shared / "corpora" / "speechocean762" / "lexicon" / "lexicon.txt")
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    return HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree))


@pytest.fixture(scope="module")
def graph(shared: Path, model: HmmModel, tmp_path_factory: pytest.TempPathFactory) -> DecodingGraph:
    folder = tmp_path_factory.mktemp("graph")
    lm = read_arpa(shared / "corpora" / "speechocean762" / "lm" / "3gram.arpa.gz")
    summary = build_graph(model, lm, folder / "graph")
    assert summary["dropped_words"] == 0
    assert summary["arcs"] * 16 + summary["states"] * 20 < 16e6
    return DecodingGraph.load(folder / "graph", model.digest)


def phones_of(model: HmmModel, words: list[str]) -> list[int]:
    lexicon = model.lexicon
    return [phone for word in words
            for phone in lexicon.pronunciations_of[lexicon.word_id[word]][0].phones]


def scores_of(model: HmmModel, words: list[str], seed: int) -> tuple[np.ndarray, list[int]]:
    """Log-likelihoods in which the pdfs of the words stand out of noise, three to five frames each, and these pdfs."""
    rng = np.random.default_rng(seed)
    pdfs: list[int] = []
    for phone in [model.phones.optional_silence, *phones_of(model, words)]:
        for state in model.topology.states(phone):
            pdfs += [model.tree.pdf_id((phone,), state.pdf_class)] * int(rng.integers(3, 6))
    scores = rng.normal(-60, 5, (len(pdfs), model.tree.num_pdfs)).astype(np.float32)
    scores[np.arange(len(pdfs)), pdfs] += 40
    return scores, pdfs


def test_transcripts_come_back_as_words_of_the_same_sound(shared: Path, model: HmmModel, graph: DecodingGraph) -> None:
    lines = (shared / "corpora" / "speechocean762" / "dev" / "text").read_text().splitlines()
    exact = 0
    for seed, line in enumerate(lines[::50]):
        words = line.split()[1:]
        scores, pdfs = scores_of(model, words, seed)
        result = decode(graph, scores, SearchConfig(acoustic_scale=0.2))
        assert result.reached_final
        exact += result.words == words
        path = best_path(result.lattice, 5.0, 0.0)
        np.testing.assert_array_equal(model.transitions.pdf_ids[path.transition_ids], pdfs)
    assert exact >= 15


def test_words_have_the_times_that_the_scores_were_made_with(model: HmmModel, graph: DecodingGraph) -> None:
    words = ["ABOUT", "THE", "BOY", "AND", "THE", "GIRL"]
    scores, pdfs = scores_of(model, words, 5)
    result = decode(graph, scores, SearchConfig(acoustic_scale=0.2))
    assert result.words == words
    states = [len(model.topology.states(phone)) for phone in [model.phones.optional_silence, *phones_of(model, words)]]
    # Frames of each state: a new one begins where the pdf changes (neighbours of one word never share one here).
    changes = np.concatenate([[0], np.flatnonzero(np.diff(pdfs)) + 1, [len(pdfs)]])
    assert len(changes) == sum(states) + 1
    edges = changes[np.concatenate([[0], np.cumsum(states)])]
    ends = np.cumsum([1, *(len(phones_of(model, [word])) for word in words)])
    wanted = [(word, edges[begin], edges[end] - edges[begin])
              for word, begin, end in zip(words, ends[:-1], ends[1:], strict=True)]
    assert [(w.word, w.start, w.frames) for w in word_times(result.best, model)] == wanted


def test_each_hmm_state_is_left_once_and_then_stays(shared: Path, model: HmmModel, graph: DecodingGraph) -> None:
    # Kaldi's reordering: the forward transition comes first, the self-loops of the same state follow it.
    scores, _ = scores_of(model, ["ABOUT", "THE", "BOY"], 0)
    tids = best_path(decode(graph, scores).lattice, 12.0, 0.0).transition_ids
    loops = model.transitions.is_self_loop[tids]
    assert not loops[0]
    states = model.transitions.states[tids]
    assert (states[1:][loops[1:]] == states[:-1][loops[1:]]).all()
