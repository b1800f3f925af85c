"""Files and folders that are whole or absent, and their hashes."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from asr_kd.core.disk_space import disk_full_error
from asr_kd.core.errors import InputError
from asr_kd.core.opening import kind_of, open_file, reading, require_file
from asr_kd.core.own_folders import MARKER, FolderKind, check_replaceable, mark_folder, marked_kind
from asr_kd.core.text_tables import read_lines

# A temporary file or folder stands beside its target NAME as .NAME.tmp-0123456789ab.
_TEMPORARY = re.compile(r"\.(?P<target>.+)\.tmp-[0-9a-f]{12}", re.DOTALL)
_LONGEST_JSON_LINE = 1 << 28
# Half of a surrogate pair: JSON can say it, no file can hold it.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file object whose content appears at `path` when the block ends without an error.

    `mode` is "w" (UTF-8 text) or "wb". Written to a sibling, flushed to disk, renamed; a link at `path` is replaced,
    not followed. What is no regular file at `path`, or a file where its folder should be, raises InputError; a full
    disk WorkError.
    """
    path = Path(path)
    if path.exists():
        require_file(path)
    _make_parents(path)
    remove_abandoned(path.parent, path.name)
    with _temporary_file(path) as (descriptor, temporary):
        with open(descriptor, mode, encoding=None if "b" in mode else "utf-8", closefd=False) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    fsync(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, kind: FolderKind) -> Iterator[Path]:
    """A temporary sibling folder that takes the place of `path` when the block ends without an error.

    A folder of this kind that asr_kd wrote, or an empty one, is replaced; anything else at `path` raises InputError,
    before the block begins. A full disk raises WorkError. What a killed process left of an earlier attempt goes first.
    """
    path = Path(path)
    _make_parents(path)
    check_replaceable(path, kind)
    remove_abandoned(path.parent, path.name)
    with _temporary_folder(path, kind) as temporary:
        yield temporary
        fsync_tree(temporary)
        check_replaceable(path, kind)
        _put_in_place(temporary, path, kind)
    fsync(path.parent)


def remove_abandoned(folder: Path, name: str | None = None, files_too: bool = False) -> None:
    """Remove the temporary files and folders for the target `name` that processes which are no more left in `folder`.

    Without a name those of any target go: folders, and with `files_too` files, where all of `folder` is ours. What
    someone still writes is locked, and stays, as does any folder without our marker.
    """
    for entry in list(os.scandir(folder)):
        temporary = _TEMPORARY.fullmatch(entry.name)
        if temporary is None or name not in (None, temporary["target"]):
            continue
        path = Path(entry.path)
        with contextlib.suppress(FileNotFoundError, BlockingIOError, PermissionError):
            if entry.is_dir(follow_symlinks=False):
                with _locked(path, wait=False):
                    _remove_own(path)
            elif (name is not None or files_too) and entry.is_file(follow_symlinks=False):
                with _locked(path, wait=False):
                    path.unlink(missing_ok=True)


def _remove_own(folder: Path) -> None:
    """Remove a temporary folder that is ours, or empty because its process was killed at once."""
    if marked_kind(folder) is not None:
        shutil.rmtree(folder, ignore_errors=True)
    elif not os.listdir(folder):
        folder.rmdir()


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[int, Path]]:
    """The descriptor and path of a new file beside `path`, locked; it is removed where the block ends in an error."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        temporary = _temporary_path(path)
        descriptor = os.open(temporary, flags, 0o666)  # the kernel applies the umask
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():  # nobody took it for abandoned before it was locked
            break
        os.close(descriptor)
    try:
        yield descriptor, temporary
    except BaseException as error:
        full = disk_full_error(error, path)
        temporary.unlink(missing_ok=True)
        if full is not None:
            raise full from error
        raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary_folder(path: Path, kind: FolderKind) -> Iterator[Path]:
    """A new folder beside `path`, locked and marked; it is removed where the block ends in an error."""
    while True:
        temporary = _temporary_path(path)
        temporary.mkdir()
        with contextlib.suppress(FileNotFoundError):
            descriptor = _lock(temporary, wait=True)
            if temporary.exists():  # nobody took it for abandoned before it was locked
                break
            os.close(descriptor)
    try:
        mark_folder(temporary, kind.name)
        yield temporary
    except BaseException as error:
        full = disk_full_error(error, path)
        shutil.rmtree(temporary, ignore_errors=True)
        if full is not None:
            raise full from error
        raise
    finally:
        os.close(descriptor)


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(6)}")


def _put_in_place(temporary: Path, path: Path, kind: FolderKind) -> None:
    """Give `temporary` the name `path`; an old folder steps aside, and is removed when the new one stands."""
    if kind_of(path) is None or not os.listdir(path):
        os.replace(temporary, path)
        return
    marked = marked_kind(path)
    if marked is None:
        mark_folder(path, kind.name)  # should this process be killed now, the next one knows whose folder it is
    elif marked != kind.name:  # the empty output folder of a stage stays one
        (temporary / MARKER).unlink()
        mark_folder(temporary, marked)
    aside = _temporary_path(path)
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """One process after the other, by the lock of a file, which is made and stays."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666))
    with _locked(path, wait=True):
        yield


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of a file or folder; it ends with the process at the latest.

    Without `wait` a lock that is taken raises BlockingIOError.
    """
    descriptor = _lock(path, wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, wait: bool) -> int:
    """Open and lock a file or folder; closing the descriptor gives the lock back."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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

    InputError: missing, not UTF-8, not JSON, a number that is not finite, a key given twice, half of a surrogate pair
    in a text.
    """
    text = "".join(line + "\n" for _, line in read_lines(path, _LONGEST_JSON_LINE))
    try:
        value = json.loads(text, parse_constant=_refuse_number, parse_float=_finite_float,
                           object_pairs_hook=_without_repeats)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON that can be read ({error})") from error


def _refuse_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated!r} is given twice")
    return value


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


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a regular file; InputError where `source` is none."""
    with open_file(source) as file, atomic_file(target, "wb") as copy:
        shutil.copyfileobj(file, copy)


def list_files(folder: Path) -> list[Path]:
    """All regular files below `folder`, sorted; links to folders are not followed, our folders' markers left out."""
    return [path for path in walk_entries(folder) if path.is_file()]


def walk_entries(folder: Path) -> list[Path]:
    """List everything below `folder` but folders and our markers, sorted; links and irregular files are included."""
    entries = []
    for base, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        entries += [Path(base, name) for name in (*names, *links) if name != MARKER]
    return sorted(entries)


def fsync_tree(folder: Path) -> None:
    """Flush every regular file below `folder`, and the folders, to disk."""
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if kind_of(path) == "a file":
                fsync(path)
        fsync(Path(base))


def fsync(path: Path) -> None:
    """Flush a file, what was written to it through a memory map too, or a folder; other threads go on meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parents(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path.parent}: is no folder, so that {path.name} cannot be written there") from error
