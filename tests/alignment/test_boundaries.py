import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.alignment.boundaries import AlignmentConverter, phone_segments, windows
from asr_kd.core.errors import InputError
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon
from tests.hmm.toy import random_triphone_model


def path_of(model: HmmModel, phones: list[int], generator: np.random.Generator, loops_first: bool) -> list[int]:
    """A random path through the phones' HMMs, self-loops before or after the arc that leaves their state."""
    ids = []
    for phone in phones:
        states = model.topology.states(phone)
        state = 0
        while state < len(states):
            pdf = model.tree.pdf_id((phone,), states[state].pdf_class)
            leaving = [i for i, (to, _) in enumerate(states[state].arcs) if to != state]
            loop = next(i for i, (to, _) in enumerate(states[state].arcs) if to == state)
            arc = int(generator.choice(leaving))
            run = [model.transitions.transition_id(phone, state, pdf, loop)] * int(generator.integers(0, 4))
            leave = [model.transitions.transition_id(phone, state, pdf, arc)]
            ids += run + leave if loops_first else leave + run
            state = states[state].arcs[arc][0]
    return ids


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), loops_first=st.booleans())
def test_phones_are_found_in_both_orders_of_self_loops(true_model: HmmModel, seed: int, loops_first: bool) -> None:
    generator = np.random.default_rng(seed)
    phones = [int(p) for p in generator.integers(1, true_model.phones.num_phones + 1, generator.integers(1, 8))]
    phones += phones[-1:]  # a phone that follows itself
    pieces = [path_of(true_model, [p], generator, loops_first) for p in phones]
    segments = phone_segments(np.array(sum(pieces, [])), true_model.transitions)
    assert segments.phones.tolist() == phones
    assert segments.frames.tolist() == [len(piece) for piece in pieces]
    assert segments.starts.tolist() == [0, *np.cumsum(segments.frames)[:-1].tolist()]


def test_windows_have_neighbours_and_zero_at_the_edges(true_model: HmmModel) -> None:
    ids = true_model.phones.ids
    phones = [ids["SIL"], ids["A1_B"], ids["B_E"]]
    alignment = np.array(path_of(true_model, phones, np.random.default_rng(0), False))
    found = windows(alignment, true_model.transitions)
    assert found.shape == (len(alignment), 3)
    assert np.unique(found, axis=0).tolist() == sorted(
        [[0, phones[0], phones[1]], [phones[0], phones[1], phones[2]], [phones[1], phones[2], 0]])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_conversion_keeps_phones_states_and_arcs_and_takes_the_new_pdfs(true_model: HmmModel, seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = random_triphone_model(true_model, seed)
    phones = [int(p) for p in generator.integers(1, true_model.phones.num_phones + 1, 5)]
    alignment = np.array(path_of(true_model, phones, generator, False))
    old, new = true_model.transitions, target.transitions
    converted = AlignmentConverter(old, target.tree, new)(alignment)
    for name in ("phones", "hmm_states", "arc_indices", "next_state"):
        np.testing.assert_array_equal(getattr(new, name)[converted], getattr(old, name)[alignment])
    expected = [target.tree.pdf_id(tuple(w), target.topology.states(w[1])[s].pdf_class)
                for w, s in zip(windows(alignment, old).tolist(), old.hmm_states[alignment], strict=True)]
    assert new.pdf_ids[converted].tolist() == expected


def test_alignments_of_other_hmms_are_not_converted(true_model: HmmModel) -> None:
    target = random_triphone_model(true_model, 0)
    topology = standard_topology(true_model.phones, speech_states=2)
    source = TransitionModel.from_tree(topology, monophone_tree(true_model.phones, topology))
    with pytest.raises(InputError, match="cannot be converted"):
        AlignmentConverter(source, target.tree, target.transitions)


def test_an_alignment_of_another_model_is_refused(true_model: HmmModel) -> None:
    with pytest.raises(InputError, match="another model"):
        phone_segments(np.array([1, 10**6]), true_model.transitions)


def test_segments_of_kaldis_alignments_equal_kaldis_ctm(shared: Path) -> None:
    lexicon = Lexicon.read(shared / "corpora/speechocean762/lexicon/lexicon.txt")
    folder = shared / "golden/kaldi_lattice"
    with open(folder / "transitions.tsv", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        tuples = {(int(r["phone_id"]), int(r["hmm_state"]), int(r["pdf"])) for r in rows}
    transitions = TransitionModel(standard_topology(lexicon.phones), tuples)
    golden: dict[str, list[tuple[str, int, int]]] = {}
    for line in (shared / "golden/kaldi_align/dev_phones.ctm").read_text().splitlines():
        utterance, _, start, duration, phone = line.split()
        golden.setdefault(utterance, []).append((phone, round(100 * float(start)), round(100 * float(duration))))
    paths = sorted(folder.glob("*.ali.txt"))
    assert len(paths) == 6
    for path in paths:
        utterance, *ids = path.read_text().split()
        segments = phone_segments(np.array(ids, dtype=np.int32), transitions)
        found = [(lexicon.phones.symbols[p], int(s), int(n))
                 for p, s, n in zip(segments.phones, segments.starts, segments.frames, strict=True)]
        assert found == golden[utterance]
