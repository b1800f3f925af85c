"""The stage runner: whole or absent, skipped when done, rebuilt when changed, alone in its directory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from asr_kd.core import runner
from asr_kd.core.config import Config, ExecutionOnly
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import read_json, write_json
from asr_kd.core.recipe import read_recipe
from asr_kd.core.run_directory import RunDirectory, read_status
from asr_kd.core.runner import Runner, Selection
from asr_kd.core.stages import Stage, StageContext, StageKind, StageReport

RECIPE = """\
description: counts
options: {more: a number more}
stages:
  one:
    run: number
    settings: {value: 3}
  two:
    run: add
    reads: {a: one}
    settings: {plus: 4}
  noise:
    run: seed
  three:
    run: add
    reads: {a: two, b: noise}
  four:
    run: add
    option: more
    reads: {a: three}
fast:
  one: {value: 1}
"""


class Number(Config):
    value: int = 0


class Add(Config):
    plus: int = Field(0, ge=0)
    fail: bool = False
    wait_for: Annotated[str, ExecutionOnly()] = ""


def number(inputs: Mapping[str, Path], config: Number, output: Path, context: StageContext) -> None:
    (output / "n").write_text(str(config.value))


def add(inputs: Mapping[str, Path], config: Add, output: Path, context: StageContext) -> dict[str, Any]:
    total = sum(int((folder / "n").read_text()) for folder in inputs.values()) + config.plus
    (context.work / "begun").write_text("x" * (1 + len(list(context.work.glob("begun*")))))
    (output / "n").write_text(str(total))
    if config.fail:
        raise WorkError("told to fail")
    while config.wait_for and not Path(config.wait_for).exists():
        time.sleep(0.02)
    return {"total": total}


def seed(inputs: Mapping[str, Path], config: Config, output: Path, context: StageContext) -> None:
    (output / "n").write_text(str(1000 * context.seed))


def show(inputs: Mapping[str, Path], config: Number, output: Path, context: StageContext) -> None:
    (output / "shown").mkdir()
    (output / "shown" / str(config.value)).touch()


def corpus_size(inputs: Mapping[str, Path], config: Config, output: Path, context: StageContext) -> None:
    assert context.corpus is not None
    (output / "n").write_text((context.corpus / "size").read_text())


KINDS = {
    kind.name: kind
    for kind in (
        StageKind("number", Number, number),
        StageKind("add", Add, add, reads=("a",), may_read=("b",)),
        StageKind("seed", Config, seed, seeded=True),
        StageKind("show", Number, show, publishes="shown"),
        StageKind("corpus", Config, corpus_size, outside=lambda config, corpus: [corpus / "size"]),
    )
}


@pytest.fixture
def recipe_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "counting"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def run(folder: Path, run_dir: Path, overrides: list[str] | None = None, seed: int = 1, fast: bool = False,
        selection: Selection | None = None, corpus: Path | None = None) -> list[StageReport]:
    recipe = read_recipe(folder, KINDS, overrides=overrides, seed=seed, fast=fast)
    directory = RunDirectory(run_dir)
    directory.lock("test")
    try:
        runs = Runner(recipe, directory, corpus, seed, "test", lambda line: None)
        return runs.run(selection or Selection())
    finally:
        directory.unlock()


def test_stages_of_an_option_come_only_with_it(recipe_folder: Path) -> None:
    def names(options: list[str]) -> list[str]:
        return [stage.name for stage in read_recipe(recipe_folder, KINDS, options=options).stages]

    assert names([]) == ["one", "two", "noise", "three"]
    assert names(["more"]) == ["one", "two", "noise", "three", "four"]
    file = recipe_folder / "recipe.yaml"
    text = file.read_text().replace("option: more\n", "option: [more, most]\n").replace("more}", "more, most: all}")
    file.write_text(text.replace("fast:\n", "  five:\n    run: add\n    option: most\n    reads: {a: four}\nfast:\n"))
    assert names(["more"]) == ["one", "two", "noise", "three", "four"]
    assert names(["most"]) == names(["more", "most"]) == ["one", "two", "noise", "three", "four", "five"]
    with pytest.raises(InputError, match="--option mor: the recipe has no such option; did you mean 'more'?"):
        names(["mor"])
    file.write_text("description: d\nstages: {one: {run: number}}\n")
    with pytest.raises(InputError, match="--option more: the recipe has no such option; it has none$"):
        names(["more"])
    file.write_text(text.replace("fast:\n", "  five:\n    run: add\n    option: most\n    reads: {a: four}\nfast:\n"))
    with pytest.raises(InputError, match="--set four.plus=1: four is there only with --option more or most"):
        read_recipe(recipe_folder, KINDS, overrides=["four.plus=1"])


def built(reports: list[StageReport]) -> list[str]:
    return [r.stage for r in reports if r.outcome == "built"]


def test_everything_is_built_once_and_then_skipped(recipe_folder: Path, tmp_path: Path) -> None:
    reports = run(recipe_folder, tmp_path / "run")
    assert built(reports) == ["one", "two", "noise-seed1", "three-seed1"]
    assert (tmp_path / "run/three-seed1/n").read_text() == "1007"
    assert built(run(recipe_folder, tmp_path / "run")) == []


def test_a_changed_setting_rebuilds_its_stage_and_what_follows(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    assert built(run(recipe_folder, tmp_path / "run", ["two.plus=5"])) == ["two", "three-seed1"]
    assert (tmp_path / "run/three-seed1/n").read_text() == "1008"


def test_a_setting_that_does_not_change_the_result_rebuilds_nothing(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    assert built(run(recipe_folder, tmp_path / "run", ["two.wait_for=/"])) == []


def test_half_done_work_goes_on_under_other_execution_settings(recipe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true"])
    with pytest.raises(WorkError, match="told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true", "two.wait_for=/"])
    assert [p.read_text() for p in (tmp_path / "run/.work/two").glob("*/begun")] == ["xx"]


def test_another_seed_shares_what_does_not_depend_on_it(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    assert built(run(recipe_folder, tmp_path / "run", seed=2)) == ["noise-seed2", "three-seed2"]
    assert built(run(recipe_folder, tmp_path / "run", seed=1)) == []


def test_a_stage_of_a_named_seed_is_the_same_in_all_runs(recipe_folder: Path, tmp_path: Path) -> None:
    path = recipe_folder / "recipe.yaml"
    path.write_text(path.read_text().replace("fast:", """\
  both:
    run: add
    reads: {a: three@2, b: three@1}
  own:
    run: add
    reads: {a: both, b: noise}
