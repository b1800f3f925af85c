"""Word times of decoded paths agree with forced alignment of the same words."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.alignment.align import AlignConfig, align_log_likelihoods
from asr_kd.alignment.boundaries import phone_segments
from asr_kd.alignment.word_segments import word_segments
from asr_kd.core.errors import InputError
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.n_best import n_best
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.decoding.word_times import word_times
from asr_kd.graph.hclg import build_graph
from asr_kd.lattices.determinization import determinize
from tests.graph.toy import Toy

SCALE = 0.3
WIDE = SearchConfig(acoustic_scale=SCALE, beam=100.0, lattice_beam=20.0)


def graph_of(toy: Toy, folder: Path) -> DecodingGraph:
    build_graph(toy.hmm, toy.model, folder / "graph")
    return DecodingGraph.load(folder / "graph", toy.hmm.digest)


def scores_of(toy: Toy, seed: int, frames: int = 25) -> np.ndarray:
    return np.random.default_rng(seed).normal(-8, 4, (frames, toy.hmm.tree.num_pdfs)).astype(np.float32)


def test_words_lie_where_forced_alignment_puts_them(toy: Toy, tmp_path: Path) -> None:
    graph = graph_of(toy, tmp_path)
    config = AlignConfig(acoustic_scale=SCALE, beam=500.0)
    words, ties = 0, 0
    for seed in range(15):
        scores = scores_of(toy, seed)
        result = decode(graph, scores, WIDE)
        lattice = determinize(result.lattice, 20.0, SCALE)
        # The same words may be aligned as well in two ways; a tie shows in the costs, not in the times.
        for path in n_best(lattice, 5, 1 / SCALE):
            found = word_times(path, toy.hmm)
            assert [w.word for w in found] == [graph.words[w] for w in path.words]
            alignments, _ = align_log_likelihoods(toy.hmm, lambda _, scores=scores: scores,  # type: ignore[misc]
                                                  {"u": [w.word for w in found]}, config)
            segments = phone_segments(alignments["u"], toy.hmm.transitions)
            aligned = word_segments(segments, path.words, toy.hmm.lexicon)
            pdfs = toy.hmm.transitions.pdf_ids
            np.testing.assert_array_equal(pdfs[path.transition_ids], pdfs[alignments["u"]])
            same = [[w.start, w.frames] for w in found] == np.stack([aligned.starts, aligned.frames], 1).tolist()
            # A random tree may give two phones one pdf: then the same scores have two readings.
            ties += not same
            words += len(found)
    assert words > 100
    assert ties == 0 or (toy.hmm.phones.position_dependent and ties < 5)


def test_words_cover_what_is_not_silence(toy: Toy, tmp_path: Path) -> None:
    result = decode(graph_of(toy, tmp_path), scores_of(toy, 3), WIDE)
    silence = np.isin(toy.hmm.transitions.phones[result.best.transition_ids], list(toy.hmm.phones.silence))
    spoken = np.zeros(25, bool)
    for word in word_times(result.best, toy.hmm):
        assert not spoken[word.start : word.start + word.frames].any() and word.frames > 0
        spoken[word.start : word.start + word.frames] = True
    np.testing.assert_array_equal(spoken, ~silence)


def test_a_path_of_another_model_is_refused(toy: Toy, tmp_path: Path) -> None:
    path = decode(graph_of(toy, tmp_path), scores_of(toy, 3), WIDE).best
    path.words.append(toy.hmm.lexicon.word_id["D"])
    with pytest.raises(InputError, match="do not spell"):
        word_times(path, toy.hmm)
