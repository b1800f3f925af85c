import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.features.kaldi_io import read_kaldi_archive, write_kaldi_archive
from tests.features.golden import read_matrices

ARCHIVES = {"feats": "none", "feats_cm": "CM", "feats_cm2": "CM2", "feats_cm3": "CM3"}
# float32 rounding of values up to 28
ROUNDING = 4e-6


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "kaldi"


@pytest.mark.parametrize("name", ARCHIVES)
def test_kaldis_archives_are_read_as_kaldi_reads_them(golden: Path, name: str) -> None:
    decoded = read_matrices(golden, "io/decoded")
    for found in (
        dict(read_kaldi_archive(golden / "io" / f"{name}.ark")),
        dict(read_kaldi_archive(golden / "io" / f"{name}.scp", root=golden)),
    ):
        assert list(found) == ["000010168", "edge_short"]
        for key, matrix in found.items():
            assert matrix.dtype == np.float32
            np.testing.assert_allclose(matrix, decoded[f"{name}.{key}"], rtol=0, atol=ROUNDING)


def test_kaldis_text_archive_is_read(golden: Path) -> None:
    binary = dict(read_kaldi_archive(golden / "io" / "feats.ark"))
    for key, matrix in read_kaldi_archive(golden / "io" / "feats.txt"):
        np.testing.assert_allclose(matrix, binary[key], rtol=1e-6)


@pytest.mark.parametrize("name", ARCHIVES)
def test_written_archives_are_kaldis(golden: Path, tmp_path: Path, name: str) -> None:
    source = list(read_kaldi_archive(golden / "io" / "feats.ark"))
    count = write_kaldi_archive(
        tmp_path / f"{name}.ark", source, scp=tmp_path / f"{name}.scp", compression=ARCHIVES[name]
    )
    assert count == 2
    ours, kaldis = (tmp_path / f"{name}.ark").read_bytes(), (golden / "io" / f"{name}.ark").read_bytes()
    assert len(ours) == len(kaldis)
    # A value half way between two codes may go either way.
    assert sum(a != b for a, b in zip(ours, kaldis, strict=True)) <= 0.002 * len(ours)
    assert (tmp_path / f"{name}.scp").read_text() == (golden / "io" / f"{name}.scp").read_text().replace("io/", "")
    decoded = read_matrices(golden, "io/decoded")
    for key, matrix in read_kaldi_archive(tmp_path / f"{name}.scp"):
        step = 0.0 if name == "feats" else np.ptp(matrix) / (65535 if name == "feats_cm2" else 255)
        np.testing.assert_allclose(matrix, decoded[f"{name}.{key}"], rtol=0, atol=1.01 * step + ROUNDING)


def test_written_text_is_kaldis(golden: Path, tmp_path: Path) -> None:
    write_kaldi_archive(tmp_path / "feats.txt", read_kaldi_archive(golden / "io" / "feats.ark"), text=True)
    assert (tmp_path / "feats.txt").read_bytes() == (golden / "io" / "feats.txt").read_bytes()


@given(rows=st.integers(1, 9), columns=st.integers(1, 5), double=st.booleans(), text=st.booleans())
@settings(max_examples=40, deadline=None)
def test_matrices_of_any_shape_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, double: bool, text: bool
) -> None:
    folder = tmp_path_factory.mktemp("ark")
    matrix = np.random.default_rng(rows).normal(0, 30, (rows, columns)).astype(np.float64 if double else np.float32)
    write_kaldi_archive(folder / "a.ark", [("one", matrix), ("zwei", matrix[:1])], scp=folder / "a.scp", text=text)
    for name in ("a.ark", "a.scp"):
        found = dict(read_kaldi_archive(folder / name))
        np.testing.assert_allclose(found["one"], matrix, rtol=1e-6 if text else 0)
        assert found["zwei"].shape == (1, columns)
        assert found["one"].dtype == (np.float64 if double and not text else np.float32)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)  # type: ignore[return-value]


