"""Files and folders are whole or absent."""

import bz2
import errno
import gzip
import lzma
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from asr_kd.core.disk_space import naming_full_disk
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import (
    atomic_file,
    atomic_folder,
    hash_json,
    list_files,
    read_json,
    remove_abandoned,
    write_json,
)
from asr_kd.core.own_folders import MARKER, FolderKind
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import read_lines

NOTES = FolderKind("folder of notes", ("notes.json", "old"), closed=True)


def test_a_file_is_absent_when_writing_it_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "a.txt") as file:
        file.write("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_keeps_its_old_content_when_writing_it_again_fails(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", [float("nan")])
    assert read_json(tmp_path / "a.json") == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target, NOTES) as folder:
        (folder / "old").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target, NOTES) as folder:
        (folder / "new").write_text("2")
        raise RuntimeError
    assert [p.name for p in list_files(target)] == ["old"]
    with atomic_folder(target, NOTES) as folder:
        (folder / "new").write_text("2")
    assert [p.name for p in list_files(target)] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, sys
from pathlib import Path
from asr_kd.core.files import atomic_folder
from tests.core.test_files import NOTES
with atomic_folder(Path(sys.argv[1]), NOTES) as folder:
    (folder / "half").touch()
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_goes_with_the_next_attempt_and_what_is_being_written_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "out")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        remove_abandoned(tmp_path)
        assert len(list(tmp_path.glob(".out*/half"))) == 1
        process.kill()
    with atomic_folder(tmp_path / "other", NOTES):
        assert len(list(tmp_path.glob(".out*/half"))) == 1
    with atomic_folder(tmp_path / "out", NOTES) as folder:
        assert list(tmp_path.glob(".out*")) == [folder]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_lines_of_gzip_and_plain_files_are_alike(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x\ny z\n", encoding="utf-8")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"x\ny z\n"))
    assert list(read_lines(tmp_path / "a")) == list(read_lines(tmp_path / "b.gz")) == [(1, "x"), (2, "y z")]


@pytest.mark.parametrize("cut", [5, 15, -1])
def test_damaged_gzip_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "b.gz"
    path.write_bytes(gzip.compress(b"x\n" * 1000)[:cut])
    with pytest.raises(InputError, match="damaged gzip"):
        list(read_lines(path))


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_lines(tmp_path / "a"))
    with pytest.raises(InputError, match="is a folder"):
        list(read_lines(tmp_path))


def test_json_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1}) != hash_json({"a": 1, "b": 3})


def test_kept_and_dropped_add_up() -> None:
    drops = Drops(100, cap=0.02)
    drops.drop("u1", "truncated")
    drops.drop("u2", "truncated", "at 3 s")
    drops.check()
    assert drops.kept + sum(drops.by_reason.values()) == drops.total
    drops.drop("u3", "no alignment")
    with pytest.raises(WorkError, match=r"3 of 100 utterances dropped.*most \(2\): truncated, for example u1"):
        drops.check()


def test_dropping_everything_fails_whatever_the_cap() -> None:
    drops = Drops(1, cap=1.0)
    drops.drop("u1", "truncated")
    with pytest.raises(WorkError):
        drops.check()


def test_threads_keep_the_order_and_raise_the_first_error() -> None:
    assert list(map_threads(lambda x: x * x, range(100), workers=3)) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(map_threads(lambda x: 1 // (50 - x), range(100), workers=3))


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: is a folder, expected a file"), atomic_file(tmp_path / "folder"):
        pass
    for atomic in (atomic_file, partial(atomic_folder, kind=NOTES)):
        with pytest.raises(InputError, match="file: is no folder"), atomic(tmp_path / "file/x"):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_below_a_file_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="no such file"):
        list(read_lines(tmp_path / "file/x"))


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"b": {"a": 1, "a": 2}}'],
    ids=["deep", "long number", "a key given twice"],
)
def test_json_that_python_gives_up_on(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="a.json: not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(("name", "content", "kind"), [
    ("x.txt", gzip.compress(b"u1 WORD\n", mtime=0), "gzip data"),
    ("x.jsonl", bz2.compress(b"{}\n"), "bzip2 data"),
    ("x.jsonl", lzma.compress(b"{}\n"), "xz data"),
    ("text", b"PK\x03\x04" + bytes(40), "a zip archive"),
    ("text", b"PAR1" + bytes(40), "a Parquet table"),
    ("x.gz", bz2.compress(b"{}\n"), "bzip2 data"),
    ("x.gz", gzip.compress(lzma.compress(b"{}\n"), mtime=0), "xz data"),
    ("x.txt", "\ufeffu1 WORD\n".encode("utf-16-le"), "UTF-16 text"),
    ("x.gz", b"u1 WORD\n", "no gzip file"),
])
def test_a_file_that_is_no_text_is_called_by_its_kind(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=kind) as caught:
        list(read_lines(tmp_path / name))
    assert "UTF-8 (byte" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_folder_that_we_did_not_write_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "thesis"
    target.mkdir()
    (target / "chapter1").write_text("all of it")
    with pytest.raises(InputError, match="thesis: exists and is no folder of notes"), atomic_folder(target, NOTES):
        raise AssertionError("the work began")
    with atomic_folder(tmp_path / "bundle", FolderKind("bundle", ())) as folder:
        (folder / "model").touch()
    with pytest.raises(InputError, match="bundle: exists and is no folder of notes"):
        atomic_folder(tmp_path / "bundle", NOTES).__enter__()
    assert [p.name for p in target.iterdir()] == ["chapter1"] and (tmp_path / "bundle/model").exists()


