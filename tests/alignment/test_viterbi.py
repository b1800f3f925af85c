"""The training graph and its Viterbi search against a plain enumeration of phone strings."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.alignment.align import MatrixFrameScores
from asr_kd.alignment.boundaries import phone_segments
from asr_kd.alignment.training_graph import TrainingGraph, TrainingGraphBuilder
from asr_kd.alignment.viterbi import BestPath, best_path, equal_alignment, fewest_frames
from asr_kd.core.errors import InputError
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon
from tests.hmm.toy import random_triphone_model


def phone_strings(lexicon: Lexicon, words: list[int]) -> Iterator[tuple[list[int], float]]:
    """Every phone string of a transcript with its lexicon log-probability."""
    p = lexicon.silence_probability
    for prons in itertools.product(*(lexicon.pronunciations_of[w] for w in words)):
        for silences in itertools.product((False, True), repeat=len(words) + 1):
            phones, log_prob = [], 0.0
            for i, silence in enumerate(silences):
                if i:
                    phones.extend(prons[i - 1].phones)
                    log_prob += math.log(prons[i - 1].probability)
                phones.extend([lexicon.phones.optional_silence] if silence else [])
                log_prob += math.log(p if silence else 1 - p)
            yield phones, log_prob


def plain_viterbi(model: HmmModel, phones: list[int], scores: np.ndarray, logs: np.ndarray) -> float:
    """Best score over state sequences of one phone string, straight from the topology."""
    padded = [0, *phones, 0]
    width = model.tree.context_width
    best = {(0, 0): 0.0} if phones else {}
    for t in range(len(scores)):
        following: dict[tuple[int, int], float] = {}
        for (i, state), score in best.items():
            if i == len(phones):
                continue
            window = tuple(padded[i : i + 3]) if width == 3 else (phones[i],)
            hmm = model.topology.states(phones[i])
            pdf = model.tree.pdf_id(window, hmm[state].pdf_class)
            for arc, (to, _) in enumerate(hmm[state].arcs):
                tid = model.transitions.transition_id(phones[i], state, pdf, arc)
                place = (i + 1, 0) if to == len(hmm) else (i, to)
                value = score + scores[t, pdf] + logs[tid]
                following[place] = max(following.get(place, -math.inf), value)
        best = following
    return best.get((len(phones), 0), -math.inf)


def search(model: HmmModel, graph: TrainingGraph, scores: np.ndarray, beam: float) -> BestPath:
    boost = np.zeros(model.tree.num_pdfs, dtype=np.float32)
    return best_path(graph, MatrixFrameScores(scores, boost), model.transitions.scaled_log_probs(1.0, 0.1), beam)


def build(model: HmmModel, words: list[int]) -> TrainingGraph:
    return TrainingGraphBuilder(model.lexicon, model.topology, model.tree, model.transitions).build(words)


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from(["ab", "ba", "ca", "c"]), min_size=0, max_size=3), seed=st.integers(0, 10**6),
       triphone=st.booleans(), frames=st.integers(1, 40))
def test_best_path_equals_enumeration(true_model: HmmModel, words: list[str], seed: int, triphone: bool,
                                      frames: int) -> None:
    model = random_triphone_model(true_model, seed) if triphone else true_model
    ids = [model.lexicon.word_id[w] for w in words]
    scores = np.random.default_rng(seed).normal(0, 2, (frames, model.tree.num_pdfs))
    logs = model.transitions.scaled_log_probs(1.0, 0.1)
    expected = max(log_prob + plain_viterbi(model, phones, scores, logs)
                   for phones, log_prob in phone_strings(model.lexicon, ids))
    graph = build(model, ids)
    found = search(model, graph, scores, 1e9)
    if expected == -math.inf:
        assert found.transition_ids is None and frames < fewest_frames(graph)
        return
    assert found.transition_ids is not None and frames >= fewest_frames(graph)
    alignment, score = found.transition_ids, found.score
    assert score == pytest.approx(expected, abs=1e-2)
    # The transition-ids themselves are worth that score, and spell one of the phone strings.
    strings = {tuple(phones): log_prob for phones, log_prob in phone_strings(model.lexicon, ids)}
    spelt = tuple(phone_segments(alignment, model.transitions).phones.tolist())
    pdfs = model.transitions.pdf_ids[alignment]
    assert scores[np.arange(frames), pdfs].sum() + logs[alignment].sum() + strings[spelt] == pytest.approx(
        expected, abs=1e-2)


def test_leaving_transition_comes_first_and_self_loops_follow(true_model: HmmModel) -> None:
    graph = build(true_model, [true_model.lexicon.word_id["c"]])
    t = true_model.transitions
    phone = true_model.phones.ids["C_S"]
    pdfs = [true_model.tree.pdf_id((phone,), c) for c in range(3)]
    scores = np.full((6, true_model.tree.num_pdfs), -50.0)
    for frame, pdf in enumerate([pdfs[0], pdfs[0], pdfs[0], pdfs[1], pdfs[2], pdfs[2]]):
        scores[frame, pdf] = 0.0
    found = search(true_model, graph, scores, 1e9)
    assert found.transition_ids is not None
    leave, loop = ([t.transition_id(phone, s, pdfs[s], arc) for s in range(3)] for arc in (1, 0))
    assert found.transition_ids.tolist() == [leave[0], loop[0], loop[0], leave[1], leave[2], loop[2]]


def test_a_narrow_beam_loses_the_path_and_a_wide_one_keeps_it(true_model: HmmModel) -> None:
    graph = build(true_model, [true_model.lexicon.word_id["c"]])
    scores = np.zeros((10, true_model.tree.num_pdfs))
    first = true_model.tree.pdf_id((true_model.phones.ids["C_S"],), 0)
    scores[:, first] = 20.0  # staying in the first state looks best until the end
    assert search(true_model, graph, scores, 5.0).transition_ids is None
    assert search(true_model, graph, scores, 500.0).transition_ids is not None


def test_an_hour_is_aligned_as_exactly_as_a_minute(true_model: HmmModel) -> None:
    words = [true_model.lexicon.word_id["ab"]] * 2
    generator = np.random.default_rng(0)
    graph = build(true_model, words)
    # The sum of an hour's scores leaves single precision no fractions.
    frames = 360_000
    scores = generator.normal(-60, 0.5, (frames, true_model.tree.num_pdfs)).astype(np.float32)
    found = search(true_model, graph, scores, 200.0)
    assert found.transition_ids is not None
    logs = true_model.transitions.scaled_log_probs(1.0, 0.1)
    pdfs = true_model.transitions.pdf_ids[found.transition_ids]
    worth = scores[np.arange(frames), pdfs].sum(dtype=np.float64) + logs[found.transition_ids].sum()
    strings = {tuple(phones): log_prob for phones, log_prob in phone_strings(true_model.lexicon, words)}
    spelt = tuple(phone_segments(found.transition_ids, true_model.transitions).phones.tolist())
    assert found.score == pytest.approx(worth + strings[spelt], abs=2.0)


def test_no_frames_have_no_path(true_model: HmmModel) -> None:
    graph = build(true_model, [true_model.lexicon.word_id["c"]])
    assert search(true_model, graph, np.zeros((0, true_model.tree.num_pdfs)), 10.0).transition_ids is None


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 80), seed=st.integers(0, 1000))
def test_equal_alignment_is_a_path_with_equal_shares(true_model: HmmModel, frames: int, seed: int) -> None:
    words = [true_model.lexicon.word_id[w] for w in ("ca", "ab")]
    graph = build(true_model, words)
    alignment = equal_alignment(graph, frames, np.random.default_rng(seed))
    if alignment is None:
        return
    t = true_model.transitions
    strings = {tuple(p) for p, _ in phone_strings(true_model.lexicon, words)}
    assert len(alignment) == frames
    assert tuple(phone_segments(alignment, t).phones.tolist()) in strings
    runs = np.diff(np.append(np.flatnonzero(~t.is_self_loop[alignment]), frames))
    assert runs.max() - runs.min() <= 1


def test_equal_alignment_finds_a_path_where_there_is_room(true_model: HmmModel) -> None:
    graph = build(true_model, [true_model.lexicon.word_id["abc"]])
    assert equal_alignment(graph, 200, np.random.default_rng(0)) is not None
    assert equal_alignment(graph, fewest_frames(graph) - 1, np.random.default_rng(0)) is None


def test_more_ways_into_a_state_than_a_byte_can_tell_apart(true_model: HmmModel) -> None:
    prons = [list(p) for p in itertools.product("ABC", repeat=6)][:300]
    lexicon = Lexicon.from_entries([("many", p, 1.0) for p in prons] + [("one", ["A"], 1.0)])
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    model = HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree))
    graph = build(model, [lexicon.word_id["many"], lexicon.word_id["one"]])
    assert np.diff(graph.begins).max() > 255
    for chosen in (0, 123, 299):
        phones = [*lexicon.phones.in_word(prons[chosen]), *lexicon.phones.in_word(["A"])]
        scores = np.full((3 * len(phones), tree.num_pdfs), -50.0)
        for t, (phone, pdf_class) in enumerate(itertools.product(phones, range(3))):
            scores[t, tree.pdf_id((phone,), pdf_class)] = 0.0
        found = search(model, graph, scores, 1e9)
        assert found.transition_ids is not None
        segments = phone_segments(found.transition_ids, model.transitions)
        assert segments.phones.tolist() == phones


def test_a_failed_search_says_how_far_it_came(true_model: HmmModel) -> None:
    words = [true_model.lexicon.word_id[w] for w in ("abc", "abc", "abc")]
    graph = build(true_model, words)
    scores = np.zeros((40, true_model.tree.num_pdfs))
    for pdf_class in range(3):  # the first word's first phone looks so good that all others are pruned
        scores[:, true_model.tree.pdf_id((true_model.phones.ids["A1_B"],), pdf_class)] = 20.0
    found = search(true_model, graph, scores, 8.0)
    assert found.transition_ids is None and found.finite and found.num_frames == 40
    assert found.score == pytest.approx(800, abs=20) and 0 < found.reached < 1
    scores[30] = np.inf
    found = search(true_model, graph, scores, 8.0)
    assert found.transition_ids is None and not found.finite


def test_graphs_of_lexicons_and_trees_of_other_models_are_refused(true_model: HmmModel) -> None:
    other = Lexicon.from_entries([("a", ("A1",), 1.0)])
    with pytest.raises(InputError, match="the lexicon belongs to another model"):
        TrainingGraphBuilder(other, true_model.topology, true_model.tree, true_model.transitions)
    with pytest.raises(InputError, match=r"word ids 1\.\.99 are not all in the lexicon"):
        build(true_model, [1, 99])
    triphone = random_triphone_model(true_model, 3)
    missing = TransitionModel(true_model.topology, [t for t in triphone.transitions.tuples if t[2] != 0])
    pdf = next(i for i, t in enumerate(triphone.transitions.tuples) if t[2] == 0)
    phone = triphone.transitions.tuples[pdf][0]
    assert phone in true_model.phones.silence  # in every graph
    with pytest.raises(InputError, match="a pdf that has no transition-id"):
        TrainingGraphBuilder(true_model.lexicon, true_model.topology, triphone.tree, missing).build([1, 2, 3, 4, 5])
