"""Kaldi archives of matrices, read and written: text, float, double and the three compressed forms.

kaldiio does the (de)compression. Its own readers of archives and scripts are left alone: they run pipes and
unpickle what says it is a pickle.
"""

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from kaldiio import matio

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.kaldi_scripts import read_script, write_script
from asr_kd.core.opening import open_file
from asr_kd.core.reading import parsing
from asr_kd.core.text_tables import is_word

# Kaldi's --compression-method: CM (8 bit a column), CM2 (16 bit), CM3 (8 bit).
COMPRESSION = {"none": None, "CM": 2, "CM2": 3, "CM3": 5}
_TOKEN_LIMIT = 4096
# Types of binary matrices, and bytes a value.
_MATRICES = {b"FM": 4, b"DM": 8}
_COMPRESSED = {b"CM": 1, b"CM2": 2, b"CM3": 1}
_COLUMN_BYTES = 8  # what CM says of each column
_LONGEST_HEADER = 32


def read_kaldi_archive(path: Path, *, root: Path | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (key, `(rows, columns)` float32, or float64 where it is stored so) of an `.ark` or `.scp` file.

    Paths in an scp are relative to `root` (default: its own folder) and must stay below it; pipes and ranges are
    refused. What is not a whole Kaldi matrix raises InputError with file and key.
    """
    path = Path(path)
    if path.suffix == ".scp":
        yield from _read_script(path, root)
    else:
        with open_file(path) as file:
            while (key := _read_key(file, path)) is not None:
                yield key, _read_matrix(file, path, key)


def write_kaldi_archive(
    path: Path, matrices: Iterable[tuple[str, np.ndarray]], *, scp: Path | None = None, compression: str = "none",
    text: bool = False,
) -> int:
    """Write (key, `(rows, columns)`) pairs as an archive, with `scp` also its index; returns their number.

    `compression` is "none", "CM", "CM2" or "CM3". The scp names the archive relative to its own folder where
    both are in one, so that the folder can be moved. Keys that are empty or hold white space raise InputError.
    """
    if compression not in COMPRESSION:
        raise InputError(f"compression {compression!r}: expected one of {', '.join(COMPRESSION)}")
    if text and compression != "none":
        raise InputError("a text archive cannot be compressed")
    path = Path(path)
    lines = []
    with atomic_file(path, "wb") as file:
        for key, matrix in matrices:
            if not is_word(key):
                raise InputError(f"{path}: key {key!r}: expected one word")
            if matrix.ndim != 2:
                raise InputError(f"{path}: {key}: shape {matrix.shape}, expected (rows, columns)")
            file.write(key.encode() + b" ")
            lines.append((key, file.tell()))
            if text:
                file.write(_text_of(matrix))
                continue
            stored = matrix if matrix.dtype == np.float64 and compression == "none" else matrix.astype(np.float32)
            matio.write_array(file, stored, "<", COMPRESSION[compression])
    if scp is not None:
        write_script(scp, path, lines)
    return len(lines)


def _read_script(path: Path, root: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    with contextlib.ExitStack() as stack:
        opened: dict[Path, IO[bytes]] = {}
        for line in read_script(path, root):
            if line.archive not in opened:
                stack.close()
                opened = {line.archive: stack.enter_context(open_file(line.archive))}
            opened[line.archive].seek(line.offset)
            yield line.key, _read_matrix(opened[line.archive], line.archive, line.key)


def _read_key(file: IO[bytes], path: Path) -> str | None:
    key = bytearray()
    while (byte := file.read(1)) not in (b" ", b"\t", b""):
        key += byte
        if len(key) > _TOKEN_LIMIT:
            raise InputError(f"{path}: not a Kaldi archive (no key in its first {_TOKEN_LIMIT} bytes)")
    key = bytearray(key.strip())
    if not key and byte == b"":
        return None
    try:
        name = key.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {file.tell() - len(key)}: the key is not UTF-8") from error
    if not name or byte == b"":
        raise InputError(f"{path}: byte {file.tell()}: expected a key and a matrix")
    return name


def _read_matrix(file: IO[bytes], path: Path, key: str) -> np.ndarray:
    begin = file.tell()
    mark = file.read(2)
    file.seek(begin)
    with parsing(f"{path}: byte {begin}: {key}", "Kaldi matrix"):
        if mark == b"\0B":
            _check_size(file)
        matrix = matio.read_matrix_or_vector(file) if mark == b"\0B" else _read_text(file)
    if matrix.ndim != 2:
        raise InputError(f"{path}: {key}: expected a matrix, found {matrix.ndim} dimension(s)")
    return np.array(matrix, dtype=np.float64 if matrix.dtype == np.float64 else np.float32)


def _check_size(file: IO[bytes]) -> None:
    """ValueError where the file is too short for the numbers that the header at its position promises."""
    begin = file.tell()
    header = file.read(_LONGEST_HEADER)
    file.seek(begin)
    kind = header[2:].split(b" ", 1)[0]
    behind = 2 + len(kind) + 1
    if kind in _COMPRESSED:  # minimum, range, rows, columns
        rows, columns = struct.unpack_from("<ii", header, behind + 8)
        expected = rows * columns * _COMPRESSED[kind] + (_COLUMN_BYTES * columns if kind == b"CM" else 0)
    elif kind in _MATRICES:  # each size behind a byte that says how long it is
        rows, columns = (struct.unpack_from("<i", header, behind + place)[0] for place in (1, 6))
        expected = rows * columns * _MATRICES[kind]
    else:
        raise ValueError(f"{kind[:8]!r}, expected a matrix of floats")
    if min(rows, columns) < 0 or begin + expected > os.fstat(file.fileno()).st_size:
        raise ValueError(f"{rows} rows of {columns} values, more than the file has")


def _read_text(file: IO[bytes]) -> np.ndarray:
    if file.readline().split() != [b"["]:
        raise ValueError("no opening bracket")
    rows = []
    for line in file:
        values = line.split()
        closed = values[-1:] == [b"]"]
        if closed:
            values.pop()
        if values:
            rows.append(np.array(values, dtype=np.float32))
        if closed:
            return np.array(rows, dtype=np.float32).reshape(len(rows), -1)
    raise ValueError("no closing bracket")


def _text_of(matrix: np.ndarray) -> bytes:
    rows = "".join("\n  " + "".join(f"{value:.7g} " for value in row) for row in matrix)
    return f" [{rows}]\n".encode()
