import shutil

import pytest


@pytest.fixture(scope="session")
def sclite() -> list[str]:
    """The command that runs sclite; the test is skipped where it is absent."""
    if shutil.which("sctk"):
        return ["sctk", "sclite"]
    if shutil.which("sclite"):
        return ["sclite"]
    pytest.skip("sclite is not installed (Debian package sctk)")
