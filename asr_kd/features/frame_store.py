"""Features of many utterances in one memory-mapped file with one index.

A store is a folder of two files. `frames.bin`: a header of 128 bytes (magic, version, type, dimension, counts,
scale, checksums), then all frames, row by row. `index.json`: the feature recipe, what speaker transforms in
the frames were estimated from, id, speaker and number of frames of each utterance in the order of their frames, and
of each copy at another speed the utterance and the speaker that it is a copy of, and its speed.
"""

import json
import math
import os
import re
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import atomic_folder, hash_bytes, hash_json
from asr_kd.core.opening import open_file
from asr_kd.core.own_folders import FolderKind
from asr_kd.core.reading import parsing
from asr_kd.data.manifest import Source

DTYPES = ("float16", "float32", "uint8")
# uint8 keeps normalised features: this many standard deviations to either side.
UINT8_RANGE = 8.0

_MAGIC = b"ASRKDFRM"
_VERSION = 1
_HEADER_BYTES = 128
# magic, version, dtype, dim, frames, scale, offset, CRC of the frames, SHA-256 of the index
_FIELDS = struct.Struct("<8sI8sIQffI32s")
_FRAMES, _INDEX = "frames.bin", "index.json"
_FRAME_STORE = FolderKind("frame store", (_FRAMES, _INDEX))


