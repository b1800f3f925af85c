"""Rescoring against all paths of small lattices, and against the search itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.decoding.rescoring import best_path, best_paths, word_sequences
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.lattices.determinization import determinize
from tests.decoding.random_graph import NUM_PDFS, WORDS, graph_of, random_fst
from tests.lattices.random_lattice import paths_of, random_lattice

GRID = [(float(weight), penalty) for weight in range(5, 21) for penalty in (0.0, 0.5, 1.0, 1.5, 2.0)]


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_each_weight_gets_the_best_of_all_paths(seed: int) -> None:
    lattice = random_lattice(seed)
    paths = paths_of(lattice)
    for (weight, penalty), best in zip(GRID, best_paths(lattice, GRID), strict=True):
        costs = sorted((graph + acoustic / weight + penalty * len(words), words) for _, graph, acoustic, words in paths)
        found = best.graph_cost + best.acoustic_cost / weight + penalty * len(best.words)
        assert found == pytest.approx(costs[0][0], abs=1e-4)
        if len(costs) == 1 or costs[1][0] - costs[0][0] > 1e-4:
            assert tuple(best.words) == costs[0][1]
        assert len(best.transition_ids) == lattice.num_frames
        assert len(best.word_frames) == len(best.words)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_the_searchs_own_weight_gives_the_searchs_best_path(seed: int) -> None:
    graph = graph_of(random_fst(seed, states=8))
    scores = np.random.default_rng(seed).normal(-5, 3, (12, NUM_PDFS)).astype(np.float32)
    result = decode(graph, scores, SearchConfig(acoustic_scale=0.1))
    path = best_path(result.lattice, 10.0, 0.0)
    assert path.graph_cost + 0.1 * path.acoustic_cost == pytest.approx(result.cost, abs=1e-3)
    assert [WORDS[word] for word in path.words] == result.words


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_determinised_lattice_gives_the_same_words_at_its_own_scale(seed: int) -> None:
    lattice = random_lattice(seed, frames=5)
    compact = determinize(lattice, 12.0, 0.1)
    for penalty in (0.0, 1.0):
        raw, path = best_path(lattice, 10.0, penalty), best_path(compact, 10.0, penalty)
        cost, expected = (p.graph_cost + 0.1 * p.acoustic_cost + penalty * len(p.words) for p in (path, raw))
        assert cost == pytest.approx(expected, abs=1e-3)
        np.testing.assert_array_equal(path.transition_ids, raw.transition_ids)
        assert path.words == raw.words
        assert len(path.word_frames) == len(path.words)


def test_a_higher_penalty_never_gives_more_words_and_a_higher_weight_trusts_the_graph_more() -> None:
    lattice = random_lattice(7, frames=6)
    counts = [len(best_path(lattice, 10.0, penalty).words) for penalty in np.arange(0, 20, 0.5)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    graph_costs = [best_path(lattice, weight, 0.0).graph_cost for weight in (0.5, 5.0, 50.0, 500.0)]
    assert graph_costs == sorted(graph_costs, reverse=True) and graph_costs[0] > graph_costs[-1]


def test_words_are_spelt_out_with_their_frames() -> None:
    lattice = random_lattice(11)
    path = best_path(lattice, 10.0, 0.0)
    assert word_sequences(lattice, [(10.0, 0.0)], WORDS) == [[WORDS[word] for word in path.words]]
    assert path.word_frames == sorted(path.word_frames)
