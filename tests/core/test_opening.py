"""Only regular files are opened, whatever stands at a path, and nothing hangs."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from asr_kd.core.arrays import read_npy
from asr_kd.core.errors import InputError
from asr_kd.core.files import copy_file, hash_file, read_json
from asr_kd.core.opening import kind_of, open_file, require_file, resolved
from asr_kd.core.text_tables import read_lines
from asr_kd.features.kaldi_io import read_kaldi_archive
from asr_kd.kaldi_lattices.byte_stream import open_stream


def copy_here(path: Path) -> None:
    copy_file(path, path.with_name("copy"))


def make_irregular(path: Path, kind: str) -> None:
    """Put something at `path` that is no regular file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            previous = Path.cwd()
            os.chdir(path.parent)  # the address of a socket is short
            try:
                server.bind(path.name)
            finally:
                os.chdir(previous)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.mkdir()


MESSAGES = {
    "pipe": "is a named pipe, expected a file",
    "socket": "is a socket, expected a file",
    "device": "is a device, expected a file",
    "dangling": "is a link to .*nowhere, where there is nothing",
    "loop": "is a link that leads in a circle",
    "folder": "is a folder, expected a file",
}


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("read", [
    open_file, require_file, hash_file, read_json, lambda path: list(read_lines(path)), copy_here,
    lambda path: list(read_kaldi_archive(path)), lambda path: open_stream(path).__enter__(), read_npy])
def test_what_is_no_regular_file_is_refused_and_named(
    tmp_path: Path, kind: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "text.gz"
    make_irregular(path, kind)
    with pytest.raises(InputError, match=f"^{path}: {MESSAGES[kind]}"):
        read(path)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a\n")
    (tmp_path / "link").symlink_to("text")
    assert list(read_lines(tmp_path / "link")) == [(1, "a")]
    assert kind_of(tmp_path / "link") == "a link" and kind_of(tmp_path / "text") == "a file"
    assert kind_of(tmp_path / "none") is None


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(InputError, match="is no path"):
        open_file(Path("a\0b"))


def test_links_in_a_circle_are_followed_as_far_as_they_lead(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert resolved(tmp_path / "loop/a").is_relative_to(tmp_path)
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert resolved(tmp_path / "b") == tmp_path.resolve() / "a"
    with pytest.raises(InputError, match="NUL"):
        resolved(Path("a\0b"))


def test_archives_behind_a_circle_of_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ark").symlink_to(tmp_path / "a.ark")
    (tmp_path / "a.scp").write_text("key a.ark:5\n")
    with pytest.raises(InputError, match="circle"):
        list(read_kaldi_archive(tmp_path / "a.scp"))
