"""Stages of a recipe: a kind, settings, the stages it reads, and the key that names its result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr_kd.core.config import Config
from asr_kd.core.files import hash_json


@dataclass(frozen=True)
class StageContext:
    """The rest that a stage function gets, besides its inputs, settings and output folder.

    `work` is a folder that outlives a kill for as long as the stage's key stays the same; it is where
    checkpoints go, and it is removed when the stage is done. `revision` is the code's. `input_seeds`
    has the seed of each input's stage, None where that depends on no seed.
    """

    name: str
    seed: int
    corpus: Path | None
    work: Path
    run_name: str
    command: str
    revision: str = "unknown"
    input_seeds: Mapping[str, int | None] = field(default_factory=dict)


StageFunction = Callable[[Mapping[str, Path], Any, Path, StageContext], dict[str, Any] | None]


@dataclass(frozen=True)
class StageKind:
    """One kind of work that a recipe may ask for.

    `function(inputs, config, output, context)` reads the folders `inputs`, writes the folder `output`
    and returns a summary for people. `version` changes whenever the same inputs would give another
    output. `reads` are the names of inputs that it needs, `may_read` those it can do without;
    `reads_any` admits further names. `outside(config, corpus)` lists files that do not belong to the
    run. `check(config, inputs)` raises InputError where settings do not agree with the stages among the
    inputs, when the recipe is read and before any work; `check_outside(config, inputs, corpus)` where
    the corpus, or what is installed, does not have what the stage needs, before any stage is built or
    planned. A `seeded` kind depends on the seed. `publishes` names a sub-folder whose files are shown in
    the run directory itself.
    """

    name: str
    config: type[Config]
    function: StageFunction
    version: int = 1
    reads: tuple[str, ...] = ()
    may_read: tuple[str, ...] = ()
    reads_any: bool = False
    outside: Callable[[Any, Path | None], list[Path]] | None = None
    check: Callable[[Any, Mapping[str, "Stage"]], None] | None = None
    check_outside: Callable[[Any, Mapping[str, "Stage"], Path | None], None] | None = None
    seeded: bool = False
    publishes: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe with its settings resolved; `folder` is its name in the run directory."""

    name: str
    kind: StageKind
    config: Config
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)
    seed: int | None = None

    @property
    def folder(self) -> str:
        return self.name if self.seed is None else f"{self.name}-seed{self.seed}"

    def identity(self, outside: Mapping[str, str]) -> dict[str, Any]:
        """Return what makes the stage's key: code version, settings, seed, inputs and outside files (path -> hash).

        Settings that do not change the result are left out. What the inputs were made from is told by their builds,
        which the run directory compares.
        """
        return {
            "kind": self.kind.name,
            "version": self.kind.version,
            "settings": self.config.result_settings(),
            "seed": self.seed,
            "inputs": {name: stage.folder for name, stage in self.inputs.items()},
            "outside": dict(outside),
        }

    def key(self, outside: Mapping[str, str]) -> str:
        """Hash of the stage's identity."""
        return hash_json(self.identity(outside))


@dataclass(frozen=True)
class StageReport:
    """Outcome and costs of a stage: `outcome` is "built", "done before", "to build", "half done" or "changed".

    Costs are those of its last build: seconds, MiB of peak memory, 10^6 bytes of output.
    """

    stage: str
    outcome: str
    reason: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    megabytes: float

    @classmethod
    def of(cls, stage: str, outcome: str, reason: str, record: Mapping[str, Any]) -> "StageReport":
        """A report with the costs that the stage's record holds."""
        return cls(
            stage, outcome, reason, record.get("wall_seconds", 0.0), record.get("cpu_seconds", 0.0),
            record.get("peak_memory_mib", 0.0), record.get("bytes", 0) / 1e6,
        )