class FrameStore:
    """A store opened for reading; nothing but the index is read until frames are asked for.

    `frames` is the memory map `(num_frames, dim)` as stored, `frames * scale + offset` the values (scale 1 and
    offset 0 unless 8 bit). Utterance i of `ids` has the rows `offsets[i]` to `offsets[i + 1]`. `supervision` says what
    speaker transforms in the frames were estimated from ("transcript", "first-pass"), None where there are none.
    `sources` says what each copy at another speed is a copy of, `speeds` how much faster it is played.
    """

    def __init__(self, folder: Path, header: "_Header", index: dict[str, Any]) -> None:
        self.folder = folder
        self.dim = header.dim
        self.dtype = header.dtype
        self.num_frames = header.num_frames
        self.scale, self.offset = header.scale, header.offset
        self.recipe: dict[str, Any] = index["recipe"]
        self.supervision: str | None = index.get("supervision")
        rows = index["utterances"]
        if not isinstance(self.recipe, dict) or not all(
                isinstance(utterance_id, str) and isinstance(speaker, str) and type(frames) is int and frames > 0
                for utterance_id, speaker, frames in rows):
            raise ValueError("expected rows of id, speaker and number of frames")
        self.ids: list[str] = [row[0] for row in rows]
        self.speakers: dict[str, str] = {row[0]: row[1] for row in rows}
        self.offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([row[2] for row in rows], out=self.offsets[1:])
        self._rows = {utterance_id: i for i, utterance_id in enumerate(self.ids)}
        copies = index["copies"] if "copies" in index else _copies_by_name(rows)
        self.sources = {name: Source(utterance, speaker) for name, (utterance, speaker, _) in copies.items()}
        self.speeds = {name: float(speed) for name, (_, _, speed) in copies.items()}
        if not all(isinstance(source.speaker, str) and name in self._rows for name, source in self.sources.items()):
            raise ValueError("expected copies of utterances by utterance, speaker and speed")
        self._crc = header.crc
        self.frames = np.memmap(folder / _FRAMES, np.dtype(self.dtype), "r", _HEADER_BYTES, (self.num_frames, self.dim))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the store in `folder`; one that is missing, damaged, cut or mixed from two raises InputError."""
        folder = Path(folder)
        header = _read_header(folder / _FRAMES)
        content = _read_index(folder / _INDEX)
        if hash_bytes(content) != header.index_hash:
            raise _damaged(folder / _INDEX, f"it does not belong to {_FRAMES} beside it")
        with parsing(folder / _INDEX, "feature store", "rebuild it"):
            store = cls(folder, header, json.loads(content))
        if store.offsets[-1] != header.num_frames or len(store._rows) != len(store.ids):
            raise _damaged(folder / _INDEX, f"it lists {store.offsets[-1]} frames, {_FRAMES} has {header.num_frames}")
        return store

    @property
    def digest(self) -> str:
        """Names the feature recipe: equal for stores whose frames mean the same, whatever the audio."""
        return recipe_digest(self.recipe, self.dim)

    def source_speaker(self, utterance_id: str) -> str:
        """The speaker of the corpus whose speech an utterance is, at whatever speed."""
        source = self.sources.get(utterance_id)
        return self.speakers[utterance_id] if source is None else source.speaker

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._rows

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """The features of one utterance, `(frames, dim)` float32; an unknown id raises InputError."""
        begin, end = self.bounds(utterance_id)
        values = self.frames[begin:end].astype(np.float32)
        return values if self.dtype != "uint8" else values * np.float32(self.scale) + np.float32(self.offset)

    def bounds(self, utterance_id: str) -> tuple[int, int]:
        """The first row of an utterance, and the one behind its last; an unknown id raises InputError."""
        if utterance_id not in self._rows:
            raise InputError(f"{self.folder}: no features of utterance {utterance_id}")
        row = self._rows[utterance_id]
        return int(self.offsets[row]), int(self.offsets[row + 1])

    def verify(self) -> None:
        """Read every frame and compare checksums, at gigabytes a second; damage raises InputError."""
        crc = 0
        for begin in range(0, self.num_frames, 1 << 16):
            crc = zlib.crc32(self.frames[begin : begin + (1 << 16)].tobytes(), crc)
        if crc != self._crc:
            raise _damaged(self.folder / _FRAMES, "the checksum of its frames does not match")


class FrameStoreWriter:
    """Writes a store: `with FrameStoreWriter(...) as writer: writer.add(id, speaker, matrix)`.

    `folder` is replaced when the block ends well, and left as it was when it does not. The same utterances in
    the same order give the same bytes. `dtype` is one of DTYPES; uint8 is for features of unit variance,
    which it clips at 8 standard deviations.
    """

    def __init__(
        self, folder: Path, dim: int, dtype: str, recipe: dict[str, Any], supervision: str | None = None
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"store_dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        self.folder = Path(folder)
        self.dim = dim
        self.dtype = dtype
        self.recipe = recipe
        self.supervision = supervision
        self._scale, self._offset = (2 * UINT8_RANGE / 255, -UINT8_RANGE) if dtype == "uint8" else (1.0, 0.0)
        self._rows: list[tuple[str, str, int]] = []
        self._copies: dict[str, tuple[str, str, float]] = {}
        self._ids: set[str] = set()
        self._num_frames = 0
        self._crc = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._temporary = self._stack.enter_context(atomic_folder(self.folder, _FRAME_STORE))
        self._file: IO[bytes] = self._stack.enter_context(open(self._temporary / _FRAMES, "wb"))
        self._file.write(bytes(_HEADER_BYTES))
        return self

    def add(
        self, utterance_id: str, speaker: str, matrix: np.ndarray, source: Source | None = None, speed: float = 1.0
    ) -> None:
        """Append `(frames, dim)`; `source` and `speed` of a copy at another speed.

        A second utterance of one id raises InputError, values that are not finite or do not fit the type WorkError.
        """
        if utterance_id in self._ids:
            raise InputError(f"{self.folder}: utterance {utterance_id} occurs twice; ids must be unique")
        if matrix.ndim != 2 or matrix.shape[1] != self.dim or len(matrix) == 0:
            raise WorkError(f"utterance {utterance_id}: features {matrix.shape}, expected (frames, {self.dim})")
        with np.errstate(over="ignore"):
            stored = self._encode(matrix)
        if not np.isfinite(matrix).all() or not np.isfinite(stored).all():
            raise WorkError(f"utterance {utterance_id}: features are not finite, or beyond the range of {self.dtype}")
        content = np.ascontiguousarray(stored).tobytes()
        self._file.write(content)
        self._crc = zlib.crc32(content, self._crc)
        self._ids.add(utterance_id)
        self._rows.append((utterance_id, speaker, len(matrix)))
        if source is not None:
            self._copies[utterance_id] = (source.utterance, source.speaker, speed)
        self._num_frames += len(matrix)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._finish()
            except BaseException as fault:
                self._stack.__exit__(type(fault), fault, fault.__traceback__)
                raise
        self._stack.__exit__(kind, error, traceback)

    def _finish(self) -> None:
        if not self._rows:
            raise WorkError(f"{self.folder}: no utterance to store features of")
        index = _index_bytes(self.recipe, self.supervision, self._rows, self._copies)
        (self._temporary / _INDEX).write_bytes(index)
        self._file.seek(0)
        self._file.write(_header_bytes(
            self.dtype, self.dim, self._num_frames, self._scale, self._offset, self._crc, index
        ))

    def _encode(self, matrix: np.ndarray) -> np.ndarray:
        if self.dtype != "uint8":
            return matrix.astype(self.dtype)
        return np.clip(np.rint((matrix - self._offset) / self._scale), 0, 255).astype(np.uint8)


def recipe_digest(recipe: dict[str, Any], dim: int) -> str:
    """Hexadecimal name of a feature recipe."""
    return hash_json({"recipe": recipe, "dim": dim})


class _Header:
    def __init__(self, path: Path, fields: tuple[Any, ...]) -> None:
        (_, _, dtype, self.dim, self.num_frames, self.scale, self.offset, self.crc, index_hash) = fields
        self.dtype = dtype.rstrip(b"\0").decode("ascii", "replace")
        self.index_hash = index_hash.hex()
        sound = math.isfinite(self.scale) and math.isfinite(self.offset)
        if self.dtype not in DTYPES or self.dim == 0 or self.num_frames == 0 or not sound:
            raise _damaged(path, f"its header says {self.num_frames} frames of {self.dim} {self.dtype!r}")


def _header_bytes(
    dtype: str, dim: int, num_frames: int, scale: float, offset: float, crc: int, index: bytes
) -> bytes:
    hash_ = bytes.fromhex(hash_bytes(index))
    fields = _FIELDS.pack(_MAGIC, _VERSION, dtype.encode(), dim, num_frames, scale, offset, crc, hash_)
    return (fields + struct.pack("<I", zlib.crc32(fields))).ljust(_HEADER_BYTES, b"\0")


def _copies_by_name(rows: list[Any]) -> dict[str, tuple[str, str, float]]:
    """Copies at another speed in a store of a version that did not say which they are.

    A name that ends like a copy's is one only where utterance and speaker end alike, both are in the store without
    that ending, and the frames are as many as the speed makes of them.
    """
    frames = {name: count for name, _, count in rows}
    speakers = {name: speaker for name, speaker, _ in rows}
    copies = {}
    for name, speaker, count in rows:
        utterance, mark, factor = name.rpartition("_sp")
        if not re.fullmatch(r"\d{1,3}(\.\d{1,9})?", factor) or not float(factor) or utterance not in frames:
            continue
        is_named_alike = speaker == f"{speakers[utterance]}{mark}{factor}"
        if is_named_alike and abs(count - frames[utterance] / float(factor)) <= 3:
            copies[name] = (utterance, speakers[utterance], float(factor))
    return copies


def _index_bytes(
    recipe: dict[str, Any], supervision: str | None, rows: list[tuple[str, str, int]],
    copies: dict[str, tuple[str, str, float]] | None = None,
) -> bytes:
    # One utterance a line, so that people can read it too.
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    facts = f'"recipe": {json.dumps(recipe, sort_keys=True)},\n"supervision": {json.dumps(supervision)}'
    sources = json.dumps(copies or {}, ensure_ascii=False)
    return f'{{{facts},\n"utterances": [\n{lines}\n],\n"copies": {sources}}}\n'.encode()


def _read_header(path: Path) -> _Header:
    if not path.exists():
        raise InputError(f"{path.parent}: no feature store ({path.name} is missing); run the features stage")
    with open_file(path) as file:
        content = file.read(_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    if content[: len(_MAGIC)] != _MAGIC:
        raise InputError(f"{path}: not a feature store (wrong magic)")
    if len(content) < _HEADER_BYTES:
        raise _damaged(path, f"{size} bytes, its header alone has {_HEADER_BYTES}")
    packed = content[: _FIELDS.size]
    fields = _FIELDS.unpack(packed)
    if fields[1] != _VERSION:
        raise InputError(f"{path}: feature store of version {fields[1]}, expected {_VERSION}; rebuild it")
    if content[_FIELDS.size : _FIELDS.size + 4] != struct.pack("<I", zlib.crc32(packed)):
        raise _damaged(path, "the checksum of its header does not match")
    header = _Header(path, fields)
    expected = _HEADER_BYTES + header.num_frames * header.dim * np.dtype(header.dtype).itemsize
    if size != expected:
        raise _damaged(path, f"{size} bytes, expected {expected}")
    return header


def _read_index(path: Path) -> bytes:
    if not path.exists():
        raise _damaged(path, "it is missing")
    with open_file(path) as file:
        return file.read()


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: damaged feature store: {what}; rebuild it")
