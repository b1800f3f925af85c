"""Tell a full disk from all other faults, whatever error a library makes of it."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from asr_kd.core.errors import InputError, WorkError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(WorkError):
    """A disk or a quota is full: `where` it was written, and the system's `reason`."""

    def __init__(self, where: object, reason: str) -> None:
        super().__init__(f"{where or 'output'}: disk full ({reason}); free space and run the same command again")
        self.reason = reason


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Raise `DiskFullError` in place of whatever a library raises in the block because the disk of `path` is full."""
    try:
        yield
    except Exception as error:
        full = disk_full_error(error, path)
        if full is None:
            raise
        raise full from error


def disk_full_error(error: BaseException, path: Path | None = None) -> DiskFullError | None:
    """Return the error to raise in place of `error`, met in writing `path`; None where no disk is full.

    A full disk is known by an errno anywhere in the chain of errors, by its message (libraries turn errno into
    text), or because there is no space left where `path` was being written.
    """
    if not isinstance(error, Exception):
        return None
    for link in _chain(error):
        if isinstance(link, DiskFullError):
            return link if path is None else DiskFullError(path, link.reason)
        if isinstance(link, OSError) and link.errno in _FULL:
            return DiskFullError(_where(path, link.filename), os.strerror(link.errno))
        for number in _FULL:
            if os.strerror(number) in str(link):
                return DiskFullError(path, os.strerror(number))
    if isinstance(error, InputError):
        return None
    for place in (path, Path(tempfile.gettempdir())) if path is not None else ():
        if _free_bytes(place) == 0:
            return DiskFullError(place, os.strerror(errno.ENOSPC))
    return None


def _where(path: Path | None, filename: object) -> object:
    """The file that could not be written, unless it is a temporary one beside or below `path`."""
    if path is None or filename and not str(filename).startswith(f"{path.parent}{os.sep}"):
        return filename
    return path


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _free_bytes(path: Path) -> int | None:
    """Bytes that may still be written where `path` is, or would be; None where the file system does not say."""
    for folder in (path, *path.parents):
        try:
            facts = os.statvfs(folder)
        except OSError:
            continue
        return None if facts.f_blocks == 0 else facts.f_bavail * facts.f_frsize
    return None
