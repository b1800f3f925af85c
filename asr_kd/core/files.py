"""Files and folders that are whole or absent, and their hashes."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from asr_kd.core.errors import InputError
from asr_kd.core.opening import open_file, reading
from asr_kd.core.text_tables import read_lines as read_lines

_TEMPORARY = ".tmp-"
_LONGEST_JSON_LINE = 1 << 28
# Half of a surrogate pair: JSON can say it, no file can hold it.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file object whose content appears at `path` when the block ends without an error.

    `mode` is "w" (UTF-8 text) or "wb". Written to a sibling, flushed to disk, renamed. A folder at `path`, or a file
    where its folder should be, raises InputError.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file")
    _make_parents(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(descriptor, 0o666 & ~_umask())
        with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling folder that takes the place of `path` when the block ends without an error.

    A folder that already stands at `path` is replaced. What a killed process left of an earlier attempt goes first.
    """
    path = Path(path)
    _make_parents(path)
    remove_abandoned(path.parent, path.name)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}{_TEMPORARY}"))
    try:
        with _locked(temporary, wait=True):
            os.chmod(temporary, 0o777 & ~_umask())
            yield temporary
            fsync_tree(temporary)
            remove(path)
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync(path.parent)


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove the temporary folders that processes which are no more left in `folder` (only those for `name`).

    A folder that someone still writes is locked, and stays.
    """
    for entry in list(os.scandir(folder)):
        owner, found, _ = entry.name.rpartition(_TEMPORARY)
        if not found or name not in (None, owner.removeprefix(".")) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(FileNotFoundError, BlockingIOError), _locked(Path(entry.path), wait=False):
            shutil.rmtree(entry.path, ignore_errors=True)


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """One process after the other, by the lock of a file, which is made and stays."""
    path.touch()
    with _locked(path, wait=True):
        yield


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[None]:
    """The lock of a file or folder, which ends with the process at the latest; without `wait` BlockingIOError if it is
    taken."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def link_or_copy(source: str, target: str) -> None:
    """The same file under another name, where the file system has that, or else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def remove(path: Path) -> None:
    """Remove a file or a folder; what is absent is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinities are refused (ValueError)."""
    with atomic_file(path) as file:
        json.dump(value, file, indent=1, sort_keys=False, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    InputError: missing, not UTF-8, not JSON, a number that is not finite, half of a surrogate pair in a text.
    """
    text = "".join(line + "\n" for _, line in read_lines(path, _LONGEST_JSON_LINE))
    try:
        value = json.loads(text, parse_constant=_refuse_number, parse_float=_finite_float)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON that can be read ({error})") from error


def _refuse_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits} is too large")
    return value


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits; InputError where it is no regular file."""
    with reading(path), open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_bytes(content: bytes) -> str:
    """SHA-256 of `content`, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hash_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def list_files(folder: Path) -> list[Path]:
    """All files below `folder`, sorted, links not followed."""
    return sorted(Path(base) / name for base, _, names in os.walk(folder) for name in names)


def fsync_tree(folder: Path) -> None:
    """Flush every file below `folder`, and the folders, to disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            fsync(Path(base, name))
        fsync(Path(base))


def fsync(path: Path) -> None:
    """Flush a file, what was written to it through a memory map too, or a folder; other threads go on meanwhile."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parents(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path.parent}: is no folder, so that {path.name} cannot be written there") from error


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
