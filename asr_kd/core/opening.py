"""Opening files that others wrote: only regular files are opened, and nothing is waited for."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from asr_kd.core.errors import InputError

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: "a file",
}


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading, through links; the caller closes it.

    InputError: no such file, a link to nothing or in a circle, a folder, a pipe, a socket, a device, no permission.
    Reading a pipe or a device could wait for ever.
    """
    path = Path(path)
    require_file(path)
    with reading(path):
        descriptor = os.open(path, _READ | os.O_NONBLOCK)  # a pipe that took the file's place is not waited for
        try:
            _require_regular(path, os.fstat(descriptor))
        except InputError:
            os.close(descriptor)
            raise
        return open(descriptor, "rb")


def require_file(path: Path) -> None:
    """InputError where `path` is no regular file, for libraries that open by path; see `open_file`."""
    with reading(path):
        _require_regular(path, os.stat(path))


def resolved(path: Path) -> Path:
    """Follow the links of a path as far as they lead, also where they lead in a circle.

    InputError where it is no path (it holds a NUL).
    """
    with reading(path):
        return Path(os.path.realpath(path))


def kind_of(path: Path) -> str | None:
    """Name what stands at `path` itself ("a file", "a folder", "a link", "a named pipe"); None for nothing."""
    try:
        return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "no regular file")
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the system's refusals to open or read `path` into an InputError that names it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = f"is a link to {os.readlink(path)}, where there is nothing" if kind_of(path) == "a link" else None
        raise InputError(f"{path}: {missing or 'no such file'}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, expected a file") from error
    except PermissionError as error:
        raise InputError(f"{path}: may not be read (permission denied)") from error
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise InputError(f"{str(path)!r}: is no path (it holds a NUL)") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path}: is a link that leads in a circle") from error
        if error.errno is None:  # of a library, such as gzip's
            raise
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _require_regular(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "no regular file")
        raise InputError(f"{path}: is {kind}, expected a file")
