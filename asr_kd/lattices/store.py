"""Lattices of a split in one memory-mapped file beside its index."""

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.lattices.lattice import Lattice

DATA, INDEX = "lattices.bin", "lattices.json"
_HEADER = struct.Struct("<8sII")
_MAGIC, _VERSION = b"asrkdlat", 1
_CODES: dict[str, np.dtype[Any]] = {code: np.dtype(f"<{code}") for code in ("u1", "u2", "u4", "f4")}


@dataclass(frozen=True)
class _Entry:
    """One utterance's block: columns as (code, length), in the order that `_columns` gives them."""

    begin: int
    size: int
    crc32: int
    columns: list[list[Any]]


class LatticeStoreWriter:
    """Writes lattices one by one; nothing can be opened before the block ends without an error.

    `description` (JSON values, for example digests of graph and model) is kept with them.
    """

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self._folder = Path(folder)
        self._description = description
        self._entries: dict[str, _Entry] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / INDEX).unlink(missing_ok=True)
        self._file: IO[bytes] = open(self._folder / DATA, "wb")  # noqa: SIM115
        self._position = self._file.write(_HEADER.pack(_MAGIC, _VERSION, 0))

    def add(self, utterance_id: str, lattice: Lattice) -> None:
        """Append a lattice; ValueError for an id that is there already, or for a lattice that breaks its rules."""
        if utterance_id in self._entries:
            raise ValueError(f"{utterance_id} is in the store already")
        fault = lattice.fault()
        if fault:
            raise ValueError(f"{utterance_id}: {fault}")
        columns = _columns(lattice)
        block = b"".join(column.tobytes() for column in columns)
        self._file.write(block)
        self._entries[utterance_id] = _Entry(self._position, len(block), zlib.crc32(block),
                                             [[column.dtype.str[1:], len(column)] for column in columns])
        self._position += len(block)

    def __enter__(self) -> "LatticeStoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._file.close()
        if kind is not None:
            (self._folder / DATA).unlink(missing_ok=True)
            return
        entries = {i: [e.begin, e.size, e.crc32, e.columns] for i, e in self._entries.items()}
        write_json(self._folder / INDEX, {"version": _VERSION, "bytes": self._position,
                                          "description": self._description, "lattices": entries})


class LatticeStore:
    """Lattices by utterance id, read from disk when asked for; `description` is what their writer gave."""

    def __init__(self, path: Path, content: Any, entries: dict[str, _Entry], description: dict[str, Any]) -> None:
        self._path, self._content, self._entries = path, content, entries
        self.description = description

    @staticmethod
    def open(folder: Path) -> "LatticeStore":
        """Open what a LatticeStoreWriter left in `folder`; missing or damaged files raise InputError."""
        index = read_json(Path(folder) / INDEX)
        path = Path(folder) / DATA
        try:
            if index["version"] != _VERSION:
                raise InputError(f"{folder}: lattices of version {index['version']}, expected {_VERSION}")
            entries = {i: _Entry(*values) for i, values in index["lattices"].items()}
            size, description = int(index["bytes"]), dict(index["description"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{Path(folder) / INDEX}: damaged index of lattices; decode again") from error
        try:
            with open(path, "rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: missing or empty; decode again") from error
        if len(content) != size or _HEADER.unpack(content[: _HEADER.size])[:2] != (_MAGIC, _VERSION):
            raise InputError(f"{path}: damaged: {len(content)} bytes, expected {size} with the header of a lattice "
                             "store; decode again")
        return LatticeStore(path, content, entries, description)

    @property
    def ids(self) -> list[str]:
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, utterance_id: str) -> Lattice:
        """The lattice; KeyError for an unknown id, InputError where its block is damaged."""
        entry = self._entries[utterance_id]
        block = self._content[entry.begin : entry.begin + entry.size]
        if zlib.crc32(block) != entry.crc32:
            raise InputError(f"{self._path}: the lattice of {utterance_id} is damaged (checksum); decode again")
        columns, position = [], 0
        for code, length in entry.columns:
            columns.append(np.frombuffer(block, _CODES[code], length, position))
            position += length * _CODES[code].itemsize
        return _lattice(columns)


def _columns(lattice: Lattice) -> list[np.ndarray]:
    """The lattice as the narrowest columns that hold it; final costs only of the last frame's states."""
    last = lattice.frames == lattice.num_frames
    if np.isfinite(lattice.final_costs[~last]).any():
        raise ValueError("final states before the last frame")
    return [
        _narrow(np.bincount(lattice.frames)),
        _narrow(np.diff(lattice.offsets)),
        _narrow(lattice.targets - lattice.sources),
        _narrow(lattice.transition_ids),
        _narrow(lattice.words),
        lattice.graph_costs.astype("<f4"),
        lattice.acoustic_costs.astype("<f4"),
        lattice.final_costs[last].astype("<f4"),
    ]


def _lattice(columns: list[np.ndarray]) -> Lattice:
    states_per_frame, arc_counts, steps, tids, words, graph_costs, acoustic_costs, last_finals = columns
    frames = np.repeat(np.arange(len(states_per_frame), dtype=np.int32), states_per_frame)
    offsets = np.concatenate([[0], np.cumsum(arc_counts, dtype=np.int32)]).astype(np.int32)
    finals = np.full(len(frames), np.inf, np.float32)
    finals[len(frames) - len(last_finals) :] = last_finals
    sources = np.repeat(np.arange(len(frames), dtype=np.int32), arc_counts)
    # Copies, not read-only views: compiled code would be compiled a second time for those.
    return Lattice(frames, offsets, finals, sources + steps.astype(np.int32), tids.astype(np.int32),
                   words.astype(np.int32), graph_costs.copy(), acoustic_costs.copy())


def _narrow(values: np.ndarray) -> np.ndarray:
    highest = int(values.max(initial=0))
    return values.astype("<u1" if highest < 1 << 8 else "<u2" if highest < 1 << 16 else "<u4")
