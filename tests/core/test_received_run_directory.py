"""A run directory may come from somebody else: nothing outside of it is touched, and nothing hangs."""

import os
import re
from pathlib import Path

import pytest

from asr_kd.core import runner
from asr_kd.core.errors import InputError
from asr_kd.core.recipe import read_recipe
from asr_kd.core.run_directory import RunDirectory, read_status
from tests.core.test_opening import make_irregular
from tests.core.test_runner import KINDS, RECIPE, built, recipe_folder, run

__all__ = ["recipe_folder"]
SHOWS = RECIPE.replace("fast:", "  shows:\n    run: show\nfast:")


@pytest.fixture(autouse=True)
def quick_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git is not asked for every stage."""
    monkeypatch.setattr(runner, "code_revision", lambda: "test")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Somebody's folder, and a file in it."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("two", "file", "2d5c"):
        (folder / name).write_text("all of it")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(("place", "target"), [
    (".lock", "file"), ("logs/two.log", "file"), ("logs", "."), (".work", "."), (".work/two", "."), ("shown", "."),
])
def test_links_in_the_place_of_bookkeeping_are_refused(
    recipe_folder: Path, tmp_path: Path, precious: Path, place: str, target: str
) -> None:
    (recipe_folder / "recipe.yaml").write_text(SHOWS)
    run_dir, before = tmp_path / "run", contents(precious)
    run_dir.mkdir()
    (run_dir / "run.json").touch()
    (run_dir / place).parent.mkdir(exist_ok=True)
    (run_dir / place).symlink_to(precious / target)
    with pytest.raises(InputError, match=f"run/{place}: is a link, expected a (file|folder) of the run directory"):
        run(recipe_folder, run_dir)
    assert contents(precious) == before
    (run_dir / place).unlink()
    assert len(built(run(recipe_folder, run_dir))) == 5


@pytest.mark.parametrize("place", ["run.json", ".work/outside.json", "shown/0", "two", "two/n", "two/stage.json"])
def test_links_in_other_places_are_replaced_and_not_followed(
    recipe_folder: Path, tmp_path: Path, precious: Path, place: str
) -> None:
    (recipe_folder / "recipe.yaml").write_text(SHOWS)
    run_dir, before = tmp_path / "run", contents(precious)
    run(recipe_folder, run_dir)
    path = run_dir / place
    if path.is_dir():
        path.rename(tmp_path / "elsewhere")
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(precious if place == "two" else precious / "file")
    read_status(run_dir)
    run(recipe_folder, run_dir)
    assert contents(precious) == before
    assert (run_dir / "two/n").read_text() == "7" and not (run_dir / "two").is_symlink()
    assert built(run(recipe_folder, run_dir)) == []


def test_links_in_half_done_work_begin_it_anew(recipe_folder: Path, tmp_path: Path, precious: Path) -> None:
    before = contents(precious)
    with pytest.raises(Exception, match="told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true"])
    work = next((tmp_path / "run/.work/two").iterdir())
    (work / "begun").unlink()
    (work / "begun").symlink_to(precious / "file")
    with pytest.raises(Exception, match="told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true"])
    assert contents(precious) == before and (work / "begun").read_text() == "x"


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "dangling", "loop", "folder"])
@pytest.mark.parametrize("place", ["two", "two/n", "two/stage.json"])
def test_what_is_no_regular_file_is_rebuilt(recipe_folder: Path, tmp_path: Path, kind: str, place: str) -> None:
    run(recipe_folder, tmp_path / "run")
    path = tmp_path / "run" / place
    if path.is_dir():
        path.rename(tmp_path / "elsewhere")
    else:
        path.unlink()
    make_irregular(path, kind)
    if kind == "folder":
        (path / "thesis").touch()
    assert "two" in {r.stage for r in read_status(tmp_path / "run") if r.outcome == "changed"} or place == "two"
    assert built(run(recipe_folder, tmp_path / "run")) == ["two", "three-seed1"]
    assert built(run(recipe_folder, tmp_path / "run")) == []


def test_what_stood_in_a_stages_place_and_is_not_ours_is_moved_aside(recipe_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").write_text("process none\n")
    (tmp_path / "run/one").mkdir()
    (tmp_path / "run/one/thesis").write_text("all of it")
    (tmp_path / "run/two").write_text("notes")
    run(recipe_folder, tmp_path / "run")
    assert [p.read_text() for p in (tmp_path / "run").glob("one.aside-*/thesis")] == ["all of it"]
    assert [p.read_text() for p in (tmp_path / "run").glob("two.aside-*")] == ["notes"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "dangling", "loop", "folder"])
@pytest.mark.parametrize("place", [".lock", "logs/two.log", ".work/two"])
def test_irregular_bookkeeping_is_named(recipe_folder: Path, tmp_path: Path, kind: str, place: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "run.json").touch()
    (run_dir / place).parent.mkdir(exist_ok=True)
    make_irregular(run_dir / place, kind)
    if (place, kind) == (".work/two", "folder"):
        assert built(run(recipe_folder, run_dir))
        return
    with pytest.raises(InputError, match=f"run/{place}: is a .*, expected a .* of the run directory.*remove it"):
        run(recipe_folder, run_dir)


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("place", ["run.json", ".work/outside.json"])
def test_a_dry_run_refuses_the_records_that_a_run_cannot_write(
    recipe_folder: Path, tmp_path: Path, place: str, is_link: bool
) -> None:
    run(recipe_folder, tmp_path / "run")
    path = tmp_path / "run" / place
    path.unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe" if is_link else path)
    if is_link:
        path.symlink_to(tmp_path / "pipe")
    job = runner.Runner(read_recipe(recipe_folder, KINDS), RunDirectory(tmp_path / "run"), None, 1, "test", print)
    with pytest.raises(InputError, match=f"run/{place}: is a named pipe, expected a file of the run directory"):
        job.plan(runner.Selection())


def test_somebodys_folder_is_no_run_directory(recipe_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "backup.tmp-1").mkdir(parents=True)
    (home / ".two.tmp-0123456789ab").mkdir()
    (home / ".two.tmp-0123456789ab/thesis").touch()
    with pytest.raises(InputError, match="home: is no run directory, and holds 'backup.tmp-1' and other things"):
        run(recipe_folder, home)
    assert len(list(home.iterdir())) == 2
    (home / "backup.tmp-1").rmdir()
    run(recipe_folder, home)
    assert (home / ".two.tmp-0123456789ab/thesis").exists()


@pytest.mark.parametrize("place", [".lock", "logs", "logs/two.log", ".work/two", "shown", "run.json"])
def test_a_dry_run_refuses_the_bookkeeping_that_a_run_refuses_before_any_work(
    recipe_folder: Path, tmp_path: Path, place: str
) -> None:
    (recipe_folder / "recipe.yaml").write_text(SHOWS)
    run_dir = tmp_path / "run"
    (run_dir / place).parent.mkdir(parents=True)
    if place == "run.json":
        (run_dir / ".lock").write_text("process none\n")
        (run_dir / place).mkdir()
    else:
        (run_dir / "run.json").touch()
        (run_dir / place).symlink_to(tmp_path)
    before = sorted(run_dir.rglob("*"))
    recipe = read_recipe(recipe_folder, KINDS)
    with pytest.raises(InputError, match=f"run/{place}: is a .*, expected a .* of the run directory.*remove it"):
        runner.Runner(recipe, RunDirectory(run_dir), None, 1, "", lambda line: None).plan(runner.Selection())
    assert sorted(run_dir.rglob("*")) == before
    with pytest.raises(InputError, match=f"run/{place}: is a .*, expected a .* of the run directory.*remove it"):
        run(recipe_folder, run_dir)
    assert not (run_dir / "one").exists()


@pytest.mark.parametrize(("place", "content"), [
    ("run.json", '{"dependencies": {}}'), ("run.json", "not JSON"), (".lock", "of another program"),
    ("src/.lock", ""),
    (".work/two/notes", "all of it"),
])
def test_files_of_other_programs_are_no_sign_of_a_run(
    recipe_folder: Path, tmp_path: Path, place: str, content: str
) -> None:
    path = tmp_path / "project" / place
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(InputError, match="project: is no run directory, and holds"):
        run(recipe_folder, tmp_path / "project")
    assert path.read_text() == content and len(list((tmp_path / "project").iterdir())) == 1


def test_a_folder_with_a_file_named_like_a_record_is_moved_aside(recipe_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run/two").mkdir(parents=True)
    (tmp_path / "run/.lock").write_text("process none\n")
    (tmp_path / "run/two/stage.json").write_text('{"stage": "of a theatre"}')
    run(recipe_folder, tmp_path / "run")
    assert len(list((tmp_path / "run").glob("two.aside-*/stage.json"))) == 1


def test_files_that_somebody_added_to_a_stage_are_kept_when_it_is_built_again(
    recipe_folder: Path, tmp_path: Path
) -> None:
    run(recipe_folder, tmp_path / "run")
    (tmp_path / "run/two/notes").write_text("all of it")
    assert built(run(recipe_folder, tmp_path / "run")) == ["two", "three-seed1"]
    assert [p.read_text() for p in (tmp_path / "run").glob("two.aside-*/notes")] == ["all of it"]
    assert not list((tmp_path / "run").glob("three*.aside-*"))
    assert built(run(recipe_folder, tmp_path / "run")) == []


def test_a_second_name_of_a_file_is_not_truncated(recipe_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("all of it")
    os.link(tmp_path / "precious", tmp_path / "run/.lock")
    with pytest.raises(InputError, match=".lock: is a file with a second name"):
        RunDirectory(tmp_path / "run").lock("test")
    assert (tmp_path / "precious").read_text() == "all of it"


@pytest.mark.parametrize("content", ['{"%s": 5}', '{"%s": [[1]]}', '{"%s": [[1, 2, 3], 4]}', "[]", "{"])
def test_damaged_marks_of_outside_files_are_made_anew(tmp_path: Path, content: str) -> None:
    corpus, work = tmp_path / "corpus", tmp_path / "run/.work"
    recipe = tmp_path / "sizes"
    for folder in (corpus, work, recipe):
        folder.mkdir(parents=True)
    (corpus / "size").write_text("7")
    (recipe / "recipe.yaml").write_text("description: size\nstages: {size: {run: corpus}}\n")
    (tmp_path / "run/run.json").touch()
    (work / "outside.json").write_text(content.replace("%s", str(corpus / "size")))
    assert built(run(recipe, tmp_path / "run", corpus=corpus)) == ["size"]
    assert built(run(recipe, tmp_path / "run", corpus=corpus)) == []


def test_costs_beyond_all_measure_are_not_believed(recipe_folder: Path, tmp_path: Path) -> None:
    run(recipe_folder, tmp_path / "run")
    huge = "1" + 400 * "0"
    for record in (tmp_path / "run/run.json", tmp_path / "run/one/stage.json"):
        text = re.sub(r'"(bytes|wall_seconds)": [0-9.]+', rf'"\1": {huge}', record.read_text())
        record.write_text(text)
    changed = [report.stage for report in read_status(tmp_path / "run") if report.outcome == "changed"]
    assert "one" in changed
    assert "one" in built(run(recipe_folder, tmp_path / "run"))


def test_what_a_kill_left_in_half_done_work_goes(recipe_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true"])
    work = next((tmp_path / "run/.work/two").iterdir())
    (work / ".train.jsonl.tmp-0123456789ab").write_text("half")
    with pytest.raises(Exception, match="told to fail"):
        run(recipe_folder, tmp_path / "run", ["two.fail=true"])
    assert [path.name for path in work.iterdir()] == ["begun"]
