"""The run directory: finished stages, whether they still hold, and the lock."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pydantic

from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_file, list_files, read_json, remove, remove_abandoned, write_json
from asr_kd.core.stages import Stage, StageReport

RECORD = "stage.json"


class _Record(pydantic.BaseModel):
    """What must hold of a stage's record for it to be used; the rest is for people."""

    model_config = pydantic.ConfigDict(extra="allow")

    stage: str
    key: str
    build: str
    inputs: dict[str, str | None]
    files: dict[str, tuple[list[int], str]]
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    bytes: int


@dataclass(frozen=True)
class StageState:
    """Whether a stage's output can be used; `reason` says why not ("" when it can)."""

    done: bool
    reason: str
    record: Mapping[str, Any]


class RunDirectory:
    """A folder with one sub-folder a finished stage, `run.json`, `logs/`, and a lock while in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._outside_path = path / ".work" / "outside.json"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def output(self, stage: Stage) -> Path:
        return self.path / stage.folder

    def log(self, stage: Stage) -> Path:
        return self.path / "logs" / f"{stage.folder}.log"

    def check(self) -> None:
        """InputError where the path can be no folder, because a file stands there or above it."""
        for place in (self.path, *self.path.parents):
            if place.exists() or place.is_symlink():
                if not place.is_dir():
                    raise InputError(f"{place}: is a file, expected a folder for the run")
                return

    def lock(self, command: str) -> None:
        """Take the directory for this process; InputError names the process that holds it, or why it cannot be used."""
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); give another --run-dir") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise InputError(
                f"{self.path}: in use by {holder}; wait for it, or give another --run-dir"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} ({command})\n".encode(), 0)
        self._lock = descriptor
        remove_abandoned(self.path)

    def unlock(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def work(self, stage: Stage, key: str) -> Path:
        """The stage's folder for half-done work of this key; that of other keys is removed."""
        parent = self.path / ".work" / stage.folder
        folder = parent / key[:16]
        if parent.is_dir():
            for other in parent.iterdir():
                if other != folder:
                    remove(other)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_work(self, stage: Stage) -> None:
        remove(self.path / ".work" / stage.folder)

    def outside_hashes(self, stage: Stage, corpus: Path | None) -> dict[str, str]:
        """Hash of every outside file of a stage; a file whose size and times are known is not read again."""
        if stage.kind.outside is None:
            return {}
        known = self._read_outside()
        hashes: dict[str, str] = {}
        changed = False
        for path in stage.kind.outside(stage.config, corpus):
            name = str(path.resolve())
            mark = _mark(path)
            entry = known.get(name)
            if entry is None or entry[0] != mark:
                entry = [mark, hash_file(path)]
                known[name] = entry
                changed = True
            inside = corpus is not None and path.is_relative_to(corpus)
            hashes[str(path.relative_to(corpus)) if inside and corpus else name] = entry[1]
        if changed and self._lock is not None:
            write_json(self._outside_path, known)
        return hashes

    def state(self, stage: Stage, key: str) -> StageState:
        """Whether the stage's output is there, whole, unchanged, of this key and of its inputs' present builds."""
        folder = self.output(stage)
        if not folder.is_dir():
            return StageState(False, "not there", {})
        record = read_record(folder)
        if record is None:
            return StageState(False, f"damaged ({RECORD})", {})
        if record["key"] != key:
            return StageState(False, "settings, code or outside files changed", record)
        for name, input_stage in stage.inputs.items():
            if record["inputs"].get(name) != self.build(input_stage):
                return StageState(False, f"its input {input_stage.folder} was rebuilt or is gone", record)
        change = _first_change(folder, record)
        return StageState(change is None, change or "", record)

    def build(self, stage: Stage) -> str | None:
        """The build that the stage's output is of; None where there is none."""
        record = read_record(self.output(stage))
        return None if record is None else record["build"]

    def records(self) -> dict[Path, dict[str, Any] | None]:
        """Folder -> record of every finished stage, whatever its seed, in the order of their making."""
        folders = [folder for folder in self.path.iterdir() if (folder / RECORD).exists()]
        folders.sort(key=lambda folder: ((folder / RECORD).stat().st_mtime_ns, folder.name))
        return {folder: read_record(folder) for folder in folders}

    def seal(self, stage: Stage, key: str, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write the record of a stage's output `folder`, as the last thing before it gets its name."""
        files = {str(p.relative_to(folder)): [_mark(p), hash_file(p)] for p in list_files(folder)}
        write_json(folder / RECORD, {
            "stage": stage.folder,
            "kind": stage.kind.name,
            "version": stage.kind.version,
            "key": key,
            "build": uuid4().hex,
            "inputs": {name: self.build(input_stage) for name, input_stage in stage.inputs.items()},
            **facts,
            "files": files,
        })

    def published(self, stage: Stage) -> list[Path]:
        """The files of the stage's output that are shown in the run directory itself."""
        if stage.kind.publishes is None or not (self.output(stage) / stage.kind.publishes).is_dir():
            return []
        return sorted((self.output(stage) / stage.kind.publishes).iterdir())

    def publish(self, stage: Stage, before: Iterable[Path] = ()) -> None:
        """Show the stage's published files; of those that an earlier build had `before`, none else stays."""
        if stage.kind.publishes is None:
            return
        target = self.path / stage.kind.publishes
        target.mkdir(exist_ok=True)
        files = self.published(stage)
        for name in {file.name for file in before} - {file.name for file in files}:
            remove(target / name)
        for file in files:
            shutil.copyfile(file, target / f".{file.name}")
            os.replace(target / f".{file.name}", target / file.name)

    def _read_outside(self) -> dict[str, Any]:
        try:
            known = read_json(self._outside_path)
        except InputError:
            return {}
        return known if isinstance(known, dict) else {}


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished stage; None where it is absent or damaged."""
    try:
        record = read_json(folder / RECORD)
        return _Record.model_validate(record).model_dump()
    except (InputError, pydantic.ValidationError):
        return None


def read_status(directory: Path) -> list[StageReport]:
    """What a run directory holds, without its recipe: finished stages in the order of their making, half-done ones.

    Raises InputError where `directory` is no run directory.
    """
    directory = Path(directory)
    if not (directory / ".lock").exists():
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
    begun = sorted(folder.name for folder in (directory / ".work").glob("*") if folder.is_dir())
    reports += [StageReport.of(name, "half done", "", {}) for name in begun if name not in {r.stage for r in reports}]
    return reports


def _first_change(folder: Path, record: Mapping[str, Any]) -> str | None:
    """What differs from the record, in words; None where every file is as it was written."""
    present = {str(p.relative_to(folder)): p for p in list_files(folder)}
    present.pop(RECORD, None)
    recorded = record["files"]
    for name in sorted(set(recorded) ^ set(present)):
        return f"{name} {'is missing' if name in recorded else 'was added'}"
    for name, (mark, digest) in recorded.items():
        if _mark(present[name]) != mark and hash_file(present[name]) != digest:
            return f"{name} was changed"
    return None


def _mark(path: Path) -> list[int]:
    """Size, modification and change time: a file with the same mark is taken for unchanged."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
