"""The toy speech of the HMM tests."""

from tests.hmm.conftest import lexicon, sampled, true_model

__all__ = ["lexicon", "sampled", "true_model"]
