"""The run directory: finished stages, whether they still hold, and the lock.

A run directory may come from somebody else. Its bookkeeping (`.lock`, `.work`, `logs`, what stages publish) is opened
without following links, and what asr_kd did not write is never removed.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pydantic

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import (
    copy_file,
    hash_file,
    hash_json,
    read_json,
    remove,
    remove_abandoned,
    walk_entries,
    write_json,
)
from asr_kd.core.log import get_logger
from asr_kd.core.opening import kind_of, open_file, resolved
from asr_kd.core.own_folders import FolderKind, is_empty_folder, is_own_folder
from asr_kd.core.stage_changes import describe_changes, is_of_key
from asr_kd.core.stages import Stage, StageReport

logger = get_logger(__name__)

RECORD = "stage.json"
RUN_RECORD = "run.json"
STAGE_FOLDER = FolderKind("output of a stage", (RECORD,), closed=False, keys=("stage", "key", "files"))
_LOCK, _WORK, _LOGS = ".lock", ".work", "logs"
_OUTSIDE_HASHES = "outside.json"
_HOLDER = b"process "  # how the content of a lock begins
# What a fresh disk or a desktop puts into an empty folder.
_NOTHING = {"lost+found"}


class _Record(pydantic.BaseModel):
    """The part of a stage's record that the program relies on; the rest is for people."""

    model_config = pydantic.ConfigDict(extra="allow")

    stage: str
    key: str
    build: str
    inputs: dict[str, str | None]
    files: dict[str, tuple[list[int], str]]
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    bytes: int = pydantic.Field(ge=0, lt=1 << 63)

# Path -> mark and hash of a file outside of the run.
_OUTSIDE = pydantic.TypeAdapter(dict[str, tuple[list[int], str]])


@dataclass(frozen=True)
class StageState:
    """The state of a stage's output: `done` if it can be used, else `reason` says why not.

    `present`: something stands at the stage's place. `inputs_only`: it cannot be used only because an input has a new
    build.
    """

    done: bool
    reason: str
    record: Mapping[str, Any]
    present: bool = True
    inputs_only: bool = False


