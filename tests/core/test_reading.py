import errno
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.arrays import read_npy, read_tensors, read_torch_tensors, write_npy, write_tensors
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import read_json
from asr_kd.core.opening import open_file
from asr_kd.core.reading import file_size, parsing


@pytest.mark.parametrize("error", [
    KeyError("a"), TypeError("a"), OverflowError("a"), AttributeError("a"), RecursionError("a"), ZeroDivisionError("a"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), AssertionError(), StopIteration()])
def test_every_exception_of_a_reader_is_an_input_error_that_names_file_and_remedy(error: Exception) -> None:
    with pytest.raises(InputError, match=rf"x/y:3: damaged store \({type(error).__name__}.*\); decode again"), \
            parsing("x/y:3", "store", "decode again"):
        raise error


@pytest.mark.parametrize("error", [
    WorkError("a"), MemoryError(), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
def test_what_is_no_fault_of_the_file_passes_the_guard(error: BaseException) -> None:
    with pytest.raises(type(error)), parsing("x", "store"):
        raise error


def test_a_long_detail_is_cut() -> None:
    with pytest.raises(InputError) as caught, parsing("x"):
        raise ValueError("a" * 10_000)
    assert len(str(caught.value)) < 300


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "socket"))
    for read in (open_file, file_size, read_npy, read_tensors):
        for path, reason in ((tmp_path / "fifo", "a named pipe"), (Path("/dev/zero"), "a device"),
                             (tmp_path, "a folder"),
                             (tmp_path / "dangling", "nothing"), (tmp_path / "loop", "circle"),
                             (tmp_path / "socket", "socket|cannot be read")):
            with pytest.raises(InputError, match=reason) as caught:
                read(path)
            assert str(path) in str(caught.value)


def test_arrays_come_back_as_written_with_the_rights_of_any_other_file(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        values = np.arange(12, dtype=np.float32).reshape(3, 4)
        write_npy(tmp_path / "a.npy", values)
        write_tensors(tmp_path / "a.safetensors", {"values": values.T})
        write_tensors(tmp_path / "t.safetensors", {"values": torch.from_numpy(values).T.bfloat16()})
    finally:
        os.umask(before)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", mapped=True), values)
    np.testing.assert_array_equal(read_tensors(tmp_path / "a.safetensors")["values"], values.T)
    assert torch.equal(read_torch_tensors(tmp_path / "t.safetensors")["values"].float(), torch.from_numpy(values).T)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_an_array_that_promises_more_than_the_file_has_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
        file.write(bytes(80))
    for mapped in (False, True):
        with pytest.raises(InputError, match=r"10000000000000.*make it again"):
            read_npy(path, "table", "make it again", mapped=mapped)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_damaged_arrays_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    write_npy(folder / "a.npy", np.arange(5))
    write_tensors(folder / "a.safetensors", {"a": np.arange(5)})
    for name, read in (("a.npy", read_npy), ("a.safetensors", read_tensors)):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:at] + noise + content[at + len(noise):])
        try:
            read(folder / name)
        except InputError as error:
            assert name in str(error)


@pytest.mark.parametrize("content", [
    "NaN", "-Infinity", "[1e999]", '["\\ud800"]', '{"\\udfff": 1}', "[" * 100_000, "9" * 5000, "{", '"a\u0000"x'])
def test_json_that_could_not_be_written_again_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json.*not JSON"):
        read_json(tmp_path / "a.json")


def test_json_with_escaped_pairs_of_surrogates_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["\\ud83d\\ude00", 1e308, "\\\\ud800"]')
    assert read_json(tmp_path / "a.json") == ["\U0001f600", 1e308, "\\ud800"]
