"""Read a part of a file as a file of its own, with a header laid over what stands there."""

import io
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class View:
    """Bytes `begin` to `end` of a file behind `prefix`, with `patches` (offset in the file, bytes) laid over them."""

    begin: int
    end: int
    prefix: bytes = b""
    patches: tuple[tuple[int, bytes], ...] = ()


class ViewReader(io.RawIOBase):
    """A View as a file for reading, such as libsndfile can be given."""

    def __init__(self, path: Path, view: View) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self._view = view
        self._size = len(view.prefix) + view.end - view.begin
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all that are left where it is negative."""
        left = max(0, self._size - self._position)
        size = left if size < 0 else min(size, left)
        content = self._view.prefix[self._position : self._position + size]
        if size > len(content):
            offset = self._view.begin + self._position + len(content) - len(self._view.prefix)
            content += self._patched(offset, size - len(content))
        self._position += len(content)
        return content

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _patched(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        content = bytearray(self._file.read(size))
        for begin, patch in self._view.patches:
            first, last = max(begin, offset), min(begin + len(patch), offset + len(content))
            if first < last:
                content[first - offset : last - offset] = patch[first - begin : last - begin]
        return bytes(content)
