"""Lattices of a split, word or state level, in one memory-mapped file beside its index."""

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.core.opening import open_file
from asr_kd.core.reading import file_size, parsing
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

Kind = Literal["words", "states"]

DATA, INDEX = "lattices.bin", "lattices.json"
_HEADER = struct.Struct("<8sII")
_MAGIC, _VERSION = b"asrkdlat", 2
_CODES: dict[str, np.dtype[Any]] = {code: np.dtype(f"<{code}") for code in ("u1", "u2", "u4", "f4")}
_MOST_COLUMNS = 13
_COLUMN = struct.Struct("<2sI")
_KINDS: dict[Kind, type[Lattice] | type[WordLattice]] = {"words": WordLattice, "states": Lattice}
# State-level lattices are tens of times larger, and written where speed matters more.
_LARGEST = 1 << 29  # bytes of a lattice
_COMPRESSION: dict[Kind, int] = {"words": 6, "states": 1}


@dataclass(frozen=True)
class _Entry:
    """The place of one utterance's compressed block, and the checksum of its content."""

    begin: int
    size: int
    crc32: int


class LatticeStoreWriter:
    """Writes lattices of one kind one by one; nothing can be opened before the block ends without an error.

    `description` (JSON values, for example digests of graph and model) is kept with them.
    """

    def __init__(self, folder: Path, description: dict[str, Any], kind: Kind = "words") -> None:
        self._folder = Path(folder)
        self._description = description
        self._kind: Kind = kind
        self._entries: dict[str, _Entry] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / INDEX).unlink(missing_ok=True)
        self._file: IO[bytes] = open(self._folder / DATA, "wb")  # noqa: SIM115
        self._position = self._file.write(_HEADER.pack(_MAGIC, _VERSION, 0))

    def add(self, utterance_id: str, lattice: Lattice | WordLattice) -> None:
        """Append a lattice; ValueError for an id that is there already, one of another kind or one with a fault."""
        if utterance_id in self._entries:
            raise ValueError(f"{utterance_id} is in the store already")
        if not isinstance(lattice, _KINDS[self._kind]):
            raise ValueError(f"{utterance_id}: not a lattice of {self._kind}")
        fault = lattice.fault()
        if fault:
            raise ValueError(f"{utterance_id}: {fault}")
        content = _packed(_word_columns(lattice) if isinstance(lattice, WordLattice) else _state_columns(lattice))
        block = zlib.compress(content, _COMPRESSION[self._kind])
        self._file.write(block)
        self._entries[utterance_id] = _Entry(self._position, len(block), zlib.crc32(content))
        self._position += len(block)

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        return self._position

    def __enter__(self) -> "LatticeStoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._file.close()
        if kind is not None:
            (self._folder / DATA).unlink(missing_ok=True)
            return
        entries = {i: [e.begin, e.size, e.crc32] for i, e in self._entries.items()}
        write_json(self._folder / INDEX, {"version": _VERSION, "kind": self._kind, "bytes": self._position,
                                          "description": self._description, "lattices": entries})


class LatticeStore:
    """Lattices by utterance id, read from disk when asked for; `kind` and `description` are as their writer said."""

    def __init__(self, path: Path, content: Any, entries: dict[str, _Entry], kind: Kind,
                 description: dict[str, Any]) -> None:
        self._path, self._content, self._entries = path, content, entries
        self.kind: Kind = kind
        self.description = description
        self.num_words: int | None = None  # of the table of words, where it is known
        self._checked: set[str] = set()

    @staticmethod
    def open(folder: Path) -> "LatticeStore":
        """Open what a LatticeStoreWriter left in `folder`; missing or damaged files raise InputError."""
        index = read_json(Path(folder) / INDEX)
        path = Path(folder) / DATA
        with parsing(Path(folder) / INDEX, "index of lattices", "decode again"):
            if index["version"] != _VERSION:
                raise InputError(f"{folder}: lattices of version {index['version']}, expected {_VERSION}; decode again")
            entries = {i: _Entry(*map(int, values)) for i, values in index["lattices"].items()}
            size, description, kind = int(index["bytes"]), dict(index["description"]), index["kind"]
            if kind not in _KINDS:
                raise ValueError(f"lattices of {kind!r}")
        if file_size(path) < _HEADER.size:
            raise InputError(f"{path}: damaged: less than the header of a lattice store; decode again")
        with open_file(path) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(content) != size or _HEADER.unpack(content[: _HEADER.size])[:2] != (_MAGIC, _VERSION):
            raise InputError(f"{path}: damaged: {len(content)} bytes, expected {size} with the header of a lattice "
                             "store; decode again")
        return LatticeStore(path, content, entries, kind, description)

    @property
    def ids(self) -> list[str]:
        return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, utterance_id: str) -> Lattice | WordLattice:
        """The lattice; KeyError for an unknown id, InputError where its block is damaged."""
        entry = self._entries[utterance_id]
        with parsing(f"{self._path}: {utterance_id}", "lattice", "decode again"):
            block = self._content[max(entry.begin, 0) : max(entry.begin + entry.size, 0)]
            content = _decompressed(block)
            if zlib.crc32(content) != entry.crc32:
                raise ValueError("its checksum differs")
            columns = _unpacked(content)
            lattice = _word_lattice(columns) if self.kind == "words" else _state_lattice(columns)
            if utterance_id not in self._checked:
                self._check(lattice)
                self._checked.add(utterance_id)
        return lattice

    def _check(self, lattice: Lattice | WordLattice) -> None:
        """ValueError where the lattice breaks its rules, which compiled code relies on, or has words of no table."""
        fault = lattice.fault()
        if fault:
            raise ValueError(fault)
        if self.num_words is not None and lattice.words.max(initial=0) >= self.num_words:
            raise ValueError(f"word {lattice.words.max()}, the table beside it has {self.num_words}")

    def word_lattice(self, utterance_id: str) -> WordLattice:
        """The lattice of an utterance; InputError where the store holds lattices of states."""
        lattice = self[utterance_id]
        if isinstance(lattice, WordLattice):
            return lattice
        raise InputError(f"{self._path}: lattices of states, word lattices are needed; decode with lattices: words")


