"""Lattice files that are wrong: one line with file, line or byte, utterance and what is the matter."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.kaldi_lattices.archive import read_lattices, read_word_lattices, write_lattices
from tests.kaldi_lattices.test_archive import COMPACT_BYTES, FORMS
from tests.lattices.random_lattice import random_lattice
from tests.lattices.random_word_lattice import labelled_paths, random_word_lattice

GOOD = "a \n0\t1\t5\t1\t1,2\n1\n\n"


@pytest.mark.parametrize(
    ("lines", "line", "fault"),
    [
        ("0 1 5 1 1,2\n1 0 5 1 1,2\n1", 6, "a cycle that state 0 is on"),
        ("0 1 5 1\n1 2 0 1\n2 1 0 1\n1", 6, "a cycle that state 1 is on"),
        ("0 0 5 1 1,2\n0", 6, "a cycle that state 0"),
        ("0 1 5 1 1,2\n0 2 5 1 1,2\n1", 7, "a dead end: state 2 reaches no final state"),
        ("0 1 5 1 1,2\n1 2 5 1 1,2", 6, "a dead end: state 0"),
        ("0 1 5 1 1,2\n1\n2 1 5 1", 8, "no path from the start reaches state 2"),
        ("0 1 5 1 1,2\n1\n7", 8, "no path from the start reaches state 7"),
        ("0 1 5 1 nan,2\n1", 6, "state 0 costs nan,2.0"),
        ("0 1 5 1 1,2\n0 1 5 1 1,inf\n1", 7, "state 0 costs 1.0,inf"),
        ("0 1 5 1 1,1e99\n1", 6, "costs 1.0,inf"),
        ("0 1 5 1 1,2\n1 nan,0", 7, "final state 1 costs nan,0.0"),
        ("0 1 5 1 1,2\n1 Infinity,0", 7, "final state 1 costs inf,0.0"),
        ("0 1 5 1 1,two\n1", 6, "'two' is no number"),
        ("0 1 5 1\n0 2 5 1\n2 1 5 1\n1", 8, "state 1 is reached after 1 and after 2 frames"),
        ("0 1 5 1\n1 2 5 1\n1\n2", 9, "paths of 1 and of 2 frames"),
        ("0 1 1 0,0,5_6\n0 1 2 0,0,5_6_7\n1", 7, "state 1 is reached after 2 and after 3 frames"),
        ("0 1 1 0,0,5_6\n0 2 1 0,0,5_6\n1 0,0,1\n2 0,0,1_2", 9, "paths of 3 and of 4 frames"),
        ("0 1 1 0,0,5_0\n1", 6, "transition-id 0"),
        ("0 1 1 0,0,5__6\n1", 6, "cannot read '0 1 1 0,0,5__6'"),
        ("0 1 1 0,0,5\n0 1 5 1 0,0\n1", 7, "lines of a lattice and of a compact lattice in one"),
        ("0 1 5 1 0,0\n1 0,0,", 7, "lines of a lattice and of a compact lattice in one"),
        ("0 1 5 1 0,0\n1\n1 1,2", 8, "state 1 is final twice"),
        ("0 1 5 -1 0,0\n1", 6, "cannot read '0 1 5 -1 0,0'"),
        ("0 1 5 1 1_0,0\n1", 6, "cannot read"),
        ("0 1 5 1 0,0 9\n1", 6, "cannot read"),
        ("0 1 5 1 0\n1", 6, "cannot read"),
        ("0 1 5 3000000000\n1", 6, "3000000000 is too large"),
        ("0 1 5 1\nsee\n1", 7, "cannot read 'see'"),
    ],
)
def test_a_fault_in_text_is_one_line_with_file_line_and_utterance(
    tmp_path: Path, lines: str, line: int, fault: str
) -> None:
    path = tmp_path / "lat.txt"
    path.write_text(f"{GOOD}b \n{lines}\n\n")
    for read in (read_lattices, read_word_lattices):
        reader = read(path)
        assert next(reader)[0] == "a"
        with pytest.raises(InputError) as error:
            next(reader)
        assert str(error.value).startswith(f"{path}:{line}: b: "), error.value
        assert fault in str(error.value) and "\n" not in str(error.value)


def test_the_line_is_that_of_the_archive_when_a_script_points_into_it(tmp_path: Path) -> None:
    (tmp_path / "lat.txt").write_text(GOOD + "b \n0\t1\t5\t1\t1,x\n1\n\n")
    (tmp_path / "lat.scp").write_text(f"b lat.txt:{len(GOOD) + 2}\n")
    with pytest.raises(InputError, match=r"lat\.txt:6: b: the cost 'x' is no number"):
        list(read_lattices(tmp_path / "lat.scp"))


@FORMS
@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), compact=st.booleans())
def test_a_lattice_cut_off_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: bool, data: st.DataObject, seed: int, compact: bool
) -> None:
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    lattice = random_word_lattice(seed) if compact else random_lattice(seed)
    write_lattices(path, [("utt1", lattice)], text=text)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(1, len(content) - 1))])
    with pytest.raises(InputError, match=r"lat\.ark.*(utt1?: (cut off|damaged)|byte \d+: expected an utterance id)"):
        list(read_word_lattices(path))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_give_a_lattice(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(COMPACT_BYTES)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    path.write_bytes(bytes(content))
    for read in (read_lattices, read_word_lattices):
        try:
            lattices = list(read(path))
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert [lattice.fault() for _, lattice in lattices] == [None] * len(lattices)


@settings(max_examples=200, deadline=None)
@given(text=st.text("01 2\t5,_.-\nue", max_size=60))
def test_any_text_is_refused_or_gives_a_lattice(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    path.write_text(f"utt1 \n0 1 5 1 1,2\n{text}")
    for read in (read_lattices, read_word_lattices):
        try:
            lattices = list(read(path))
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert [lattice.fault() for _, lattice in lattices] == [None] * len(lattices)


def _binary(states: bytes, count: int = 1, start: int = 0, arc_type: bytes = b"lattice4", flags: int = 0) -> bytes:
    return b"".join([b"u ", struct.pack("<ii", 2125659606, 6), b"vector", struct.pack("<i", len(arc_type)), arc_type,
                     struct.pack("<iiQqqq", 2, flags, 3, start, count, 0), states])


FINAL = struct.pack("<ffq", 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (_binary(FINAL, arc_type=b"standard"), "an FST of type 'vector' with arcs 'standard'"),
        (_binary(FINAL, arc_type=b"lattice8"), "lattice-copy converts"),
        (_binary(FINAL, flags=1), "without symbol tables"),
        (_binary(FINAL, start=1), "start state 1 of 1 states"),
        (_binary(FINAL, start=-1), "start state -1 of 1 states"),
        (_binary(FINAL, count=2), "cut off"),
        (_binary(FINAL, count=2**30), "cut off"),
        (_binary(struct.pack("<ffq", 0, 0, -1)), "negative number of arcs"),
        (_binary(struct.pack("<ffq", 0, 0, 2**60)), "cut off"),
        (_binary(struct.pack("<ffqiiffi", 0, 0, 1, 5, 1, 0, 0, 7)), "an arc to state 7 of 1"),
        (_binary(struct.pack("<ffqiiffi", 0, 0, 1, -5, 1, 0, 0, 0)), "transition-id -5"),
        (_binary(struct.pack("<ffqiiffi", 0, 0, 1, 5, -1, 0, 0, 0)), "word -1"),
        (_binary(struct.pack("<ffqiiffi", 0, 0, 1, 5, 1, np.nan, 0, 0)), "costs nan"),
        (_binary(struct.pack("<ffqiiffi", 0, 0, 1, 5, 1, 0, 0, 0)), "a cycle that state 0"),
        (_binary(struct.pack("<ffq", np.nan, 0, 0)), "final state 0 costs nan"),
        (_binary(struct.pack("<ffq", np.inf, np.inf, 0)), "dead end: state 0"),
        (COMPACT_BYTES.replace(struct.pack("<ii", 5, 5), struct.pack("<ii", 5, 4)), "labels differ"),
        (b"u \0B" + _binary(FINAL)[2:], "neither Kaldi's text form"),
        (b"u 0 1 5 1\n\n", "neither Kaldi's text form"),
        (b"u ", "cut off: the file ends here"),
        (b"\xff\xfe 1 2\n", "not UTF-8"),
        (b"u" * 9000, "expected an utterance id"),
        (b" " * 9000, "expected an utterance id"),
    ],
)
def test_a_fault_in_bytes_is_one_line_with_file_and_place(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "lat.ark"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        list(read_lattices(path))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("u cat lat.ark |", r"lat\.scp:1: u: pipes are not run"),
        ("u ../lat.ark:2", r"lat\.scp:1: u: \.\./lat\.ark is outside"),
        ("u", r"lat\.scp:1: expected a key and FILE:OFFSET"),
        ("u none.ark:2", r"none\.ark: no such file"),
        ("u lat.ark:9999", r"lat\.ark: byte 9999: u: cut off"),
        ("u lat.ark:3", r"lat\.ark: byte 3: u: neither"),
        ("u lat.ark.gz:3", r"unpack .*lat\.ark\.gz"),
    ],
)
def test_a_script_that_points_nowhere_good_is_refused(tmp_path: Path, script: str, fault: str) -> None:
    write_lattices(tmp_path / "lat.ark", [("u", random_lattice(0))])
    (tmp_path / "lat.scp").write_text(script + "\n")
    with pytest.raises(InputError, match=fault):
        list(read_lattices(tmp_path / "lat.scp"))


def test_missing_files_folders_and_damaged_gzip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gz").write_bytes(b"\x1f\x8b nothing")
    for name, fault in [("none.ark", "no such file"), (".", "is a folder"), ("bad.gz", "damaged gzip")]:
        with pytest.raises(InputError, match=fault):
            list(read_lattices(tmp_path / name))


def test_trim_leaves_out_what_is_on_no_path(tmp_path: Path) -> None:
    path = tmp_path / "lat.txt"
    # State 2 is a dead end, 3 and its cycle are not reached, 4 lies on a cycle of dead ends.
    path.write_text("u \n0 1 5 1 1,2\n0 2 6 1\n3 1 5 1\n3 3 5 1\n0 4 5 1\n4 4 5 1\n1\n\nv \n0 1 5 1\n\n")
    [(_, lattice), (_, nothing)] = read_lattices(path, trim=True)
    assert lattice.fault() is None
    assert labelled_paths(lattice) == [(((1,), (5,)), 1.0, 2.0)]
    assert nothing.num_states == 0 and nothing.fault() is None
