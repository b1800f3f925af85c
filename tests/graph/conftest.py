"""Fixtures: the toy language with and without phonetic context."""

from pathlib import Path

import pytest

from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.lm.arpa import read_arpa
from tests.graph.toy import ARPA, ENTRIES, Toy, triphone_tree


@pytest.fixture
def arpa_path(tmp_path: Path) -> Path:
    path = tmp_path / "toy.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture(params=["monophone", "triphone"])
def toy(request: pytest.FixtureRequest, arpa_path: Path) -> Toy:
    config = LexiconConfig(position_dependent=False, silence_probability=0.4)
    lexicon = Lexicon.from_entries(ENTRIES, config)
    topology = standard_topology(lexicon.phones, speech_states=2, silence_states=3)
    tree = monophone_tree(lexicon.phones, topology)
    if request.param == "triphone":
        tree = triphone_tree(lexicon, topology)
    hmm = HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree))
    return Toy(hmm, read_arpa(arpa_path))
