"""Running a recipe's stages: what is done is skipped, what is not is built whole or not at all."""

import functools
import json
import os
import platform
import resource
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from asr_kd.core.errors import AsrKdError, InputError, WorkError, messages_of_stage
from asr_kd.core.files import atomic_folder, hash_json, list_files, write_json
from asr_kd.core.log import get_logger, log_to_file
from asr_kd.core.opening import resolved
from asr_kd.core.parallel import available_cores, one_blas_thread
from asr_kd.core.recipe import Recipe
from asr_kd.core.run_clock import RunClock
from asr_kd.core.run_directory import RUN_RECORD, STAGE_FOLDER, RunDirectory
from asr_kd.core.stages import Stage, StageContext, StageReport

logger = get_logger(__name__)

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Selection:
    """The stages to run, by name; None and empty mean no limit."""

    only: str | None = None
    first: str | None = None
    last: str | None = None
    force: tuple[str, ...] = ()

    def of(self, recipe: Recipe) -> list[Stage]:
        """The chosen stages, in order; InputError for a name that is no stage, and for limits that do not fit."""
        chosen = self._chosen(recipe)
        for name in self.force:
            if recipe.stage(name) not in chosen:
                raise InputError(f"--force {name}: not among the stages that --only, --from and --until choose")
        return chosen

    def _chosen(self, recipe: Recipe) -> list[Stage]:
        stages = recipe.stages
        if self.only is not None:
            if self.first is not None or self.last is not None:
                raise InputError("--only goes with neither --from nor --until")
            return [recipe.stage(self.only)]
        begin = stages.index(recipe.stage(self.first)) if self.first else 0
        end = stages.index(recipe.stage(self.last)) + 1 if self.last else len(stages)
        if begin >= end:
            raise InputError(f"--from {self.first} stands behind --until {self.last}: nothing to run")
        return stages[begin:end]


_NAMED = 8  # stages in one line

# CPU seconds of finished work that a run replaces without being told to.
REBUILD_LIMIT = 300.0


@dataclass(frozen=True)
class _PlannedStage:
    """A stage of the plan: `reason` says why it is built ("" where it is done), `record` is of its last build.

    `lost_cpu_seconds`: what the finished output cost that would be replaced without anybody having asked for it.
    """

    stage: Stage
    reason: str
    record: Mapping[str, Any]
    wall_seconds: float | None = None
    lost_cpu_seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        return not self.reason