def _decompressed(block: bytes) -> bytes:
    """The content of a block; ValueError where it is larger than any lattice, whatever its checksum."""
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(block, _LARGEST)
    if decompressor.unconsumed_tail or not decompressor.eof:
        raise ValueError("cut off, or larger than a lattice can be")
    return content


def _packed(columns: list[np.ndarray]) -> bytes:
    """Columns one after the other, each with its type and length."""
    return b"".join(part for column in columns
                    for part in (_COLUMN.pack(column.dtype.str[1:].encode(), len(column)), column.tobytes()))


def _unpacked(content: bytes) -> list[np.ndarray]:
    columns: list[np.ndarray] = []
    position = 0
    while position < len(content):
        if len(columns) == _MOST_COLUMNS:
            raise ValueError("more columns than a lattice has")
        code, length = _COLUMN.unpack_from(content, position)
        kind = _CODES[code.decode()]
        columns.append(np.frombuffer(content, kind, length, position + _COLUMN.size))
        position += _COLUMN.size + length * kind.itemsize
    return columns


def _state_columns(lattice: Lattice) -> list[np.ndarray]:
    """The lattice as the narrowest columns that hold it; final costs only of the last frame's states."""
    last = lattice.frames == lattice.num_frames
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


def _state_lattice(columns: list[np.ndarray]) -> Lattice:
    states_per_frame, arc_counts, steps, tids, words, graph_costs, acoustic_costs, last_finals = columns
    frames, offsets, sources = _structure(states_per_frame, arc_counts, len(steps))
    finals = np.full(len(frames), np.inf, np.float32)
    finals[len(frames) - len(last_finals) :] = last_finals
    # Copies, not read-only views: compiled code would be compiled a second time for those.
    return Lattice(frames, offsets, finals, sources + steps.astype(np.int32), tids.astype(np.int32),
                   words.astype(np.int32), graph_costs.copy(), acoustic_costs.copy())


def _word_columns(lattice: WordLattice) -> list[np.ndarray]:
    """The lattice as the narrowest columns that hold it; lengths of runs follow from the frames of the states."""
    finals = np.flatnonzero(np.isfinite(lattice.final_graph_costs))
    return [
        _narrow(np.bincount(lattice.frames)),
        _narrow(np.diff(lattice.offsets)),
        _narrow(lattice.targets - lattice.sources),
        _narrow(lattice.words),
        lattice.graph_costs.astype("<f4"),
        lattice.acoustic_costs.astype("<f4"),
        _narrow(lattice.begins),
        _narrow(np.array([lattice.num_frames])),
        _narrow(finals),
        lattice.final_graph_costs[finals].astype("<f4"),
        lattice.final_acoustic_costs[finals].astype("<f4"),
        _narrow(lattice.final_begins[finals]),
        _narrow(lattice.transition_ids),
    ]


def _word_lattice(columns: list[np.ndarray]) -> WordLattice:
    (states_per_frame, arc_counts, steps, words, graph_costs, acoustic_costs, begins, num_frames, finals,
     graph_of_finals, acoustic_of_finals, begins_of_finals, tids) = columns
    frames, offsets, sources = _structure(states_per_frame, arc_counts, len(steps))
    targets = sources + steps.astype(np.int32)
    begins = begins.astype(np.int32)
    final_graph, final_acoustic = np.full(len(frames), np.inf, np.float32), np.zeros(len(frames), np.float32)
    final_begins, final_ends = np.zeros(len(frames), np.int32), np.zeros(len(frames), np.int32)
    final_graph[finals], final_acoustic[finals] = graph_of_finals, acoustic_of_finals
    final_begins[finals] = begins_of_finals
    final_ends[finals] = final_begins[finals] + int(num_frames[0]) - frames[finals]
    return WordLattice(
        frames, offsets, targets, words.astype(np.int32), graph_costs.copy(), acoustic_costs.copy(), begins,
        begins + frames[targets] - frames[sources], final_graph, final_acoustic, final_begins, final_ends,
        tids.astype(np.int32))


def _structure(
    states_per_frame: np.ndarray, arc_counts: np.ndarray, num_arcs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, arc offsets and the arcs' source states; ValueError where the counts do not fit together."""
    if states_per_frame.sum(dtype=np.int64) != len(arc_counts) or arc_counts.sum(dtype=np.int64) != num_arcs:
        raise ValueError("counts of states and arcs that do not fit together")
    frames = np.repeat(np.arange(len(states_per_frame), dtype=np.int32), states_per_frame)
    offsets = np.concatenate([[0], np.cumsum(arc_counts, dtype=np.int32)]).astype(np.int32)
    return frames, offsets, np.repeat(np.arange(len(frames), dtype=np.int32), arc_counts)


def _narrow(values: np.ndarray) -> np.ndarray:
    highest = int(values.max(initial=0))
    return values.astype("<u1" if highest < 1 << 8 else "<u2" if highest < 1 << 16 else "<u4")
