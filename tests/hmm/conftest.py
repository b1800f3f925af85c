"""A toy language, and speech sampled from a known HMM-GMM of it."""

import numpy as np
import pytest

from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon
from tests.hmm.toy import DIM, Sampled, sample_speech


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    return Lexicon.from_entries([
        ("ab", ("A1", "B"), 1.0), ("ba", ("B", "A0"), 1.0), ("ca", ("C", "A1"), 0.7), ("ca", ("C", "B", "A0"), 1.0),
        ("c", ("C",), 1.0), ("abc", ("A1", "B", "C"), 1.0)])


@pytest.fixture(scope="session")
def true_model(lexicon: Lexicon) -> HmmModel:
    """A monophone model whose pdfs lie well apart."""
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    generator = np.random.default_rng(7)
    means = 6.0 * generator.standard_normal((tree.num_pdfs, DIM))
    gmm = DiagonalGmms(np.arange(tree.num_pdfs + 1), np.ones(tree.num_pdfs), means, np.ones_like(means))
    return HmmModel(lexicon, topology, tree, TransitionModel.from_tree(topology, tree), gmm, {"kind": "sampled"})


@pytest.fixture(scope="session")
def sampled(true_model: HmmModel) -> Sampled:
    return sample_speech(true_model, 60, np.random.default_rng(3))
