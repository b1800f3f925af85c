"""Counts of a run directory, held against the sealed stages that wrote them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asr_kd.core.files import hash_file
from asr_kd.core.run_directory import RunDirectory, read_status
from asr_kd.scoring.system_counts import SystemCounts, read_counts_folder

_PUBLISHED = "counts"


@dataclass(frozen=True)
class RunCounts:
    """The counts of a run directory; warnings, and reasons to refuse them, by the name of the counts file."""

    counts: list[SystemCounts]
    warnings: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def read_run_counts(run: Path) -> RunCounts:
    """Read `run/counts/*.json` with warnings beside what cannot be trusted.

    `refused`: counts that differ from those that the run's stage sealed, or that no stage of the run wrote. `warnings`:
    counts whose stage is older than what it was made from (a network that was trained again since).
    """
    counts = read_counts_folder(run / _PUBLISHED)
    sealed = _sealed(run)
    if not sealed:  # a folder of counts alone, which no stage can answer for
        return RunCounts(counts)
    stale = {}
    if (run / ".lock").exists():
        stale = {report.stage: report.reason for report in read_status(run) if report.outcome == "changed"}
    warnings: dict[str, str] = {}
    refused: dict[str, str] = {}
    for system in counts:
        name = system.file_name
        path = run / _PUBLISHED / name
        if name not in sealed:
            refused[name] = f"{path}: no finished stage of the run wrote it; remove it, or run the stage that scores it"
            continue
        stage, digest = sealed[name]
        if hash_file(path) != digest:
            refused[name] = (f"{path}: was edited, it is not the file that stage {stage} wrote; take "
                             f"{run / stage / _PUBLISHED / name}, or run the stage again")
        elif stage in stale:
            warnings[name] = f"of an older run: stage {stage} is to be run again ({stale[stage]})"
    return RunCounts(counts, warnings, refused)


def _sealed(run: Path) -> dict[str, tuple[str, str]]:
    """Counts file -> the stage that wrote it, the latest where there are several, and the digest of its content."""
    if not run.is_dir():
        return {}
    sealed: dict[str, tuple[str, str]] = {}
    for folder, record in RunDirectory(run).records().items():
        for name, (_, digest) in (record or {}).get("files", {}).items():
            parent, _, file_name = name.rpartition("/")
            if parent == _PUBLISHED:
                sealed[file_name] = (folder.name, digest)
    return sealed