class RunDirectory:
    """A folder with one sub-folder a finished stage, `run.json`, `logs/`, and a lock while in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def name(self) -> str:
        return resolved(self.path).name

    def output(self, stage: Stage) -> Path:
        return self.path / stage.folder

    def log(self, stage: Stage) -> Path:
        """The stage's log file, in a folder that is there; InputError where a link or the like is in its place."""
        return self._file(_LOGS, f"{stage.folder}.log")

    def check(self) -> None:
        """InputError where the path can be no run directory: a file stands there or above it, or another folder."""
        for place in (self.path, *self.path.parents):
            if place.exists() or place.is_symlink():
                if not place.is_dir():
                    raise InputError(f"{place}: is a file, expected a folder for the run")
                break
        if not self.path.is_dir() or is_run_directory(self.path):
            return
        foreign = sorted(name for name in os.listdir(self.path) if name not in _NOTHING
                         and (not name.startswith(".") or name in (_LOCK, _WORK))
                         and not (name == _LOCK and (self.path / name).lstat().st_size == 0))
        if foreign:
            raise InputError(f"{self.path}: is no run directory, and holds {foreign[0]!r} and other things that asr-kd "
                             "did not write; give a new or empty folder as --run-dir")

    def check_bookkeeping(self, stage: Stage) -> None:
        """InputError where what a run writes beside its stages' output cannot be written; nothing is made.

        Links and the like may not be in the place of the lock and of the stage's log, work and published files. The
        run's record and the hashes of outside files are replaced, where no folder or device is there or linked to.
        """
        self._file(_LOCK, make=False)
        for replaced in (self.path / RUN_RECORD, self.path / _WORK / _OUTSIDE_HASHES):
            if replaced.exists() and not replaced.is_file():
                kind = kind_of(resolved(replaced))
                raise InputError(f"{replaced}: is {kind}, expected a file of the run directory; remove it, and "
                                 "run again")
        self._file(_LOGS, f"{stage.folder}.log", make=False)
        self._folder(_WORK, stage.folder, make=False)
        if stage.kind.publishes is not None:
            self._folder(stage.kind.publishes, make=False)

    def lock(self, command: str) -> None:
        """Take the directory for this process; InputError names the process that holds it, or why it cannot be used."""
        self.check()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / _LOCK, flags, 0o666)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._file(_LOCK)
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); give another --run-dir") from error
        try:
            self._file(_LOCK)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise InputError(
                f"{self.path}: in use by {holder}; wait for it, or give another --run-dir"
            ) from error
        except InputError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _HOLDER + f"{os.getpid()} ({command})\n".encode(errors="backslashreplace"), 0)
        self._lock = descriptor
        remove_abandoned(self.path)

    def unlock(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, _HOLDER + b"none\n", 0)
            os.close(self._lock)
            self._lock = None

    def work(self, stage: Stage, key: str) -> Path:
        """The stage's folder for half-done work of this key; that of other keys is removed.

        What a killed process was about to write goes too, and all of the work where there are links in it: they may
        lead out of the run directory.
        """
        parent = self._folder(_WORK, stage.folder)
        folder = parent / key[:16]
        for other in parent.iterdir():
            if other != folder:
                remove(other)
        if kind_of(folder) not in (None, "a folder") or any(kind_of(p) != "a file" for p in walk_entries(folder)):
            logger.warning("%s: holds links or the like, which asr-kd does not make; this stage's work begins anew",
                           folder)
            remove(folder)
        folder.mkdir(exist_ok=True)
        for base, _, _ in os.walk(folder):
            remove_abandoned(Path(base), files_too=True)
        return folder

    def clear_work(self, stage: Stage) -> None:
        remove(self._folder(_WORK) / stage.folder)

    def make_way(self, stage: Stage) -> Path | None:
        """Move what stands at the stage's place out of the way where it is no output of a stage, or holds files that
        somebody added; where it went to."""
        place = self.output(stage)
        if kind_of(place) is None or (is_own_folder(place, STAGE_FOLDER) and not _added_files(place)):
            return None
        if kind_of(place) == "a folder" and is_empty_folder(place):
            return None
        aside = place.with_name(f"{place.name}.aside-{secrets.token_hex(4)}")
        place.rename(aside)
        return aside

    def outside_hashes(self, stage: Stage, corpus: Path | None) -> dict[str, str]:
        """Hash of every outside file of a stage; a file whose size and times are known is not read again."""
        if stage.kind.outside is None:
            return {}
        hashed_before = self._read_outside()
        hashes: dict[str, str] = {}
        changed = False
        real_corpus = None if corpus is None else resolved(corpus)
        for path in stage.kind.outside(stage.config, corpus):
            name = str(resolved(path))
            mark = _mark(path.stat())
            entry = hashed_before.get(name)
            if entry is None or entry[0] != mark:
                entry = (mark, hash_file(path))
                hashed_before[name] = entry
                changed = True
            inside = [(path, corpus), (Path(name), real_corpus)]  # alike wherever the corpus lies, however it is spelt
            hashes[next((str(file.relative_to(folder)) for file, folder in inside
                         if folder is not None and file.is_relative_to(folder)), name)] = entry[1]
        if changed and self._lock is not None:
            write_json(self._folder(_WORK) / _OUTSIDE_HASHES, hashed_before)
        return hashes

    def state(self, stage: Stage, outside: Mapping[str, str]) -> StageState:
        """Check that the stage's output is there, whole, unchanged, of this key and of its inputs' present builds.

        `outside`: hashes of the stage's outside files.
        """
        folder = self.output(stage)
        kind = kind_of(folder)
        if kind is None:
            return StageState(False, "not there", {}, present=False)
        if kind != "a folder":
            return StageState(False, f"is {kind}, not a folder", {})
        record = read_record(folder)
        if record is None:
            return StageState(False, f"damaged ({RECORD})", {}, present=bool(os.listdir(folder)))
        if not is_of_key(record, stage, outside):
            return StageState(False, describe_changes(record, stage, outside), record)
        change = _first_change(folder, record)
        if change is not None:
            return StageState(False, change, record)
        for name, input_stage in stage.inputs.items():
            if record["inputs"].get(name) != self.build(input_stage):
                reason = f"its input {input_stage.folder} was rebuilt or is gone"
                return StageState(False, reason, record, inputs_only=True)
        return StageState(True, "", record)

    def build(self, stage: Stage) -> str | None:
        """The build that the stage's output is of; None where there is none."""
        record = read_record(self.output(stage))
        return None if record is None else record["build"]

    def records(self) -> dict[Path, dict[str, Any] | None]:
        """Folder -> record of every finished stage, whatever its seed, in the order of their making."""
        folders = [
            folder for folder in self.path.iterdir()
            if kind_of(folder) == "a folder" and kind_of(folder / RECORD) is not None
        ]
        folders.sort(key=lambda folder: ((folder / RECORD).lstat().st_mtime_ns, folder.name))
        return {folder: read_record(folder) for folder in folders}

    def recorded_costs(self) -> dict[str, tuple[float, float]]:
        """Stage folder -> (wall seconds, CPU seconds) of its last build, as the record of the run has them."""
        try:
            stages = read_json(self.path / RUN_RECORD)["stages"]
            return {name: (float(entry["wall_seconds"]), float(entry["cpu_seconds"]))
                    for name, entry in stages.items()}
        except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return {}

    def seal(self, stage: Stage, identity: Mapping[str, Any], folder: Path, facts: Mapping[str, Any]) -> None:
        """Write the record of a stage's output `folder`, as the last thing before it gets its name.

        `identity` is what makes the stage's key, see `Stage.identity`.
        """
        files = {}
        for path in walk_entries(folder):
            if kind_of(path) != "a file":
                raise WorkError(f"{path}: is {kind_of(path)}, but the output of a stage holds files and folders only")
            files[str(path.relative_to(folder))] = [_mark(path.lstat()), hash_file(path)]
        write_json(folder / RECORD, {
            "stage": stage.folder,
            "kind": stage.kind.name,
            "version": stage.kind.version,
            "key": hash_json(identity),
            "build": uuid4().hex,
            "inputs": {name: self.build(input_stage) for name, input_stage in stage.inputs.items()},
            **facts,
            "identity": identity,
            "files": files,
        })

    def published(self, stage: Stage) -> list[Path]:
        """The files of the stage's output that are shown in the run directory itself."""
        if stage.kind.publishes is None or not (self.output(stage) / stage.kind.publishes).is_dir():
            return []
        return sorted((self.output(stage) / stage.kind.publishes).iterdir())

    def publish(self, stage: Stage, before: Iterable[str] = ()) -> None:
        """Show the stage's published files; of the names that an earlier build had `before`, none else stays."""
        if stage.kind.publishes is None:
            return
        target = self._folder(stage.kind.publishes)
        files = self.published(stage)
        for name in set(before) - {file.name for file in files}:
            if kind_of(target / name) in ("a file", "a link"):
                (target / name).unlink()
        for file in files:
            shown = target / file.name
            if kind_of(shown) == "a link":
                shown.unlink()
            if kind_of(shown) != "a file" or hash_file(shown) != hash_file(file):
                copy_file(file, shown)

    def _read_outside(self) -> dict[str, tuple[list[int], str]]:
        """The marks and hashes of outside files that were read before; none where the file is damaged."""
        try:
            entries = _OUTSIDE.validate_python(read_json(self.path / _WORK / _OUTSIDE_HASHES))
        except (InputError, pydantic.ValidationError):
            return {}
        return entries

    def _folder(self, *parts: str, make: bool = True) -> Path:
        """Return a folder of the bookkeeping, made if need be; InputError where a link or the like is in its place.

        With `make` false nothing is made.
        """
        path = self.path
        for part in parts:
            path = path / part
            kind = kind_of(path)
            if kind is None:
                if make:
                    path.mkdir()
            elif kind != "a folder":
                raise InputError(f"{path}: is {kind}, expected a folder of the run directory; remove it, and run "
                                 "again")
        return path

    def _file(self, *parts: str, make: bool = True) -> Path:
        """A file of the bookkeeping that may be written in place, or is not there yet; its folder is made."""
        path = self._folder(*parts[:-1], make=make) / parts[-1]
        kind = kind_of(path)
        if kind is not None and (kind != "a file" or path.lstat().st_nlink > 1):
            kind = "a file with a second name" if kind == "a file" else kind
            raise InputError(f"{path}: is {kind}, expected a file of the run directory alone; remove it, and run again")
        return path