class Runner:
    """Runs a recipe in a run directory that this process has locked."""

    def __init__(
        self, recipe: Recipe, directory: RunDirectory, corpus: Path | None, seed: int, command: str,
        say: Callable[[str], None],
    ) -> None:
        self.recipe = recipe
        self.directory = directory
        self.corpus = corpus
        self.seed = seed
        self.command = command
        self.say = say

    def run(self, selection: Selection, rebuild: bool = False) -> list[StageReport]:
        """Build what is missing or no longer holds among the chosen stages.

        InputError where finished stages of more than `REBUILD_LIMIT` CPU seconds in all would be replaced, unless
        `rebuild` or `selection.force` asks for it.
        """
        chosen = selection.of(self.recipe)
        forced = self._forced(selection)
        self._check_inputs(chosen)
        planned = self._plan(selection)
        if not rebuild and _lost_cpu_seconds(planned) > REBUILD_LIMIT:
            self._say_what_is_lost(planned)
            raise InputError(f"{_describe_loss(planned)}; nothing was done: go back to the settings of before, or "
                             "give --rebuild to go on")
        for p in planned:
            self.directory.check_bookkeeping(p.stage)
        clock = RunClock({p.stage.folder: p.wall_seconds for p in planned if not p.is_done})
        reports = []
        for stage in chosen:
            outside = self._outside(stage)
            state = self.directory.state(stage, outside)
            if state.done and stage.folder not in forced:
                self.directory.publish(stage)
                reports.append(StageReport.of(stage.folder, "done before", "", state.record))
                continue
            reason = "forced" if state.done else state.reason
            with clock.stage(stage.folder):
                self.say(f"{stage.folder}: {stage.kind.name} ({reason}) [{clock.describe()}]")
                record = self._build(stage, outside)
            reports.append(StageReport.of(stage.folder, "built", reason, record))
            self._write_run_record()
        self._write_run_record()
        return reports

    def plan(self, selection: Selection, rebuild: bool = False) -> list[StageReport]:
        """Report what `run` would do, and whether it would refuse to replace finished stages; write nothing."""
        self.directory.check()
        self._check_inputs(selection.of(self.recipe))
        planned = self._plan(selection)
        if not rebuild and _lost_cpu_seconds(planned) > REBUILD_LIMIT:
            self._say_what_is_lost(planned)
            self.say(f"{_describe_loss(planned)}: it would stop, unless --rebuild is given")
        for p in planned:
            self.directory.check_bookkeeping(p.stage)
        return [
            StageReport.of(p.stage.folder, "done before", "", p.record) if p.is_done
            else StageReport.of(p.stage.folder, "to build", p.reason, {})
            for p in planned
        ]

    def _plan(self, selection: Selection) -> list[_PlannedStage]:
        forced = self._forced(selection)
        costs = self.directory.recorded_costs()
        planned: list[_PlannedStage] = []
        to_build: set[str] = set()
        asked_for: set[str] = set()  # by --force: those stages, and what follows from them alone
        for stage in selection.of(self.recipe):
            folder = stage.folder
            state = self.directory.state(stage, self._outside(stage))
            waits = [s.folder for s in stage.inputs.values() if s.folder in to_build]
            if state.done and not waits and folder not in forced:
                planned.append(_PlannedStage(stage, "", state.record))
                continue
            to_build.add(folder)
            holds = state.done or (state.inputs_only and bool(waits))
            if folder in forced or (holds and asked_for.issuperset(waits)):
                asked_for.add(folder)
            reason = "forced" if folder in forced else state.reason or f"its input {waits[0]} is to be built"
            wall, cpu = costs.get(folder, (None, 0.0))
            cpu = state.record.get("cpu_seconds", cpu)
            is_lost = state.present and folder not in asked_for
            planned.append(_PlannedStage(stage, reason, state.record, state.record.get("wall_seconds", wall),
                                         cpu if is_lost else 0.0))
        return planned

    def _say_what_is_lost(self, planned: Sequence[_PlannedStage]) -> None:
        for p in planned:
            if p.lost_cpu_seconds:
                minutes = p.lost_cpu_seconds / 60
                self.say(f"{p.stage.folder} ({minutes:.1f} CPU minutes) would be built again: {p.reason}")

    def _forced(self, selection: Selection) -> set[str]:
        return {self.recipe.stage(name).folder for name in selection.force}

    def _check_inputs(self, stages: list[Stage]) -> None:
        """InputError where a stage reads one that is neither chosen nor ready, or where the corpus, or what is
        installed, does not have what it needs."""
        for stage in stages:
            for name, needed in stage.inputs.items():
                if needed not in stages:
                    self._require(stage, name, needed)
        for stage in stages:
            if stage.kind.check_outside is None:
                continue
            try:
                with messages_of_stage(stage.name):
                    stage.kind.check_outside(stage.config, stage.inputs, self.corpus)
            except InputError as error:
                raise InputError(f"stage {stage.folder}: {error}") from error

    def _require(self, stage: Stage, name: str, needed: Stage) -> None:
        state = self.directory.state(needed, self._outside(needed))
        if not state.done:
            raise InputError(
                f"stage {stage.folder} reads {name} from {needed.folder}, which is not ready ({state.reason}); "
                f"run without --only/--from first"
            )

    def _outside(self, stage: Stage) -> dict[str, str]:
        return self.directory.outside_hashes(stage, self.corpus)

    def _build(self, stage: Stage, outside: Mapping[str, str]) -> dict[str, Any]:
        inputs = {name: self.directory.output(s) for name, s in stage.inputs.items()}
        builds = {name: self.directory.build(s) for name, s in stage.inputs.items()}
        output = self.directory.output(stage)
        published = [file.name for file in self.directory.published(stage)]
        aside = self.directory.make_way(stage)
        if aside is not None:
            self.say(f"{stage.folder}: what stood there was not all written by asr-kd, and is now {aside.name}")
        # Half-done work belongs to these settings and these very inputs.
        work = self.directory.work(stage, hash_json([stage.key(outside), builds]))
        seed = self.seed if stage.seed is None else stage.seed
        context = StageContext(
            stage.name, seed, self.corpus, work, self.directory.name, self.command, code_revision(),
            {name: needed.seed for name, needed in stage.inputs.items()},
        )
        with log_to_file(self.directory.log(stage)):
            logger.info("stage %s begins: %s", stage.folder, stage.config.model_dump_json())
            _reset_peak_memory()
            wall, cpu = time.monotonic(), _cpu_seconds()
            try:
                with (atomic_folder(output, STAGE_FOLDER) as folder, messages_of_stage(stage.name),
                      one_blas_thread()):
                    summary = stage.kind.function(inputs, stage.config, folder, context) or {}
                    facts = {
                        "command": self.command,
                        "revision": code_revision(),
                        "wall_seconds": round(time.monotonic() - wall, 3),
                        "cpu_seconds": round(_cpu_seconds() - cpu, 3),
                        "peak_memory_mib": round(_peak_memory_mib(), 1),
                        "bytes": sum(path.stat().st_size for path in list_files(folder)),
                        "settings": stage.config.model_dump(mode="json"),
                        "summary": summary,
                    }
                    self.directory.seal(stage, stage.identity(outside), folder, facts)
            except AsrKdError as error:
                logger.debug("stage %s failed", stage.folder, exc_info=True)
                kind = InputError if isinstance(error, InputError) else WorkError
                raise kind(f"stage {stage.folder}: {error}") from error
            except BaseException:
                logger.debug("stage %s stopped", stage.folder, exc_info=True)
                raise
            logger.info("stage %s done: %s", stage.folder, json.dumps({**facts, "settings": None}))
        self.directory.clear_work(stage)
        self.directory.publish(stage, published)
        return facts

    def _write_run_record(self) -> None:
        record: dict[str, Any] = {
            "recipe": self.recipe.name,
            "command": self.command,
            "seed": self.seed,
            "environment": environment(),
            "revision": code_revision(),
            "stages": {},
        }
        for folder, found in self.directory.records().items():
            if found is not None:
                record["stages"][folder.name] = {
                    name: found.get(name)
                    for name in ("kind", "key", "build", "inputs", "command", "revision", "settings", "wall_seconds",
                                 "cpu_seconds", "peak_memory_mib", "bytes", "summary")
                }
        write_json(self.directory.path / RUN_RECORD, record)


