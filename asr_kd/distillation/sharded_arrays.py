"""Arrays of equally many rows on disk, in files of a bounded size, memory-mapped: what a cache of frames is made of."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError
from asr_kd.core.files import fsync


@dataclass(frozen=True, slots=True)
class Column:
    """One array: its name, its little-endian type ("<u2"), its values a row (0: one, without an axis of its own)."""

    name: str
    dtype: str
    width: int = 0

    @property
    def row_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * max(self.width, 1)


class ShardedArrays:
    """Columns of `num_rows` rows; shard i has the rows from i · shard_rows on, a file `NAME-0000i.u2` for each column.

    Memory-mapped: what is read is paged in and out again, so size is a matter of disk. mode: w+ makes the files and
    has the disk keep room for them, OSError where it has none; r+ and r open them, InputError where one is missing or
    of another size.
    """

    def __init__(self, folder: Path, columns: list[Column], num_rows: int, shard_rows: int, mode: Any) -> None:
        self.columns, self.num_rows, self.shard_rows = columns, num_rows, shard_rows
        self._shards = [
            [_map(folder, column, index, min(shard_rows, num_rows - index * shard_rows), mode) for column in columns]
            for index in range(-(-num_rows // shard_rows))]

    @property
    def num_bytes(self) -> int:
        return self.num_rows * sum(column.row_bytes for column in self.columns)

    def gather(self, rows: NDArray[np.int64]) -> list[NDArray[Any]]:
        """The columns' values at `rows` (n,), in any order."""
        if len(self._shards) == 1:
            return [array[rows] for array in self._shards[0]]
        places, local = np.divmod(rows, self.shard_rows)
        found = [np.empty((len(rows), *array.shape[1:]), array.dtype) for array in self._shards[0]]
        for place in np.unique(places):
            chosen = places == place
            for values, array in zip(found, self._shards[place], strict=True):
                values[chosen] = array[local[chosen]]
        return found

    def write(self, begin: int, values: list[NDArray[Any]]) -> None:
        """Write rows from `begin` on, which lie in one shard; several threads may write rows of their own."""
        place, first = divmod(begin, self.shard_rows)
        for array, rows in zip(self._shards[place], values, strict=True):
            array[first:first + len(rows)] = rows

    def flush(self, row: int) -> None:
        """Bring the shard of a row to disk; other threads go on meanwhile."""
        for array in self._shards[row // self.shard_rows]:
            fsync(Path(str(array.filename)))

    def checksum(self, begin: int, end: int) -> int:
        """CRC-32 of the rows from begin to end, which lie in one shard, column by column."""
        place, first = divmod(begin, self.shard_rows)
        value = 0
        for array in self._shards[place]:
            value = zlib.crc32(np.ascontiguousarray(array[first:first + end - begin]).data.cast("B"), value)
        return value


def _map(folder: Path, column: Column, index: int, rows: int, mode: Any) -> np.memmap[Any, Any]:
    path = folder / f"{column.name}-{index:05d}.{np.dtype(column.dtype).str[1:]}"
    expected = rows * column.row_bytes
    if mode == "w+":
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, expected)  # a disk that is full later on would kill the process
        mode = "r+"
    else:
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            found = "missing" if size is None else f"{size} bytes"
            raise InputError(f"{path}: {found}, expected {expected} bytes; remove {folder} and make it again")
    return np.memmap(path, column.dtype, mode, shape=(rows, column.width) if column.width else (rows,))
