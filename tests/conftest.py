"""Fixtures for every room's tests."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # the first call of compiled code may take seconds
settings.load_profile("any machine")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `../shared` with corpora and Kaldi's golden outputs; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared (corpora and golden data) is not there")
    return SHARED
