"""Finite numbers of any size at the doors of compiled code: an answer or one line, never a crash."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydantic
import pytest

from asr_kd.core.bounds import AcousticScale, Beam, LatticeBeam, bounds_of
from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.decoding.n_best import n_best
from asr_kd.decoding.rescoring import best_path, check_weights
from asr_kd.decoding.search import SearchConfig, SearchError, decode
from asr_kd.graph.hclg import GraphConfig, build_graph
from asr_kd.lattices.determinization import determinize, determinize_within
from asr_kd.lattices.oracle import oracle_errors
from asr_kd.lm.arpa import read_arpa
from tests.decoding.random_graph import graph_of, random_fst
from tests.graph.toy import ARPA, Toy
from tests.lattices.random_lattice import random_lattice


@pytest.mark.parametrize("score", [1e10, -1e20, 1e38, -3e38, np.inf, np.nan])
def test_scores_of_a_damaged_network_are_refused_with_frame_and_pdf(score: float) -> None:
    graph = graph_of(random_fst(0))
    scores = np.zeros((5, graph.num_pdfs), np.float32)
    scores[3, 1] = score
    with pytest.raises(SearchError, match="frame 3, pdf 1 has .*model or its input is broken"):
        decode(graph, scores)


@pytest.mark.parametrize("scale", bounds_of(AcousticScale))
@pytest.mark.parametrize("size", [1.0, 1e5, 1e9])
def test_the_largest_numbers_that_are_taken_are_searched_and_determinised(size: float, scale: float) -> None:
    generator = np.random.default_rng(int(size))
    for seed in range(3):
        graph = graph_of(random_fst(seed))
        scores = (size * generator.uniform(-1, 1, (12, graph.num_pdfs))).astype(np.float32)
        for beam, lattice_beam in zip(bounds_of(Beam), bounds_of(LatticeBeam), strict=True):
            config = SearchConfig(beam=beam, lattice_beam=lattice_beam, acoustic_scale=scale, max_active=1000)
            lattice = decode(graph, scores, config).lattice
            assert lattice.fault() is None
            words, _ = determinize_within(lattice, lattice_beam, scale)
            assert words.fault() is None


@pytest.mark.parametrize("size", [1e7, 1e9, 9e14])
def test_lattices_of_huge_costs_are_determinised_without_a_crash(size: float) -> None:
    for seed in range(20):
        lattice = random_lattice(seed)
        factors = np.random.default_rng(seed).uniform(-size, size, lattice.num_arcs).astype(np.float32)
        huge = replace(lattice, acoustic_costs=factors)
        words = determinize(huge, 1.0, 1.0)
        assert words.fault() is None
        if words.num_states and size <= 1e9:
            best = best_path(huge, 1.0, 0.0)
            cost = best_path(words, 1.0, 0.0)
            assert cost.graph_cost + cost.acoustic_cost == pytest.approx(best.graph_cost + best.acoustic_cost, rel=1e-6)


def test_costs_beyond_the_limit_are_refused() -> None:
    lattice = random_lattice(0)
    huge = replace(lattice, acoustic_costs=np.full(lattice.num_arcs, 1e20, np.float32))
    assert "beyond" in str(huge.fault())
    with pytest.raises(InputError, match="beyond"):
        determinize(huge, 1.0, 1.0)


@pytest.mark.parametrize(("name", "value"), [
    ("beam", 1e-300), ("beam", 0.0), ("beam", 1e300), ("lattice_beam", 1e300), ("lattice_beam", -1.0),
    ("acoustic_scale", 1e12), ("acoustic_scale", 1e-30), ("word_beam", 1e30), ("beam_delta", 1e-300),
    ("max_active", 10**12), ("prune_interval", 10**9)])
def test_options_of_the_search_have_bounds(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}: expected"):
        build_config(SearchConfig, Settings({name: value}, {}))


@pytest.mark.parametrize(("weight", "penalty"), [(1e-300, 0), (0, 0), (1e300, 0), (float("nan"), 0), (10, 1e30),
                                                 (10, float("nan"))])
def test_weights_have_bounds(weight: float, penalty: float) -> None:
    with pytest.raises(InputError, match="expected"):
        check_weights(weight, penalty)
    with pytest.raises(InputError, match="expected"):
        best_path(random_lattice(0), weight, penalty)


def test_more_hypotheses_than_can_be_made_are_refused() -> None:
    with pytest.raises(InputError, match="100000000 hypotheses"):
        n_best(determinize(random_lattice(0), 5.0, 1.0), 10**8, 10.0)


@pytest.mark.parametrize("beam", [-1.0, 1e300, float("nan")])
def test_beams_of_lattices_have_bounds(beam: float) -> None:
    with pytest.raises(InputError, match="lattice beam"):
        determinize(random_lattice(0), beam, 1.0)


def test_a_reference_too_long_to_compare_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(Exception, match="reference words"):
        oracle_errors(random_lattice(0), range(10**9))  # of which no array is made


@pytest.mark.parametrize("cost", ["-1e39", "-1e30", "-1e7"])
def test_a_probability_that_no_model_has_does_not_reach_the_composition(tmp_path: Path, toy: Toy, cost: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA.replace("-0.8 </s>", f"{cost} </s>"))
    with pytest.raises(InputError, match=r"lm\.arpa"):
        build_graph(toy.hmm, read_arpa(path), tmp_path / "graph")


def test_the_largest_scales_of_transitions_build_a_graph(tmp_path: Path, toy: Toy) -> None:
    config = GraphConfig(transition_scale=100.0, self_loop_scale=100.0)
    assert build_graph(toy.hmm, toy.model, tmp_path / "graph", config)["states"] > 0
    for scale in (1e39, -1.0, 101.0):
        with pytest.raises(pydantic.ValidationError):
            GraphConfig(transition_scale=scale)
