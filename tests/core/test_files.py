"""Files and folders are whole or absent."""

import bz2
import gzip
import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import atomic_file, atomic_folder, hash_json, read_json, read_lines, remove_abandoned, write_json
from asr_kd.core.parallel import map_threads


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
    with atomic_folder(target) as folder:
        (folder / "old").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "new").write_text("2")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["old"]
    with atomic_folder(target) as folder:
        (folder / "new").write_text("2")
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, sys
from pathlib import Path
from asr_kd.core.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
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
    with atomic_folder(tmp_path / "other"):
        assert len(list(tmp_path.glob(".out*/half"))) == 1
    with atomic_folder(tmp_path / "out") as folder:
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
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(InputError, match="file: is no folder"), atomic(tmp_path / "file/x"):
            pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_below_a_file_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="no such file"):
        list(read_lines(tmp_path / "file/x"))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"], ids=["deep", "long number"])
def test_json_that_python_gives_up_on(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="a.json: not JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(("name", "content", "kind"), [
    ("x.txt", gzip.compress(b"u1 WORD\n"), "gzip data"),
    ("x.jsonl", bz2.compress(b"{}\n"), "bzip2 data"),
    ("x.jsonl", lzma.compress(b"{}\n"), "xz data"),
    ("text", b"PK\x03\x04" + bytes(40), "a zip archive"),
    ("text", b"PAR1" + bytes(40), "a Parquet table"),
    ("x.gz", bz2.compress(b"{}\n"), "bzip2 data"),
    ("x.gz", gzip.compress(lzma.compress(b"{}\n")), "xz data"),
    ("x.txt", "\ufeffu1 WORD\n".encode("utf-16-le"), "UTF-16 text"),
    ("x.gz", b"u1 WORD\n", "no gzip file"),
])
def test_a_file_that_is_no_text_is_called_by_its_kind(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=kind) as caught:
        list(read_lines(tmp_path / name))
    assert "UTF-8 (byte" not in str(caught.value) and str(tmp_path / name) in str(caught.value)
