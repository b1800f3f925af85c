"""Fixtures: the toy language with and without phonetic context."""

from pathlib import Path

import pytest

from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.lm.arpa import read_arpa
from tests.graph.toy import ARPA, ENTRIES, MAX_NORMALISED, Toy, triphone_tree
from tests.hmm.toy import random_triphone_model


@pytest.fixture
def arpa_path(tmp_path: Path) -> Path:
    path = tmp_path / "toy.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture(params=["monophone", "triphone", "positions"])
def toy(request: pytest.FixtureRequest, arpa_path: Path) -> Toy:
    """Position-independent phones and a lexicon whose probabilities sum to one; with positions a max-normalised one."""
    positions = request.param == "positions"
    entries = MAX_NORMALISED if positions else ENTRIES
    config = LexiconConfig(position_dependent=positions, silence_probability=0.4)
    lexicon = Lexicon.from_entries(entries, config)
    topology = standard_topology(lexicon.phones, speech_states=2, silence_states=3)
    tree = monophone_tree(lexicon.phones, topology)
    if request.param == "triphone":
        tree = triphone_tree(lexicon, topology)
    hmm = HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree))
    if positions:
        hmm = random_triphone_model(hmm, 11)
    return Toy(hmm, read_arpa(arpa_path), entries)
