"""Numerators by enumeration of a graph's paths, and the lattices of a split with theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError, WorkError
from asr_kd.decoding.numerators import arcs_saying, numerator_path, transition_pdfs, with_scores
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import decode_split
from asr_kd.decoding.training_lattices import TrainingSpeech, with_numerators
from asr_kd.graph.fst import Fst
from asr_kd.lattices.chains import join_chains
from asr_kd.lattices.store import LatticeStore
from asr_kd.lattices.training_lattices import TrainingLattices
from tests.decoding.random_graph import NUM_PDFS, TRANSITION_PDFS, WORDS, graph_of, paths_through, random_fst
from tests.decoding.random_graph import Path as GraphPath
from tests.lattices.random_word_lattice import labelled_paths

DESCRIPTION = {"hmm": "digest", "made_of": "abc"}
NARROW = SearchConfig(acoustic_scale=0.1, beam=2.0, lattice_beam=1.0)


def silent_paths(fst: Fst, frames: int) -> list[GraphPath]:
    """All complete paths with their graph costs."""
    return paths_through(fst, np.zeros((frames, NUM_PDFS), np.float32), 0.0)


def through(paths: list[GraphPath], words: Sequence[int], pdf_ids: np.ndarray) -> list[GraphPath]:
    return [path for path in paths
            if path[1] == tuple(words) and TRANSITION_PDFS[list(path[0])].tolist() == pdf_ids.tolist()]


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_a_numerator_is_the_cheapest_path_of_the_graph_with_these_words_and_pdfs(
    seed: int, frames: int, from_a_path: bool
) -> None:
    fst, rng = random_fst(seed), np.random.default_rng(seed)
    paths = silent_paths(fst, frames)
    pdf_ids = rng.integers(0, NUM_PDFS, frames).astype(np.int32)
    words = tuple(rng.integers(1, 3, rng.integers(0, 2)).tolist())
    if from_a_path and paths:
        tids, words, _ = paths[rng.integers(len(paths))]
        pdf_ids = TRANSITION_PDFS[list(tids)]
    scores = rng.normal(-5, 3, frames).astype(np.float32)
    graph = graph_of(fst)
    found = numerator_path(graph, words, pdf_ids, NARROW)
    fitting = through(paths, words, pdf_ids)
    assert (found is None) == (not fitting)
    if found is not None:
        assert found.fault() is None
        ((said, tids), cost, acoustic), = labelled_paths(with_scores(found, scores))
        assert said == words and TRANSITION_PDFS[list(tids)].tolist() == pdf_ids.tolist()
        assert cost == pytest.approx(min(cost for _, _, cost in fitting), abs=1e-4)
        assert acoustic == pytest.approx(-float(scores.sum()), abs=1e-4)
        assert arcs_saying(found, words, pdf_ids, transition_pdfs(graph)) is not None
        assert arcs_saying(found, (*words, 1), pdf_ids, transition_pdfs(graph)) is None


def test_a_numerator_says_the_transcript_though_another_word_sounds_alike_and_is_likelier() -> None:
    graph = graph_of(Fst.from_lists(0, {2: 0.0}, [(0, 1, 1, 1.0, 1), (0, 1, 2, 9.0, 1), (1, 2, 0, 0.5, 2)]))
    found = numerator_path(graph, [2], np.array([0, 1]), SearchConfig())
    assert found is not None and labelled_paths(join_chains(found)) == [(((2,), (1, 2)), 9.5, 0.0)]
    assert numerator_path(graph, [3], np.array([0, 1]), SearchConfig()) is None


def test_a_numerator_may_be_far_costlier_than_what_it_begins_like() -> None:
    rows = [(0, 1, 1, 0.0, 1), (1, 2, 0, 0.0, 3), (0, 1, 2, 30.0, 2), (2, 3, 0, 0.0, 3)]
    graph = graph_of(Fst.from_lists(0, {3: 0.0}, rows))
    found = numerator_path(graph, [2], np.array([0, 2]), NARROW)
    assert found is not None and labelled_paths(join_chains(found)) == [(((2,), (1, 3)), 30.0, 0.0)]


@dataclass(frozen=True)
class Spoken:
    """Two folds of utterances, what is said in them, and where they were decoded."""

    folds: list[list[str]]
    graphs: list[Fst]
    speech: TrainingSpeech
    folder: Path

    def parts(self, search: SearchConfig) -> list[tuple[Path, Any]]:
        made = []
        for fold, (names, fst) in enumerate(zip(self.folds, self.graphs, strict=True)):
            folder, graph = self.folder / f"fold-{fold}", graph_of(fst)
            decode_split(graph, names, self.speech.log_likelihoods_of, search, folder)
            made.append((folder, graph))
        return made


@pytest.fixture
def spoken(tmp_path: Path) -> Spoken:
    """Each utterance is a path of its fold's graph, drawn at random; its scores are noise."""
    graphs = [random_fst(3), random_fst(11)]
    folds = [[f"f{fold}-{number}" for number in range(12)] for fold in range(2)]
    transcripts: dict[str, list[str]] = {}
    pdf_ids: dict[str, np.ndarray] = {}
    for fst, names in zip(graphs, folds, strict=True):
        for name in names:
            rng = np.random.default_rng(len(pdf_ids))
            paths = silent_paths(fst, int(rng.integers(3, 6)))
            tids, words, _ = paths[rng.integers(len(paths))]
            transcripts[name], pdf_ids[name] = [WORDS[word] for word in words], TRANSITION_PDFS[list(tids)]

    def scores_of(name: str) -> np.ndarray:
        noise = np.random.default_rng(list(pdf_ids).index(name)).normal(-5, 6, (len(pdf_ids[name]), NUM_PDFS))
        return noise.astype(np.float32)

    return Spoken(folds, graphs, TrainingSpeech(transcripts, pdf_ids, scores_of), tmp_path)


