"""The revision that results are recorded with."""

import subprocess
from pathlib import Path

import pytest

from asr_kd.core import runner
from asr_kd.core.runner import code_revision, environment


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout of another project, with one commit."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "thesis"\n')
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    code_revision.cache_clear()
    monkeypatch.setattr(runner, "_PROJECT", tmp_path)
    yield tmp_path
    code_revision.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    return subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True,
                          text=True).stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def test_the_revision_of_this_projects_checkout_is_told_with_a_mark_where_files_are_changed(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "asr-kd"\n')
    head = commit(project)
    assert code_revision() == head
    code_revision.cache_clear()
    (project / "pyproject.toml").write_text('[project]\nname = "asr-kd"\nversion = "2"\n')
    assert code_revision() == f"{head}+"


def test_a_repository_that_the_environment_names_is_not_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    commit(other)
    (project / "pyproject.toml").write_text('[project]\nname = "asr-kd"\n')
    head = commit(project)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert code_revision() == head


def test_of_an_installed_package_in_another_project_the_version_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = environment()["asr-kd"].replace("not installed", "unknown")
    assert code_revision() == version
    code_revision.cache_clear()
    packages = project / "venv" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "pyproject.toml").write_text('[project]\nname = "asr-kd"\n')
    monkeypatch.setattr(runner, "_PROJECT", packages)
    assert code_revision() == version


def test_outside_of_any_repository_the_version_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(runner, "_PROJECT", tmp_path_factory.mktemp("alone"))
    assert code_revision() == environment()["asr-kd"].replace("not installed", "unknown")