fast:"""))
    reports = run(recipe_folder, tmp_path / "run", seed=1)
    assert built(reports) == ["one", "two", "noise-seed1", "three-seed1", "noise-seed2", "three-seed2", "both",
                              "own-seed1"]
    assert (tmp_path / "run/both/n").read_text() == str(2007 + 1007)
    assert built(run(recipe_folder, tmp_path / "run", seed=2)) == ["own-seed2"]
    assert built(run(recipe_folder, tmp_path / "run", seed=3)) == ["noise-seed3", "three-seed3", "own-seed3"]
    again = built(run(recipe_folder, tmp_path / "run", selection=Selection(force=("three",)), seed=1))
    assert again[0] == "three-seed1" and "three-seed2" not in again
    path.write_text(path.read_text().replace("three@2", "three@x"))
    with pytest.raises(InputError, match="recipe.yaml:.*stages.both.reads.a: 'x' is no seed"):
        run(recipe_folder, tmp_path / "run")


def test_the_fast_overlay_changes_settings(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run", fast=True)
    assert (tmp_path / "run/two/n").read_text() == "5"


@pytest.mark.parametrize("damage", ["edit", "remove", "add", "record"])
def test_a_hand_edited_output_is_rebuilt_with_what_follows(recipe_folder: Path, tmp_path: Path, damage: str) -> None:
    run(recipe_folder, tmp_path / "run")
    folder = tmp_path / "run/two"
    if damage == "edit":
        (folder / "n").write_text("9")
    elif damage == "remove":
        (folder / "n").unlink()
    elif damage == "add":
        (folder / "m").write_text("")
    else:
        (folder / "stage.json").write_text("{")
    assert {r.stage for r in read_status(tmp_path / "run") if r.outcome == "changed"} == {"two", "three-seed1"}
    assert built(run(recipe_folder, tmp_path / "run")) == ["two", "three-seed1"]
    assert (tmp_path / "run/three-seed1/n").read_text() == "1007"


def test_a_touched_but_equal_output_is_kept(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    os.utime(tmp_path / "run/two/n")
    assert built(run(recipe_folder, tmp_path / "run")) == []


def test_forced_stage_is_built_again_with_what_follows(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    assert built(run(recipe_folder, tmp_path / "run", selection=Selection(force=("two",)))) == ["two", "three-seed1"]


def test_only_from_until(recipe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stage two reads a from one, which is not ready"):
        run(recipe_folder, tmp_path / "run", selection=Selection(only="two"))
    assert built(run(recipe_folder, tmp_path / "run", selection=Selection(last="two"))) == ["one", "two"]
    assert built(run(recipe_folder, tmp_path / "run", selection=Selection(first="noise"))) == [
        "noise-seed1", "three-seed1"]
    with pytest.raises(InputError, match="nothing to run"):
        run(recipe_folder, tmp_path / "run", selection=Selection(first="three", last="one"))
    with pytest.raises(InputError, match="no stage 'tow'; did you mean 'two'"):
        run(recipe_folder, tmp_path / "run", selection=Selection(only="tow"))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(force=("tow",)), "no stage 'tow'; did you mean 'two'"),
        (Selection(last="one", force=("two",)), "--force two: not among the stages"),
        (Selection(only="one", last="two"), "--only goes with neither"),
    ],
)
def test_a_selection_that_does_not_fit_is_refused(recipe_folder: Path, selection: Selection, message: str) -> None:
    with pytest.raises(InputError, match=message):
        selection.of(read_recipe(recipe_folder, KINDS))


def test_what_a_later_stage_lacks_is_said_before_any_work(recipe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stage three-seed1 reads a from two, which is not ready"):
        run(recipe_folder, tmp_path / "run", selection=Selection(first="noise"))
    assert not (tmp_path / "run/noise-seed1").exists()


def test_an_error_of_its_own_kind_stays_one_message(tmp_path: Path) -> None:
    class OddError(WorkError):
        def __init__(self, path: Path, reason: str) -> None:
            super().__init__(f"{path}: {reason}")

    def fail(inputs: Mapping[str, Path], config: Config, output: Path, context: StageContext) -> None:
        raise OddError(Path("a.wav"), "truncated")

    (tmp_path / "recipe.yaml").write_text("description: x\nstages: {one: {run: fail}}\n")
    recipe = read_recipe(tmp_path, {"fail": StageKind("fail", Config, fail)})
    directory = RunDirectory(tmp_path / "run")
    directory.lock("test")
    with pytest.raises(WorkError, match="^stage one: a.wav: truncated$"):
        Runner(recipe, directory, None, 1, "test", lambda line: None).run(Selection())
    directory.unlock()


def test_published_files_that_a_rebuilt_stage_no_longer_has_go_and_others_stay(
    recipe_folder: Path, tmp_path: Path
) -> None:
    text = "description: x\nstages: {one: {run: show, settings: {value: 3}}}\n"
    (recipe_folder / "recipe.yaml").write_text(text)
    run(recipe_folder, tmp_path / "run")
    (tmp_path / "run/shown/other").write_text("of another seed")
    run(recipe_folder, tmp_path / "run", ["one.value=4"])
    assert sorted(p.name for p in (tmp_path / "run/shown").iterdir()) == ["4", "other"]


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_file_in_the_place_of_the_run_directory(recipe_folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file, expected a folder"):
        run(recipe_folder, tmp_path / place)
    recipe = read_recipe(recipe_folder, KINDS)
    with pytest.raises(InputError, match="file: is a file, expected a folder"):
        Runner(recipe, RunDirectory(tmp_path / place), None, 1, "", lambda line: None).plan(Selection())


def test_a_run_directory_that_cannot_be_written(recipe_folder: Path) -> None:
    with pytest.raises(InputError, match="cannot be written .*give another --run-dir"):
        run(recipe_folder, Path("/proc/no-such-run"))


@pytest.mark.parametrize("edit", [{"wall_seconds": "long"}, {"inputs": {"a": [1]}}, {"files": {"n": 3}}])
def test_a_hand_edited_record_is_damage(recipe_folder: Path, tmp_path: Path, edit: dict[str, Any]) -> None:
    run(recipe_folder, tmp_path / "run")
    record = tmp_path / "run/two/stage.json"
    write_json(record, {**read_json(record), **edit})
    assert {r.reason for r in read_status(tmp_path / "run") if r.stage == "two"} == {"damaged (stage.json)"}
    assert built(run(recipe_folder, tmp_path / "run")) == ["two", "three-seed1"]


def test_a_failed_stage_leaves_nothing_half_written_and_keeps_its_log(recipe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="stage two: told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true"])
    assert not (tmp_path / "run/two").exists()
    assert not list((tmp_path / "run").glob(".two*"))
    assert "told to fail" in (tmp_path / "run/logs/two.log").read_text()
    assert built(run(recipe_folder, tmp_path / "run")) == ["two", "noise-seed1", "three-seed1"]


def test_changed_content_of_an_outside_file_is_noticed(tmp_path: Path) -> None:
    folder, corpus = tmp_path / "r", tmp_path / "corpus"
    folder.mkdir()
    corpus.mkdir()
    (folder / "recipe.yaml").write_text("description: x\nstages: {size: {run: corpus}}\n")
    (corpus / "size").write_text("5")
    assert built(run(folder, tmp_path / "run", corpus=corpus)) == ["size"]
    assert built(run(folder, tmp_path / "run", corpus=corpus)) == []
    (corpus / "size").write_text("6")
    assert built(run(folder, tmp_path / "run", corpus=corpus)) == ["size"]


def test_a_corpus_may_be_spelt_in_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("corpus")
    (tmp_path / "corpus/size").write_text("5")
    absolute = tmp_path / "corpus/size"
    kind = StageKind("corpus", Config, corpus_size, outside=lambda config, corpus: [corpus / "size", absolute])
    stage = Stage("size", kind, Config(), {}, None)
    directory = RunDirectory(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    names = [directory.outside_hashes(stage, Path(corpus)).keys()
             for corpus in ("corpus", tmp_path / "corpus", "link", "corpus/inner/..")]
    assert names == [{"size"}] * 4


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("run: add", "run: ad"), "recipe.yaml:8: stages.two.run: unknown kind of stage 'ad'; did you mean 'add'?"),
        (("{plus: 4}", "{plsu: 4}"), "recipe.yaml:10: two.plsu: unknown key; did you mean 'plus'?"),
        (("{plus: 4}", "{plus: four}"), "recipe.yaml:10: two.plus: expected a valid integer"),
        (("{plus: 4}", "{plus: -1}"), "recipe.yaml:10: two.plus: expected greater than or equal to 0, found -1"),
        (("{a: one}", "{a: three}"), "recipe.yaml:9: stages.two.reads.a: 'three' is no stage above this one"),
        (("{a: one}", "{c: one}"), "stages.two.reads.c: add reads no such input"),
        (("    reads: {a: one}\n", ""), "stages.two.reads: add needs the input 'a'"),
        (("  one: {value: 1}", "  nosie: {value: 1}"), "fast.nosie: no such stage; did you mean 'noise'?"),
        (("option: more", "option: mroe"), "stages.four.option: 'mroe' is not among the recipe's options; did"),
        (("b: noise}", "b: four}"), "stages.three.reads.b: 'four' is there only with the option 'more'"),
        (("  noise:\n", "  ../noise:\n"), "recipe.yaml:11: stages.../noise: expected letters"),
        (("  noise:\n", "  '':\n"), "expected letters, digits, '_' and '-' as a stage's name"),
        (("  noise:\n", "  logs:\n"), "stages.logs: the run directory has a folder of that name already"),
        (("  noise:\n", "  other-seed1:\n"), "stages.other-seed1: a name that ends so is the folder of another"),
        (("  noise:\n", "  shown:\n"), "stages.shown: the run directory has a folder of that name already"),
    ],
)
def test_faults_of_a_recipe_are_named(recipe_folder: Path, edit: tuple[str, str], message: str) -> None:
    (recipe_folder / "recipe.yaml").write_text(RECIPE.replace(*edit))
    with pytest.raises(InputError) as caught:
        read_recipe(recipe_folder, KINDS, fast=True)
    assert message in str(caught.value)


def start_waiting_run(recipe_folder: Path, run_dir: Path, flag: Path) -> "subprocess.Popen[bytes]":
    """A process that runs the recipe and waits in the middle of stage two until `flag` exists."""
    program = (
        "import sys; from pathlib import Path; from tests.core.test_runner import run\n"
        f"run(Path({str(recipe_folder)!r}), Path({str(run_dir)!r}), ['two.wait_for={flag}'])"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 30
    while not list(run_dir.glob(".two.tmp*/n")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_sigkill_in_the_middle_of_a_stage_and_a_rerun(recipe_folder: Path, tmp_path: Path) -> None:
    run_dir, flag = tmp_path / "run", tmp_path / "flag"
    process = start_waiting_run(recipe_folder, run_dir, flag)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run_dir / "two").exists()
    assert "half done" in {r.outcome for r in read_status(run_dir)}
    flag.touch()
    assert built(run(recipe_folder, run_dir, [f"two.wait_for={flag}"])) == ["two", "noise-seed1", "three-seed1"]
    assert not list(run_dir.glob(".*.tmp*"))


def test_two_runs_in_one_directory_are_refused_and_the_holder_is_named(recipe_folder: Path, tmp_path: Path) -> None:
    run_dir, flag = tmp_path / "run", tmp_path / "flag"
    process = start_waiting_run(recipe_folder, run_dir, flag)
    try:
        with pytest.raises(InputError, match=f"in use by process {process.pid}"):
            run(recipe_folder, run_dir)
    finally:
        flag.touch()
        assert process.wait(timeout=30) == 0
    assert built(run(recipe_folder, run_dir, [f"two.wait_for={flag}"])) == []


def test_the_record_of_the_run_holds_keys_costs_and_settings(recipe_folder: Path, tmp_path: Path) -> None:
    import json

    run(recipe_folder, tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    two = record["stages"]["two"]
    assert two["settings"] == {"plus": 4, "fail": False, "wait_for": ""} and two["summary"] == {"total": 7}
    assert two["inputs"] == {"a": record["stages"]["one"]["build"]}
    assert record["seed"] == 1 and record["environment"]["python"]


def test_the_record_of_the_run_keeps_the_stages_of_other_seeds(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    run(recipe_folder, tmp_path / "run", seed=2)
    stages = read_json(tmp_path / "run/run.json")["stages"]
    assert list(stages) == ["one", "two", "noise-seed1", "three-seed1", "noise-seed2", "three-seed2"]


def test_a_stage_keeps_the_revision_and_command_that_built_it(
    recipe_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "code_revision", lambda: "first")
    run(recipe_folder, tmp_path / "run")
    monkeypatch.setattr(runner, "code_revision", lambda: "second")
    run(recipe_folder, tmp_path / "run", ["two.plus=5"])
    stages = read_json(tmp_path / "run/run.json")["stages"]
    assert (stages["one"]["revision"], stages["two"]["revision"]) == ("first", "second")
    assert stages["one"]["command"] == "test"


def test_status_of_a_folder_that_is_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        read_status(tmp_path)


@pytest.mark.parametrize("seed", [-1, 10**18])
def test_a_seed_that_no_generator_takes_is_refused_before_work_begins(
    recipe_folder: Path, tmp_path: Path, seed: int
) -> None:
    with pytest.raises(InputError, match=f"seed {seed}: expected a whole number"):
        run(recipe_folder, tmp_path / "run", seed=seed)