def test_pickles_are_not_loaded_and_pipes_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.ark").write_bytes(b"key PKL" + pickle.dumps(Bomb()))
    Path("b.ark").write_bytes(b"key NPY\x00\x00\x00\x10" + pickle.dumps(Bomb()))
    Path("a.scp").write_text("key touch exploded |\n")
    Path("b.scp").write_text("key a.ark:4\n")
    for name in ("a.ark", "b.ark", "a.scp", "b.scp"):
        with pytest.raises(InputError):
            list(read_kaldi_archive(Path(name)))
    with pytest.raises(InputError, match="a.scp:1: key: pipes are not run"):
        list(read_kaldi_archive(Path("a.scp")))
    assert not Path("exploded").exists()


def test_an_archive_cut_anywhere_is_refused_by_key(tmp_path: Path) -> None:
    matrix = np.arange(40, dtype=np.float32).reshape(10, 4)
    for compression in ("none", "CM", "CM2", "CM3"):
        write_kaldi_archive(tmp_path / "whole.ark", [("first", matrix)], compression=compression)
        whole = (tmp_path / "whole.ark").read_bytes()
        for length in range(1, len(whole)):
            (tmp_path / "cut.ark").write_bytes(whole[:length])
            with pytest.raises(InputError, match="cut.ark: (first: damaged Kaldi matrix|byte)"):
                list(read_kaldi_archive(tmp_path / "cut.ark"))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("key ../secret.ark:4", "is outside"),
        ("key /etc/passwd", "is outside"),
        ("key a.ark:4[0:3]", "ranges of rows are not read"),
        ("key a.ark:²", "a.ark:². no such file"),
        ("key", "expected a key and FILE:OFFSET"),
        ("key nowhere.ark:4", "no such file"),
        ("key a.ark:5", "damaged Kaldi matrix"),
        ("key a.ark:999999", "damaged Kaldi matrix"),
    ],
)
def test_a_faulty_script_line_is_refused(tmp_path: Path, script: str, message: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    for path in (folder / "a.ark", tmp_path / "secret.ark"):
        write_kaldi_archive(path, [("key", np.ones((3, 2), np.float32))])
    (folder / "a.scp").write_text(script + "\n")
    with pytest.raises(InputError, match=message):
        list(read_kaldi_archive(folder / "a.scp"))


@pytest.mark.parametrize("content", [b"\x00" * 300, b"word\n", b"x" * 9000, b"key [\n 1 2\n 3 ]\n", b"\xff\xfe [ ]\n",
                                     b"key \x00BFM \x04\xff\xff\xff\x7f\x04\xff\xff\xff\x7f" + b"x" * 50,
                                     b"key \x00BFV \x04\x01\x00\x00\x00abcd"])
def test_what_is_no_archive_of_matrices_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ark").write_bytes(content)
    with pytest.raises(InputError, match="a.ark"):
        list(read_kaldi_archive(tmp_path / "a.ark"))


def test_faulty_arguments_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    matrix = np.ones((2, 2), np.float32)
    for pairs, options, message in [
        ([("two words", matrix)], {}, "expected one word"),
        ([("key", matrix[0])], {}, "expected \\(rows, columns\\)"),
        ([("key", matrix)], {"compression": "gzip"}, "expected one of none, CM, CM2, CM3"),
        ([("key", matrix)], {"compression": "CM", "text": True}, "cannot be compressed"),
    ]:
        with pytest.raises(InputError, match=message):
            write_kaldi_archive(tmp_path / "a.ark", pairs, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "rows", "columns"), [
    ("FM", 2**30, 2**30), ("DM", 2**31 - 1, 1), ("CM", 0, 2**31 - 1), ("CM2", 2**20, 2**20), ("FM", -1, 4),
    ("XX", 1, 1)])
def test_a_matrix_that_promises_more_than_the_file_has_is_refused_before_memory_is_taken(
    tmp_path: Path, kind: str, rows: int, columns: int
) -> None:
    sizes = struct.pack("<ffii", 0.0, 1.0, rows, columns) if kind.startswith("C") else struct.pack(
        "<bibi", 4, rows, 4, columns)
    (tmp_path / "a.ark").write_bytes(b"key \0B" + kind.encode() + b" " + sizes + bytes(64))
    with pytest.raises(InputError, match="a.ark: byte 4: key: damaged Kaldi matrix"):
        list(read_kaldi_archive(tmp_path / "a.ark"))
