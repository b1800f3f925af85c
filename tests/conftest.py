"""Fixtures for every room's tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `../shared` with corpora and Kaldi's golden outputs; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared (corpora and golden data) is not there")
    return SHARED