def test_numerators_are_put_in_where_their_path_is_missing_and_nowhere_else(spoken: Spoken) -> None:
    speech, folder = spoken.speech, spoken.folder / "lattices"
    parts = spoken.parts(NARROW)
    summary = with_numerators(parts, speech, NARROW, folder, DESCRIPTION, 10**6)
    made = TrainingLattices.open(folder, "digest")
    assert list(made.utterances) == [name for fold in spoken.folds for name in fold]
    lacking = []
    for names, fst, (part, _) in zip(spoken.folds, spoken.graphs, parts, strict=True):
        decoded = LatticeStore.open(part)
        for name in names:
            said = tuple(WORDS.index(word) for word in speech.transcripts[name])
            before = labelled_paths(decoded.word_lattice(name))
            after = labelled_paths(made.lattices.word_lattice(name))
            pdf_ids = speech.pdf_ids[name]
            numerators = through(silent_paths(fst, len(pdf_ids)), said, pdf_ids)
            cost = min(cost for _, _, cost in numerators)
            assert made.utterances[name].numerator_cost == pytest.approx(cost, abs=1e-4)
            assert made.utterances[name].frames == len(pdf_ids)
            if any(words == said and TRANSITION_PDFS[list(tids)].tolist() == pdf_ids.tolist()
                   for (words, tids), _, _ in before):
                assert after == before
                continue
            lacking.append(name)
            (put_in,) = [path for path in after if path not in before]
            assert len(after) == len(before) + 1
            assert TRANSITION_PDFS[list(put_in[0][1])].tolist() == pdf_ids.tolist()
            assert put_in[1] == pytest.approx(cost, abs=1e-4)
            scores = speech.log_likelihoods_of(name)[np.arange(len(pdf_ids)), pdf_ids]
            assert put_in[2] == pytest.approx(-float(scores.sum()), abs=1e-3)
    assert summary["numerators_added"] == lacking and 0 < len(lacking) < 24
    assert summary["without_numerator"] == [] and summary["utterances"]["kept"] == 24
    assert summary["frames"] == sum(map(len, speech.pdf_ids.values()))