def is_run_directory(path: Path) -> bool:
    """Return True if a run was ever started in the folder; another program's `run.json` or `.lock` is no sign of it."""
    return _may_be_lock(path / _LOCK) or _may_be_run_record(path / RUN_RECORD)


def _may_be_lock(path: Path) -> bool:
    if kind_of(path) != "a file" or path.lstat().st_nlink > 1:
        return kind_of(path) is not None  # refused when the lock is taken
    with open_file(path) as file:
        begin = file.read(len(_HOLDER))
    return begin == _HOLDER or (not begin and kind_of(path.with_name(_WORK)) == "a folder")


def _may_be_run_record(path: Path) -> bool:
    if kind_of(path) != "a file" or path.lstat().st_size == 0:
        return kind_of(path) is not None
    try:
        record = read_json(path)
    except InputError:
        return False
    return isinstance(record, dict) and isinstance(record.get("stages"), dict)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished stage; None where it is absent, damaged, or no file of its own."""
    if kind_of(folder) != "a folder" or kind_of(folder / RECORD) != "a file":
        return None
    try:
        record = read_json(folder / RECORD)
        return _Record.model_validate(record).model_dump()
    except (InputError, pydantic.ValidationError):
        return None


def read_status(directory: Path) -> list[StageReport]:
    """Report the stages in a run directory, without its recipe: finished ones in order of their making, half-done ones.

    Raises InputError where `directory` is no run directory.
    """
    directory = Path(directory)
    if not directory.is_dir() or not is_run_directory(directory):
        raise InputError(f"{directory}: not a run directory (no run was ever started in it)")
    records = RunDirectory(directory).records()
    reports = []
    stale: set[str] = set()
    builds = {record["build"] for record in records.values() if record is not None}
    for folder, record in records.items():
        if record is None:
            reports.append(StageReport.of(folder.name, "changed", f"damaged ({RECORD})", {}))
            continue
        change = _first_change(folder, record)
        if change is None and (set(record["inputs"].values()) - builds or set(record["inputs"].values()) & stale):
            change = "an input was rebuilt or changed"
        if change is not None:
            stale.add(record["build"])
        reports.append(StageReport.of(folder.name, "changed" if change else "done before", change or "", record))
    work = directory / _WORK
    begun = sorted(folder.name for folder in work.iterdir() if folder.is_dir()) if kind_of(work) == "a folder" else []
    reports += [StageReport.of(name, "half done", "", {}) for name in begun if name not in {r.stage for r in reports}]
    return reports


def _added_files(folder: Path) -> list[str]:
    """Names below a stage's folder that its record does not list; none where the record is damaged."""
    record = read_record(folder)
    if record is None:
        return []
    return sorted({str(p.relative_to(folder)) for p in walk_entries(folder)} - {RECORD, *record["files"]})


def _first_change(folder: Path, record: Mapping[str, Any]) -> str | None:
    """Describe the first difference from the record; None where every file is as it was written."""
    present = {str(p.relative_to(folder)): p for p in walk_entries(folder)}
    present.pop(RECORD, None)
    recorded = record["files"]
    for name in sorted(set(recorded) ^ set(present)):
        return f"{name} {'is missing' if name in recorded else 'was added'}"
    for name, (mark, digest) in recorded.items():
        path = present[name]
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode):
            return f"{name} is {kind_of(path)}, not a file"
        if _mark(facts) != mark and hash_file(path) != digest:
            return f"{name} was changed"
    return None


def _mark(facts: os.stat_result) -> list[int]:
    """Size, modification and change time: a file with the same mark is taken for unchanged."""
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
