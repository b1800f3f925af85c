"""Kaldi's scp files: which archive, and which byte of it, holds an utterance."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.opening import resolved
from asr_kd.core.text_tables import first_field, read_table_lines


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """`KEY FILE:OFFSET`, read at `where` (file:line); a file without an offset begins at byte 0."""

    where: str
    key: str
    archive: Path
    offset: int


_DIGITS = 18  # of an offset: more than any file has bytes


def read_script(path: Path, root: Path | None = None) -> Iterator[ScriptLine]:
    """The lines of an scp file, in its order. Paths are relative to `root` (default: its own folder).

    InputError, with file and line: no key or no file, pipes, ranges of rows, a path that leads out of `root`.
    """
    path = Path(path)
    root = resolved(root or path.parent)
    for number, line in read_table_lines(path):
        where = f"{path}:{number}"
        key, target = first_field(line)
        if not key or not target:
            raise InputError(f"{where}: expected a key and FILE:OFFSET")
        if target.startswith("|") or target.endswith("|"):
            raise InputError(f"{where}: {key}: pipes are not run; write the archive to a file")
        if target.endswith("]"):
            raise InputError(f"{where}: {key}: ranges of rows are not read; copy them with Kaldi's copy-feats")
        name, colon, offset = target.rpartition(":")
        if not colon or not (offset.isascii() and offset.isdigit()):
            name, offset = target, "0"
        if len(offset) > _DIGITS:
            raise InputError(f"{where}: {key}: no archive has an offset of {len(offset)} digits")
        archive = resolved(root / name)
        if not archive.is_relative_to(root):
            raise InputError(f"{where}: {key}: {name} is outside {root}; name a root that contains it")
        yield ScriptLine(where, key, archive, int(offset))


def write_script(path: Path, archive: Path, offsets: Iterable[tuple[str, int]]) -> None:
    """Write (key, offset) of one archive as an scp file, atomically.

    The archive is named relative to the scp's own folder where both are in one, so that the folder can be moved.
    """
    path, archive = Path(path), Path(archive)
    name = archive.name if resolved(path.parent) == resolved(archive.parent) else str(resolved(archive))
    with atomic_file(path) as file:
        file.writelines(f"{key} {name}:{offset}\n" for key, offset in offsets)