def _lost_cpu_seconds(planned: Sequence[_PlannedStage]) -> float:
    return sum(p.lost_cpu_seconds for p in planned)


def _describe_loss(planned: Sequence[_PlannedStage]) -> str:
    names = [p.stage.folder for p in planned if p.lost_cpu_seconds]
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    stages = "finished stage" if len(names) == 1 else "finished stages"
    return (f"this run would replace {len(names)} {stages} that took {_lost_cpu_seconds(planned) / 60:.1f} CPU "
            f"minutes ({listed})")


def environment() -> dict[str, str]:
    """Python, platform, cores and the versions of the packages that figures depend on."""
    packages = ("torch", "torchaudio", "numpy", "numba", "kaldifst", "jiwer", "asr-kd")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {"python": platform.python_version(), "platform": platform.platform(),
            "cores": str(available_cores()), **versions}


@functools.cache
def code_revision() -> str:
    """The git revision of this project's checkout, "+" behind it where files are changed.

    Elsewhere, in another project's repository too, the version of the package.
    """
    try:
        if _is_checkout(_PROJECT):
            changed = _git(_PROJECT, "status", "--porcelain", "--untracked-files=no")
            return _git(_PROJECT, "rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return environment()["asr-kd"].replace("not installed", "unknown")


def _is_checkout(folder: Path) -> bool:
    """Return True if the folder is the top of a git checkout of this project, not of one that contains it."""
    top = Path(_git(folder, "rev-parse", "--show-toplevel"))
    if resolved(top) != resolved(folder):
        return False
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return project.get("project", {}).get("name") == "asr-kd"


def _git(folder: Path, *arguments: str) -> str:
    """The output of a git command in a folder, whatever repository the environment names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True,
                          env=environment)
    return done.stdout.strip()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _reset_peak_memory() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        logger.debug("the kernel does not reset the peak of memory; a stage's peak includes earlier stages'")


def _peak_memory_mib() -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
