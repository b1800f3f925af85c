"""Fixtures for every room's tests."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from asr_kd.core import progress

settings.register_profile("any machine", deadline=None)  # the first call of compiled code may take seconds
settings.load_profile("any machine")

progress.FIRST_LINE = float("inf")  # tests that count lines may take longer on a busy machine
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of the demo run and end with others that need it, so that two processes wait least."""
    order = {"test_demo.py": 0, "test_docs.py": 2}
    items.sort(key=lambda item: order.get(item.path.name, 1))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `../shared` with corpora and Kaldi's golden outputs; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared (corpora and golden data) is not there")
    return SHARED


def demo_arguments(run_dir: Path, *options: str) -> list[str]:
    """The fast demo recipe with sequence training."""
    return ["run", str(ROOT / "recipes/demo"), "--fast", "--option", "smbr", "--run-dir", str(run_dir), *options]


def demo_command(run_dir: Path, *options: str) -> list[str]:
    """The same in a process of its own."""
    return [sys.executable, "-m", "asr_kd.cli.main", *demo_arguments(run_dir, *options)]


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run directory in which the fast demo recipe ran through, and what it printed.

    Processes that share the tests share it: the first that needs it makes it.
    """
    pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    run_dir, printed = folder / "demo/run", folder / "demo.txt"
    with open(folder / "demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            done = subprocess.run(demo_command(run_dir), capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
    return run_dir, printed.read_text()


@pytest.fixture(scope="session")
def finished_demo(demo_run: tuple[Path, str]) -> Path:
    """A run directory of the fast demo recipe. Do not write there."""
    return demo_run[0]
