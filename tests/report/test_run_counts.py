"""Counts of a run directory: what its sealed stages answer for, and what they do not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.recipe import read_recipe
from asr_kd.core.run_directory import RunDirectory
from asr_kd.core.runner import Runner, Selection
from asr_kd.core.stages import StageContext, StageKind
from asr_kd.report.results import make_results
from asr_kd.report.run_counts import read_run_counts
from asr_kd.scoring.system_counts import SystemCounts, read_counts, write_counts
from asr_kd.scoring.wer import ErrorCounts

RECIPE = """\
description: a network and its score
stages:
  network: {run: network, settings: {errors: 3}}
  score:
    run: score
    reads: {hdnn: network}
    settings: {systems: {hdnn: {role: student}}}
"""


class Errors(Config):
    errors: int


class Systems(Config):
    systems: dict[str, dict[str, Any]]


def train(inputs: Mapping[str, Path], config: Errors, output: Path, context: StageContext) -> None:
    (output / "errors").write_text(str(config.errors))


def score(inputs: Mapping[str, Path], config: Systems, output: Path, context: StageContext) -> None:
    errors = int((inputs["hdnn"] / "errors").read_text())
    speakers = {"a": ErrorCounts(100, errors, 0, 0), "b": ErrorCounts(100, errors, 0, 0)}
    seed = context.input_seeds["hdnn"]
    assert seed is not None
    write_counts(output / "counts", SystemCounts("hdnn", seed, "dev", speakers, run=context.run_name))


KINDS = {kind.name: kind for kind in (
    StageKind("network", Errors, train, seeded=True),
    StageKind("score", Systems, score, reads_any=True, publishes="counts"))}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def run(recipe: Path, directory: Path, *, seed: int = 1, last: str | None = None, **overrides: int) -> None:
    settings = [f"network.{name}={value}" for name, value in overrides.items()]
    resolved = read_recipe(recipe, KINDS, overrides=settings, seed=seed)
    held = RunDirectory(directory)
    held.lock("test")
    try:
        Runner(resolved, held, None, seed, "asr-kd run", lambda line: None).run(Selection(last=last))
    finally:
        held.unlock()


def test_counts_are_those_that_the_stages_sealed(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "run", seed=1)
    run(recipe, tmp_path / "run", seed=2)
    found = read_run_counts(tmp_path / "run")
    assert [counts.file_name for counts in found.counts] == ["hdnn.1.dev.json", "hdnn.2.dev.json"]
    assert not found.warnings and not found.refused
    assert make_results(recipe, [tmp_path / "run"]).warnings == []


@pytest.mark.parametrize("where", ["counts", "score-seed1/counts"])
def test_counts_that_were_edited_by_hand_are_refused(recipe: Path, tmp_path: Path, where: str) -> None:
    run(recipe, tmp_path / "run")
    path = tmp_path / "run" / where / "hdnn.1.dev.json"
    counts = json.loads(path.read_text())
    counts["speakers"]["a"]["sub"] = 1
    for place in {path, tmp_path / "run/counts/hdnn.1.dev.json"}:
        place.write_text(json.dumps(counts))
    with pytest.raises(InputError, match=r"hdnn.1.dev.json: was edited, it is not the file that stage score-seed1"):
        make_results(recipe, [tmp_path / "run"])
    assert not (recipe / "counts").exists()


def test_counts_that_no_stage_of_the_run_wrote_are_refused(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "run")
    sealed = read_counts(tmp_path / "run/counts/hdnn.1.dev.json")
    write_counts(tmp_path / "run/counts", SystemCounts("better", 1, "dev", sealed.speakers))
    with pytest.raises(InputError, match=r"better.1.dev.json: no finished stage of the run wrote it"):
        make_results(recipe, [tmp_path / "run"])


def test_a_folder_of_counts_alone_is_taken(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "run")
    sealed = read_counts(tmp_path / "run/counts/hdnn.1.dev.json")
    write_counts(tmp_path / "copied/counts", sealed)
    assert [row["id"] for row in make_results(recipe, [tmp_path / "copied"]).rows] == ["hdnn"]


def test_counts_of_an_older_network_are_marked(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "run")
    run(recipe, tmp_path / "run", last="network", errors=4)
    (name, warning), = read_run_counts(tmp_path / "run").warnings.items()
    assert name == "hdnn.1.dev.json"
    assert warning.startswith("of an older run: stage score-seed1 is to be run again (")
    (line,) = make_results(recipe, [tmp_path / "run"]).warnings
    assert line == f"{name}: {warning}"
    run(recipe, tmp_path / "run", errors=4)
    assert not read_run_counts(tmp_path / "run").warnings


def test_a_stage_that_reads_the_network_of_another_seed_is_told_its_seed(recipe: Path, tmp_path: Path) -> None:
    (recipe / "recipe.yaml").write_text(RECIPE.replace("hdnn: network}", "hdnn: network@7}"))
    run(recipe, tmp_path / "run", seed=1)
    assert [path.name for path in (tmp_path / "run/counts").iterdir()] == ["hdnn.7.dev.json"]
