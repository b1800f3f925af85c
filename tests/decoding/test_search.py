"""The beam search against all paths of small graphs."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.rescoring import best_path
from asr_kd.decoding.search import SearchConfig, SearchError, decode
from asr_kd.graph.fst import Fst
from asr_kd.lattices.lattice import Lattice
from tests.decoding.random_graph import NUM_PDFS, WORDS, graph_of, paths_through, random_fst
from tests.lattices.random_lattice import paths_of

SCALE = 0.5
WIDE = SearchConfig(beam=1e4, max_active=10**6, lattice_beam=3.0, acoustic_scale=SCALE)
seeds = st.integers(0, 10**6)


def scores_of(seed: int, frames: int = 4) -> np.ndarray:
    return np.random.default_rng(seed + 1).normal(-5, 3, (frames, NUM_PDFS)).astype(np.float32)


@settings(deadline=None)
@given(seeds)
def test_wide_search_finds_the_best_of_all_paths(seed: int) -> None:
    fst, scores = random_fst(seed), scores_of(seed)
    paths = paths_through(fst, scores, SCALE)
    result = decode(graph_of(fst), scores, WIDE)
    assert result.reached_final == bool(paths)
    if paths:
        ordered = sorted(paths, key=lambda path: path[2])
        assert result.cost == pytest.approx(ordered[0][2], abs=1e-3)
        if len(ordered) == 1 or ordered[1][2] - ordered[0][2] > 1e-3:
            assert result.words == [WORDS[word] for word in ordered[0][1]]
            assert best_path(result.lattice, 1 / SCALE, 0.0).transition_ids.tolist() == list(ordered[0][0])


@settings(deadline=None)
@given(seeds, st.floats(0.5, 8))
def test_lattice_holds_exactly_the_arcs_of_paths_within_the_lattice_beam(seed: int, lattice_beam: float) -> None:
    fst, scores = random_fst(seed), scores_of(seed)
    paths = paths_through(fst, scores, SCALE)
    assume(paths)
    best = min(cost for _, _, cost in paths)
    assume(all(abs(cost - best - lattice_beam) > 1e-3 for _, _, cost in paths))
    lattice = decode(graph_of(fst), scores, WIDE.model_copy(update={"lattice_beam": lattice_beam})).lattice
    assert lattice.fault() is None
    kept = [(arcs, tuple(int(lattice.transition_ids[a]) for a in arcs if lattice.transition_ids[a]), words,
             graph + SCALE * acoustic) for arcs, graph, acoustic, words in paths_of(lattice)]
    expected = sorted((cost, tids, words) for tids, words, cost in paths if cost <= best + lattice_beam)
    found = sorted((cost, tids, words) for _, tids, words, cost in kept if cost <= best + lattice_beam)
    assert [cost for cost, _, _ in found] == pytest.approx([cost for cost, _, _ in expected], abs=1e-3)
    assert sorted(x[1:] for x in found) == sorted(x[1:] for x in expected)
    needed = {arc for arcs, _, _, cost in kept if cost <= best + lattice_beam for arc in arcs}
    assert needed == set(range(lattice.num_arcs))


@settings(deadline=None)
@given(seeds)
def test_pruning_on_the_way_changes_nothing(seed: int) -> None:
    graph, scores = graph_of(random_fst(seed, states=12)), scores_of(seed, frames=23)
    lattices = [decode(graph, scores, WIDE.model_copy(update={"prune_interval": interval})).lattice
                for interval in (1, 4, 1000)]
    for field in fields(Lattice):
        for lattice in lattices[1:]:
            np.testing.assert_array_equal(getattr(lattice, field.name), getattr(lattices[0], field.name))


def test_tokens_beyond_max_active_are_not_expanded() -> None:
    # One state per pdf, all connected: a search with room for all keeps the winner that a narrow one loses.
    rows = [(0, tid, 0, 0.0, tid) for tid in (1, 2, 3, 4)]
    rows += [(tid, tid, word, 0.0, 5) for tid, word in ((1, 1), (2, 2), (3, 3), (4, 1))]
    graph = graph_of(Fst.from_lists(0, {5: 0.0}, rows))
    scores = np.array([[0, -1, -2, -3], [-20, -20, -20, 0]], np.float32)
    wide = decode(graph, scores, SearchConfig(beam=50.0, acoustic_scale=1.0))
    narrow = decode(graph, scores, SearchConfig(beam=50.0, max_active=2, min_active=0, acoustic_scale=1.0))
    assert wide.cost == pytest.approx(3.0) and narrow.cost == pytest.approx(20.0)
    beam = decode(graph, scores, SearchConfig(beam=2.5, min_active=0, acoustic_scale=1.0))
    assert beam.cost == pytest.approx(20.0)


def test_a_result_without_final_state_is_flagged_and_keeps_its_words() -> None:
    graph = graph_of(Fst.from_lists(0, {3: 0.0}, [(0, 1, 1, 0.0, 1), (1, 2, 2, 0.0, 2), (2, 3, 0, 0.0, 3)]))
    scores = np.zeros((3, NUM_PDFS), np.float32)
    whole, partial = decode(graph, scores), decode(graph, scores[:2])
    assert whole.reached_final and whole.words == ["one", "two"]
    assert not partial.reached_final and partial.words == ["one", "two"] and partial.frames == 2


def test_a_search_whose_tokens_die_gives_what_it_had() -> None:
    graph = graph_of(Fst.from_lists(0, {1: 0.0}, [(0, 1, 1, 0.0, 1)]))
    result = decode(graph, np.zeros((5, NUM_PDFS), np.float32))
    assert not result.reached_final and result.frames == 1 and result.words == ["one"]


def test_long_utterances_keep_their_precision() -> None:
    # 20,000 frames at a cost of 50 each: sums in single precision would be wrong by whole units.
    graph = graph_of(Fst.from_lists(0, {0: 0.0}, [(0, 1, 0, 0.125, 0), (0, 2, 1, 0.125, 0)]))
    scores = np.full((20_000, NUM_PDFS), -50.0, np.float32)
    scores[:, 1] = -50.25
    result = decode(graph, scores, SearchConfig(acoustic_scale=1.0, lattice_beam=0.1))
    assert result.cost == pytest.approx(20_000 * 50.125, abs=0.01)
    assert result.words == [] and result.lattice.num_arcs == 20_000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    scores = np.zeros((3, NUM_PDFS), np.float32)
    scores[1, 2] = value
    with pytest.raises(SearchError, match="frame 1, pdf 2") as error:
        decode(graph_of(random_fst(0)), scores)
    assert error.value.reason == "log-likelihoods out of range"


def test_wrong_width_and_no_frames_are_refused() -> None:
    graph = graph_of(random_fst(0))
    with pytest.raises(InputError, match=r"shape \(3, 5\), the graph graph has 4 pdfs"):
        decode(graph, np.zeros((3, NUM_PDFS + 1), np.float32))
    with pytest.raises(SearchError, match="no frames"):
        decode(graph, np.zeros((0, NUM_PDFS), np.float32))


def test_a_cycle_of_epsilons_is_refused() -> None:
    with pytest.raises(InputError, match="cycle of epsilon"):
        graph_of(Fst.from_lists(0, {1: 0.0}, [(0, 0, 1, 0.0, 1), (1, 0, 0, 0.0, 0), (0, 1, 0, 0.0, 1)]))


def test_labels_beyond_the_tables_are_refused() -> None:
    fst = Fst.from_lists(0, {1: 0.0}, [(0, 9, 1, 0.0, 1)])
    with pytest.raises(InputError, match="beyond the tables"):
        DecodingGraph.from_fst(fst, np.array([-1, 0]), WORDS, NUM_PDFS)
