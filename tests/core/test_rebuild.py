"""A run gives its reason for building a stage again, and asks before it replaces costly work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from asr_kd.core import runner
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json, read_json, write_json
from asr_kd.core.recipe import read_recipe
from asr_kd.core.run_directory import RunDirectory
from asr_kd.core.runner import Runner, Selection
from asr_kd.core.stages import StageReport
from tests.core.test_runner import KINDS, built, recipe_folder, run

__all__ = ["recipe_folder"]


@pytest.fixture(autouse=True)
def quick_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git is not asked for every stage."""
    monkeypatch.setattr(runner, "code_revision", lambda: "test")


@pytest.fixture
def costly(recipe_folder: Path, tmp_path: Path) -> Path:
    """A finished run in which every stage took 100 CPU seconds."""
    run(recipe_folder, tmp_path / "run")
    for folder in ("one", "two", "noise-seed1", "three-seed1"):
        path = tmp_path / "run" / folder / "stage.json"
        write_json(path, {**read_json(path), "cpu_seconds": 100.0})
    path = tmp_path / "run/run.json"
    record = read_json(path)
    for entry in record["stages"].values():
        entry["cpu_seconds"] = 100.0
    write_json(path, record)
    return tmp_path / "run"


def run_saying(recipe: Path, run_dir: Path, overrides: list[str], rebuild: bool = False, dry: bool = False,
               selection: Selection | None = None) -> Iterator[str]:
    """The messages of a run, and the error that ends it."""
    said: list[str] = []
    directory = RunDirectory(run_dir)
    job = Runner(read_recipe(recipe, KINDS, overrides=overrides, seed=1), directory, None, 1, "test", said.append)
    if dry:
        reports = job.plan(selection or Selection(), rebuild)
        return iter([*said, *(f"{r.stage}: {r.outcome}: {r.reason}" for r in reports)])
    directory.lock("test")
    try:
        job.run(selection or Selection(), rebuild)
    except InputError as error:
        said.append(str(error))
    finally:
        directory.unlock()
    return iter(said)


def plan_of(recipe: Path, run_dir: Path) -> list[StageReport]:
    job = Runner(read_recipe(recipe, KINDS, seed=1), RunDirectory(run_dir), None, 1, "", lambda line: None)
    return job.plan(Selection())


def test_changed_settings_are_said_old_and_new(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    said = list(run_saying(recipe_folder, tmp_path / "run", ["two.plus=5"], dry=True))
    assert "two: to build: plus: 4 -> 5" in said
    assert "three-seed1: to build: its input two is to be built" in said
    assert "one: done before: " in said
    said = list(run_saying(recipe_folder, tmp_path / "run", ["two.plus=5"]))
    assert said[0].startswith("two: add (plus: 4 -> 5)")


def test_a_changed_input_version_or_outside_file_is_said(
    recipe_folder: Path, tmp_path: Path
) -> None:
    run(recipe_folder, tmp_path / "run")
    recipe = recipe_folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("{a: two, b: noise}", "{a: one, b: noise}"))
    changed = [r.reason for r in plan_of(recipe_folder, tmp_path / "run") if r.outcome == "to build"]
    assert changed == ["input a: two -> one"]
    recipe.write_text(recipe.read_text().replace("{a: one, b: noise}", "{a: two, b: noise}"))
    object.__setattr__(KINDS["seed"], "version", 2)
    try:
        changed = [r.reason for r in plan_of(recipe_folder, tmp_path / "run") if r.outcome == "to build"]
    finally:
        object.__setattr__(KINDS["seed"], "version", 1)
    assert changed[0] == "the code of this kind of stage changed (version 1 -> 2)"


def test_less_than_five_cpu_minutes_are_replaced_without_asking(recipe_folder: Path, costly: Path) -> None:
    assert built(run(recipe_folder, costly, ["two.plus=5"])) == ["two", "three-seed1"]  # 200 CPU seconds
    assert runner.REBUILD_LIMIT == 300.0


@pytest.mark.parametrize("damage", ["setting", "edit", "record", "gone"])
def test_a_run_stops_before_it_replaces_more_than_five_minutes(
    recipe_folder: Path, costly: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "REBUILD_LIMIT", 250.0)
    overrides, lost = [], 3
    if damage == "setting":
        overrides = ["one.value=2"]
    elif damage == "edit":
        (costly / "one/n").write_text("9")
    elif damage == "record":
        (costly / "one/stage.json").write_text("{")
    else:
        monkeypatch.setattr(runner, "REBUILD_LIMIT", 150.0)
        (costly / "one").rename(costly.parent / "one")
        lost = 2
    *listed, stop = run_saying(recipe_folder, costly, overrides)
    minutes = f"{lost * 100 / 60:.1f}"
    assert stop.startswith(f"this run would replace {lost} finished stages that took {minutes} CPU minutes (")
    assert stop.endswith("give --rebuild to go on")
    assert len(listed) == lost and all("(1.7 CPU minutes) would be built again: " in line for line in listed)
    if damage == "setting":
        assert listed[0] == "one (1.7 CPU minutes) would be built again: value: 3 -> 2"
    assert (costly / "three-seed1/n").read_text() == "1007"
    dry = list(run_saying(recipe_folder, costly, overrides, dry=True))
    assert any(line.endswith("it would stop, unless --rebuild is given") for line in dry)
    assert any(line.startswith("one: add") or line.startswith("one: number")
               for line in run_saying(recipe_folder, costly, overrides, rebuild=True))


def test_one_stage_is_no_stages(recipe_folder: Path, costly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "REBUILD_LIMIT", 50.0)
    *_, stop = run_saying(recipe_folder, costly, ["three.plus=8"])
    assert stop.startswith("this run would replace 1 finished stage that took 1.7 CPU minutes (")


def test_force_asks_for_a_stage_and_what_follows_from_it_alone(
    recipe_folder: Path, costly: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "REBUILD_LIMIT", 50.0)
    said = list(run_saying(recipe_folder, costly, ["two.plus=5"], selection=Selection(force=("one",))))
    assert said[-1].startswith("this run would replace 2 finished stages")
    assert "two (1.7 CPU minutes) would be built again: plus: 4 -> 5" in said
    said = list(run_saying(recipe_folder, costly, [], selection=Selection(force=("one",))))
    assert len(said) == 3 and all("finished stages" not in line for line in said)


def test_a_record_of_before_the_execution_settings_were_left_out_still_holds(
    recipe_folder: Path, tmp_path: Path
) -> None:
    run(recipe_folder, tmp_path / "run")
    path = tmp_path / "run/two/stage.json"
    record = read_json(path)
    identity = record.pop("identity")
    record["key"] = hash_json({**identity, "settings": record["settings"]})
    assert record["settings"] != identity["settings"]
    write_json(path, record)
    assert built(run(recipe_folder, tmp_path / "run")) == []
    said = list(run_saying(recipe_folder, tmp_path / "run", ["two.plus=5"], dry=True))
    assert "two: to build: plus: 4 -> 5" in said