def test_a_folder_that_appears_while_we_write_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists and is no"), atomic_folder(tmp_path / "out", NOTES) as folder:
        (folder / "new").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis").touch()
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "thesis"]


@pytest.mark.parametrize("make", [
    lambda path: path.write_text("all of it"), lambda path: path.symlink_to(path.parent / "elsewhere"), os.mkfifo])
def test_what_is_no_folder_is_not_replaced_by_one(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "out")
    with pytest.raises(InputError, match="out: is a .*, and is no folder of notes"):
        atomic_folder(tmp_path / "out", NOTES).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_and_those_of_versions_without_the_marker_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "earlier").mkdir()
    for name in NOTES.files:
        (tmp_path / "earlier" / name).touch()
    for name in ("empty", "earlier"):
        with atomic_folder(tmp_path / name, NOTES) as folder:
            (folder / "new").touch()
        assert [p.name for p in list_files(tmp_path / name)] == ["new"]
    (tmp_path / "earlier" / MARKER).unlink()
    with pytest.raises(InputError, match="exists and is no folder of notes"):
        atomic_folder(tmp_path / "earlier", NOTES).__enter__()


def test_a_folder_that_only_has_files_of_the_same_names_is_refused(tmp_path: Path) -> None:
    kind = FolderKind("decoding", ("decoding.json", "text"), closed=False, keys=("utterances",))
    for name, record in (("somebodys", "{}"), ("damaged", "{"), ("earlier", '{"utterances": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "decoding.json").write_text(record)
        (tmp_path / name / "text").touch()
        (tmp_path / name / "thesis").touch()
    for name in ("somebodys", "damaged"):
        with pytest.raises(InputError, match="exists and is no decoding"):
            atomic_folder(tmp_path / name, kind).__enter__()
        assert (tmp_path / name / "thesis").exists()
    with atomic_folder(tmp_path / "earlier", kind):
        pass


def test_a_writer_fills_the_empty_folder_of_another_which_stays_of_its_kind(tmp_path: Path) -> None:
    stage = FolderKind("stage", ("record",))
    for _ in range(2):
        with atomic_folder(tmp_path / "out", stage) as output:
            with atomic_folder(output, NOTES) as folder:
                (folder / "new").touch()
            (output / "record").touch()
    assert [p.name for p in list_files(tmp_path / "out")] == ["new", "record"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(InputError, match="exists and is no folder of notes"):
        atomic_folder(tmp_path / "out", NOTES).__enter__()


def test_other_peoples_folders_with_names_like_temporary_ones_stay(tmp_path: Path) -> None:
    names = ["notes.tmp-1", ".out.tmp-2024", ".out.tmp-0123456789ab", "out.tmp-0123456789ab"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis").touch()
    remove_abandoned(tmp_path)
    with atomic_folder(tmp_path / "out", NOTES):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names, "out"])


KILLED_FILE = """
import sys
from pathlib import Path
from asr_kd.core.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_attempt(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED_FILE, str(tmp_path / "a.json")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.kill()
    assert len(list(tmp_path.glob(".a.json.tmp-*"))) == 1
    write_json(tmp_path / "a.json", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_umask_applies_to_files_and_folders_and_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")  # a thread that makes a file meanwhile would have none
            write_json(tmp_path / "a.json", 1)
            with atomic_folder(tmp_path / "out", NOTES):
                pass
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.json", "out", f"out/{MARKER}")]
    assert modes == [0o640, 0o750, 0o640]


def test_a_link_is_replaced_and_not_followed_and_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("all of it")
    (tmp_path / "a.json").symlink_to("precious")
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "precious").read_text() == "all of it" and read_json(tmp_path / "a.json") == 1
    (tmp_path / "b.json").symlink_to("/dev/null")
    with pytest.raises(InputError, match="b.json: is a device"):
        write_json(tmp_path / "b.json", 1)


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    RuntimeError("I/O error: No space left on device (os error 28)")])
def test_a_full_disk_is_one_error_whatever_a_library_makes_of_it(tmp_path: Path, error: Exception) -> None:
    message = f"^{tmp_path}/out: disk full .*; free space and run the same command again$"
    with pytest.raises(WorkError, match=message), atomic_folder(tmp_path / "out", NOTES) as out, atomic_file(out / "x"):
        raise error
    with pytest.raises(WorkError, match="disk full"), atomic_file(tmp_path / "x"):
        try:
            raise error
        except Exception as cause:
            raise ValueError("cannot write") from cause
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_explains_any_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr_kd.core.disk_space._free_bytes", lambda path: 0)
    with pytest.raises(WorkError, match="disk full"), atomic_file(tmp_path / "x"):
        raise ValueError("Error in writing")
    with pytest.raises(InputError, match="no such word"), atomic_file(tmp_path / "x"):
        raise InputError("no such word")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "x"):
        raise KeyboardInterrupt


def test_a_full_disk_is_named_around_any_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="System error"), naming_full_disk(tmp_path / "a.wav"):
        raise RuntimeError("System error")
    monkeypatch.setattr("asr_kd.core.disk_space._free_bytes", lambda path: 0)
    with pytest.raises(WorkError, match="a.wav: disk full"), naming_full_disk(tmp_path / "a.wav"):
        raise RuntimeError("System error")
