"""Reading ahead in a file, compressed or not, of which the length of the next thing is not known before."""

import contextlib
import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from asr_kd.core.errors import InputError
from asr_kd.core.opening import open_file
from asr_kd.core.reading import parsing

_CHUNK = 1 << 20
MOST_BYTES = 1 << 28  # of one lattice


class ByteStream:
    """The bytes of a file from some position on; memory for what was looked at and not yet passed."""

    def __init__(self, path: Path, file: IO[bytes], size: int | None) -> None:
        self.path = path
        self._file, self._size = file, size
        self._buffer = b""
        self._begin = 0
        self.position = 0

    def look(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end of the file, without passing them; InputError: damaged gzip."""
        missing = count - (len(self._buffer) - self._begin)
        if missing > 0:
            parts = [self._buffer[self._begin :]]
            while missing > 0 and (part := self._read(min(max(missing, _CHUNK), 64 * _CHUNK))):
                parts.append(part)
                missing -= len(part)
            self._buffer, self._begin = b"".join(parts), 0
        return self._buffer[self._begin : self._begin + count]

    def lacks(self, count: int) -> bool:
        """Return True if the file is known to end before the next `count` bytes do."""
        return self._size is not None and self.position + count > self._size

    def skip(self, count: int) -> None:
        """Pass bytes that were looked at."""
        self._begin += count
        self.position += count

    def through(self, end: re.Pattern[bytes]) -> bytes | None:
        """The next bytes up to where `end` first matches, the match included, without passing them; None: nowhere."""
        size = _CHUNK >> 4
        while True:
            content = self.look(size)
            if match := end.search(content):
                return content[: match.end()]
            if len(content) < size:
                return None
            if size > MOST_BYTES:
                raise InputError(f"{self.path}: byte {self.position}: a lattice of more than {MOST_BYTES >> 20} MiB")
            size *= 2

    def seek(self, position: int) -> None:
        """Go to a byte of an uncompressed file."""
        self._file.seek(position)
        self._buffer, self._begin, self.position = b"", 0, position

    def _read(self, count: int) -> bytes:
        with parsing(self.path, "gzip file" if self._size is None else "archive"):
            return self._file.read(count)


@contextlib.contextmanager
def open_stream(path: Path) -> Iterator[ByteStream]:
    """The content of a file, unpacked where its name ends in `.gz`; what cannot be opened raises InputError."""
    with open_file(path) as file:
        if path.suffix == ".gz":
            with gzip.open(file, "rb") as unpacked:
                yield ByteStream(path, cast(IO[bytes], unpacked), None)
        else:
            yield ByteStream(path, file, os.fstat(file.fileno()).st_size)


def line_at(path: Path, position: int) -> int:
    """The line, from 1, of a byte of a file's (unpacked) content."""
    with open_stream(path) as stream:
        lines = 1
        while stream.position < position:
            content = stream.look(min(_CHUNK, position - stream.position))
            lines += content.count(b"\n")
            stream.skip(len(content))
        return lines
