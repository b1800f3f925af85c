"""Fixtures for every room's tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # the first call of compiled code may take seconds
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run the tests, each file goes to one of them, and what needs the demo's run goes first."""
    groups = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        groups[item] = str(item.path) if mark is None else mark.args[0]
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: groups[item] != "demo")


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
    """A run directory in which the fast demo recipe ran through, and what it printed."""
    pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
    run_dir = tmp_path_factory.mktemp("demo") / "run"
    done = subprocess.run(demo_command(run_dir), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return run_dir, done.stdout


@pytest.fixture(scope="session")
def finished_demo(demo_run: tuple[Path, str]) -> Path:
    """A run directory of the fast demo recipe. Do not write there."""
    return demo_run[0]
