import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import Topology, standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lexicon.phones import PhoneTable


def test_topologies_are_kaldis() -> None:
    phones = PhoneTable.build(["A"])
    topology = standard_topology(phones)
    speech = topology.states(phones.ids["A_B"])
    assert [s.arcs for s in speech] == [((0, 0.75), (1, 0.25)), ((1, 0.75), (2, 0.25)), ((2, 0.75), (3, 0.25))]
    silence = topology.states(phones.ids["SIL"])
    assert [[to for to, _ in s.arcs] for s in silence] == [[0, 1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4],
                                                            [4, 5]]
    for state in (*speech, *silence):
        assert sum(p for _, p in state.arcs) == pytest.approx(1.0)
    assert Topology.from_json(topology.as_json()) == topology
    with pytest.raises(IndexError):
        topology.states(0)


def test_every_transition_id_round_trips(true_model: HmmModel) -> None:
    t = true_model.transitions
    for tid in range(1, t.num_transition_ids + 1):
        assert t.transition_id(t.phones[tid], t.hmm_states[tid], t.pdf_ids[tid], t.arc_indices[tid]) == tid
        to = t.topology.states(t.phones[tid])[t.hmm_states[tid]].arcs[t.arc_indices[tid]][0]
        assert t.next_state[tid] == to and t.is_self_loop[tid] == (to == t.hmm_states[tid])
        loop = t.self_loop_of[tid]
        assert t.is_self_loop[loop] and t.states[loop] == t.states[tid]
    with pytest.raises(KeyError):
        t.transition_id(int(t.phones[1]), 0, 10**6, 0)
    with pytest.raises(KeyError):
        t.transition_id(int(t.phones[1]), int(t.hmm_states[1]), int(t.pdf_ids[1]), 99)


def test_ids_equal_kaldis(shared: Path) -> None:
    """All 12,314 transition-ids of Kaldi's tri3b: phone, state, pdf, target, self-loop flag."""
    lexicon = Lexicon.read(shared / "corpora/speechocean762/lexicon/lexicon.txt")
    with open(shared / "golden/kaldi_lattice/transitions.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    t = TransitionModel(standard_topology(lexicon.phones),
                        [(int(r["phone_id"]), int(r["hmm_state"]), int(r["pdf"])) for r in rows])
    assert t.num_transition_ids == len(rows) == 12314
    for column, array in (("phone_id", t.phones), ("pdf", t.pdf_ids), ("hmm_state", t.hmm_states),
                          ("to_state", t.next_state), ("self_loop", t.is_self_loop)):
        np.testing.assert_array_equal(array[1:], [int(r[column]) for r in rows], err_msg=column)
    assert [lexicon.phones.symbols[p] for p in t.phones[1:]] == [r["phone"] for r in rows]


def test_monophone_counts_of_the_corpus(shared: Path) -> None:
    lexicon = Lexicon.read(shared / "corpora/speechocean762/lexicon/lexicon.txt")
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    assert (tree.num_pdfs, TransitionModel.from_tree(topology, tree).num_transition_ids) == (127, 1788)


@given(st.integers(0, 2**32 - 1))
def test_reestimated_probabilities_sum_to_one_above_the_floor(seed: int) -> None:
    phones = PhoneTable.build(["A"])
    topology = standard_topology(phones)
    t = TransitionModel.from_tree(topology, monophone_tree(phones, topology))
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 200, t.num_transition_ids + 1) * generator.integers(0, 2, t.num_transition_ids + 1)
    new = t.reestimated(counts)
    sums = np.bincount(t.states[1:], np.exp(new.log_probs[1:]))
    np.testing.assert_allclose(sums, 1.0, atol=0.02)
    assert np.exp(new.log_probs[1:]).min() >= 0.0099
    totals = np.bincount(t.states[1:], counts[1:])[t.states]
    totals[0] = counts[0] = 0
    seen = totals >= 5
    np.testing.assert_array_equal(new.log_probs[~seen], t.log_probs[~seen])
    likely = seen & (counts > 0.2 * totals)
    np.testing.assert_allclose(np.exp(new.log_probs[likely]), counts[likely] / totals[likely], atol=0.05)


def test_scaled_log_probs_at_scale_one_are_the_log_probs(true_model: HmmModel) -> None:
    t = true_model.transitions
    np.testing.assert_allclose(t.scaled_log_probs(1.0, 1.0)[1:], t.log_probs[1:], atol=1e-9)


def test_scaled_log_probs_by_hand(true_model: HmmModel) -> None:
    t = true_model.transitions
    phone = true_model.phones.ids["B_B"]
    pdf = true_model.tree.pdf_id((phone,), 0)
    scaled = t.scaled_log_probs(1.0, 0.1)
    assert scaled[t.transition_id(phone, 0, pdf, 0)] == pytest.approx(0.1 * np.log(0.75))
    assert scaled[t.transition_id(phone, 0, pdf, 1)] == pytest.approx(0.1 * np.log(0.25))
    silence = true_model.phones.optional_silence
    pdf = true_model.tree.pdf_id((silence,), 0)
    assert scaled[t.transition_id(silence, 0, pdf, 1)] == pytest.approx(np.log(1 / 3) + 0.1 * np.log(0.75))