def test_the_arcs_that_are_known_bound_those_of_the_expanded_lattices(spoken: Spoken) -> None:
    with_numerators(spoken.parts(NARROW), spoken.speech, NARROW, spoken.folder / "lattices", DESCRIPTION, 10**6)
    made = TrainingLattices.open(spoken.folder / "lattices", "digest")
    for name, known in made.utterances.items():
        expanded = made.lattices.word_lattice(name).expand()
        assert 0 < (expanded.transition_ids > 0).sum() <= known.arcs


def test_utterances_without_alignment_or_path_are_kept_without_a_numerator(spoken: Spoken) -> None:
    pdf_ids = dict(spoken.speech.pdf_ids)
    del pdf_ids["f0-3"]
    frames = len(pdf_ids["f0-5"])
    paths = silent_paths(spoken.graphs[0], frames)
    pdf_ids["f0-5"] = next(any_pdfs for any_pdfs in map(np.array, np.ndindex(*[NUM_PDFS] * frames))
                           if not any(TRANSITION_PDFS[list(path[0])].tolist() == any_pdfs.tolist() for path in paths))
    speech = TrainingSpeech(spoken.speech.transcripts, pdf_ids, spoken.speech.log_likelihoods_of)
    summary = with_numerators(spoken.parts(NARROW), speech, NARROW, spoken.folder / "lattices", DESCRIPTION, 10**6)
    assert summary["without_numerator"] == ["f0-3", "f0-5"] and summary["utterances"]["kept"] == 24
    made = TrainingLattices.open(spoken.folder / "lattices", "digest")
    assert [name for name, known in made.utterances.items() if known.numerator_cost is None] == ["f0-3", "f0-5"]


DEAD = Fst.from_lists(0, {0: 0.0}, [])
THREE = Fst.from_lists(0, {3: 0.0}, [(0, 1, 1, 0.0, 1), (1, 2, 0, 0.0, 2), (2, 3, 0, 0.0, 3)])
BRANCHED = Fst.from_lists(0, {3: 0.0}, [(s, tid, tid % 4, 0.1 * tid, s + 1) for s in range(3) for tid in range(1, 7)])


def test_what_cannot_be_learnt_from_is_dropped_by_name_and_reason(tmp_path: Path) -> None:
    frames = {"nothing": 3, "whole": 3, "longer": 5, "thick": 3}
    folds = [(["nothing"], DEAD), (["whole", "longer"], THREE), (["thick"], BRANCHED)]
    speech = TrainingSpeech({name: ["one"] for name in frames}, {name: np.arange(n) % 3 for name, n in frames.items()},
                            lambda name: np.zeros((frames[name], NUM_PDFS), np.float32))
    spoken = Spoken([names for names, _ in folds], [fst for _, fst in folds], speech, tmp_path)
    wide = SearchConfig(acoustic_scale=0.1)
    parts = spoken.parts(wide)
    summary = with_numerators(parts, speech, wide, tmp_path / "lattices", DESCRIPTION, 30, max_dropped=0.75)
    utterances = summary["utterances"]
    named = {reason: [item["id"] for item in items] for reason, items in utterances["items"].items()}
    assert named == {"empty lattice": ["nothing"], "search ended early": ["longer"], "oversized lattice": ["thick"]}
    assert utterances["items"]["search ended early"][0]["detail"] == "3 of 5 frames"
    assert utterances["kept"] + sum(utterances["dropped"].values()) == utterances["total"] == 4
    assert list(TrainingLattices.open(tmp_path / "lattices", "digest").utterances) == ["whole"]


def test_too_many_drops_leave_nothing_that_can_be_opened(spoken: Spoken) -> None:
    with pytest.raises(WorkError, match="24 of 24 utterances dropped.*oversized lattice"):
        with_numerators(spoken.parts(NARROW), spoken.speech, NARROW, spoken.folder / "lattices", DESCRIPTION, 1)
    with pytest.raises(InputError, match="utterances.json"):
        TrainingLattices.open(spoken.folder / "lattices", "digest")
