"""Folders that asr_kd wrote, told from all others: only those may be replaced or removed."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.opening import kind_of, open_file, resolved

# A file in every folder that `atomic_folder` makes. It names the folder's kind and is no part of its content.
MARKER = ".asr_kd"
_LONGEST_RECORD = 1 << 28


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that is written whole.

    `name` is what messages call it. `files` are names that every folder of this kind holds: folders of versions
    before the marker are known by them. Where `closed`, such a folder holds nothing else; where not, the first
    of the files, if `keys` are given, is a JSON object that has them.
    """

    name: str
    files: tuple[str, ...]
    closed: bool = True
    keys: tuple[str, ...] = ()


def mark_folder(folder: Path, kind: str) -> None:
    """Write into `folder`, which has no marker, that it is one of ours, of the kind of this name."""
    descriptor = os.open(folder / MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind}) + "\n")


def marked_kind(folder: Path) -> str | None:
    """Return the kind that a folder's marker names; None where `folder` is a link, no folder, or has no marker."""
    marker = folder / MARKER
    if kind_of(folder) != "a folder" or kind_of(marker) != "a file":
        return None
    kind = _json_object(marker, 4096).get("kind")
    return kind if isinstance(kind, str) else None


def _json_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """The JSON object in a file; an empty one where the file holds anything else, or more."""
    try:
        with open_file(path) as file:
            value = json.loads(file.read(most_bytes))
    except (InputError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def is_own_folder(folder: Path, kind: FolderKind) -> bool:
    """Return True if `folder` (itself, not a link to it) is of this kind and asr_kd wrote it."""
    if kind_of(folder) != "a folder":
        return False
    marked = marked_kind(folder)
    if marked is not None:
        return marked == kind.name
    names = set(os.listdir(folder))
    if not names.issuperset(kind.files):
        return False
    if kind.closed:
        return names == set(kind.files)
    return not kind.keys or _json_object(folder / kind.files[0], _LONGEST_RECORD).keys() >= set(kind.keys)


def is_empty_folder(folder: Path) -> bool:
    """Return True if a folder holds nothing but, at most, our marker."""
    return set(os.listdir(folder)) <= {MARKER}


def check_replaceable(path: Path, kind: FolderKind) -> None:
    """InputError where something stands at `path` that is neither an empty folder nor one of this kind that we wrote.

    Writers replace whole folders: a mistyped path must not cost anybody a run or a corpus.
    """
    found = kind_of(path)
    if found is None:
        return
    if found != "a folder":
        raise InputError(f"{path}: is {found}, and is no {kind.name}; give a new folder, or move it away")
    if resolved(path) == Path.cwd():
        raise InputError(f"{path}: is the folder that this command runs in, which cannot be replaced; give another")
    if not is_empty_folder(path) and not is_own_folder(path, kind):
        raise InputError(f"{path}: exists and is no {kind.name}; give a new folder, or move it away")
