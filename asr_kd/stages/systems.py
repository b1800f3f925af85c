"""Systems of a finished run by their ids: the stages that a score stage's system is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.config import nearest_name
from asr_kd.core.errors import InputError
from asr_kd.core.run_directory import is_run_directory, read_record

RESERVE_KIND = "adaptation-reserve"


@dataclass(frozen=True)
class RunSystem:
    """A network of a run with what goes with it: folders of stages.

    teacher: the one it was taught by, if any; reserve: its reserve for adaptation, if a stage made one; manifests: the
    speech of the run; judged_on: its splits by which systems are judged.
    """

    id: str
    network: Path
    model: Path
    graph: Path
    manifests: Path | None
    teacher: Path | None
    reserve: Path | None
    judged_on: tuple[str, ...] = ()


def find_system(run: Path, system: str) -> RunSystem:
    """Find a network that a score stage of the run judged under this id.

    Of several seeds it is that of the lowest. InputError: no run directory, no such system, one without a network.
    """
    run = Path(run)
    if not is_run_directory(run):
        raise InputError(f"{run}: not a run directory; expected what asr-kd run wrote")
    records = {path: record for path in sorted(run.iterdir())
               if path.is_dir() and (record := read_record(path)) is not None}
    folder_of = {record["build"]: path for path, record in records.items()}
    scored: dict[str, list[tuple[Path, Path]]] = {}
    for path, record in records.items():
        if record.get("kind") == "score":
            for name, build in record["inputs"].items():
                if build in folder_of and records[folder_of[build]].get("kind") == "decode":
                    scored.setdefault(name, []).append((path, folder_of[build]))
    if system not in scored:
        raise InputError(f"{run}: no system {system!r} was scored in this run; "
                         f"{nearest_name(system, sorted(scored)) if scored else 'none was'}")
    score, decoding = min(scored[system], key=lambda pair: (_seed_of(pair[1]), pair[1].name))
    if "network" not in records[decoding]["inputs"]:
        raise InputError(f"{run}: the system {system} has no network, its Gaussians score; expected one with a "
                         "network")
    inputs = _folders(records[decoding], folder_of) | _folders(records[score], folder_of)
    for name in ("network", "hmm", "graph", "manifests"):
        if name not in inputs:
            raise InputError(f"{run}: the stage that {decoding.name} read as {name} is gone, or was built again; run "
                             "the recipe again")
    network = inputs["network"]
    reserves = [path for path, record in records.items() if record.get("kind") == RESERVE_KIND
                and record["inputs"].get("network") == records[network]["build"]]
    return RunSystem(
        system, network, inputs["hmm"], inputs["graph"], inputs["manifests"],
        _folders(records[network], folder_of).get("teacher"), reserves[0] if reserves else None,
        tuple(records[score].get("settings", {}).get("splits", ())))


def find_judged_speech(score: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The manifests by which a score stage judged its systems, if they are still there, and their splits."""
    record = read_record(score)
    if record is None:
        return None, ()
    for path in sorted(score.parent.iterdir()):
        found = read_record(path) if path.is_dir() else None
        if found is not None and found["build"] == record["inputs"].get("manifests"):
            return path, tuple(record.get("settings", {}).get("splits", ()))
    return None, ()


def _seed_of(stage: Path) -> int:
    """The seed in the name of a stage's folder; 0 where there is none."""
    _, found, seed = stage.name.rpartition("-seed")
    return int(seed) if found and seed.isdecimal() else 0


def _folders(record: Mapping[str, Any], folder_of: Mapping[str, Path]) -> dict[str, Path]:
    """The stages that a stage read, by the names of its inputs, as far as they are there."""
    return {name: folder_of[build] for name, build in record["inputs"].items() if build in folder_of}
