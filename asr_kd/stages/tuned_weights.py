"""The LM weight and insertion penalty that a run's score stage chose on dev for a system."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_file, read_json
from asr_kd.core.opening import resolved
from asr_kd.core.reading import parsing
from asr_kd.core.run_directory import RECORD, read_record
from asr_kd.scoring.weights import choose_weights
from asr_kd.stages.networks import BUNDLE

WEIGHTS = "weights"
"""Folder of a score stage: `SYSTEM.json` has the errors of each weight and penalty that were tried."""


@dataclass(frozen=True)
class TunedWeights:
    """Weights chosen on dev for `system` by the score stage in the folder `score`."""

    lm_weight: float
    insertion_penalty: float
    system: str
    score: Path


def find_tuned_weights(model: Path, graph: Path, network: Path | None = None) -> TunedWeights | None:
    """Find what the run that made a system chose for it; None where no stage of that run scored the system.

    The system is a network with the HMM `model`, or without a network the model's own Gaussians: outputs of stages of
    one run directory. Decodings with the stage `graph`, if it is one of that run, come before those with other graphs,
    those of the network itself before those with adapters, and what more weights were tried for before the rest.
    InputError where the stage's table of errors is damaged or edited.
    """
    scored = _stage_of(model if network is None else network)
    if scored is None:
        return None
    run = scored.parent
    records = {path: record for path in sorted(run.iterdir())
               if path.is_dir() and (record := read_record(path)) is not None}
    if scored not in records:
        return None
    build = records[scored]["build"]
    graph_stage = _stage_of(graph)
    graph_build = records.get(graph_stage, {}).get("build") if graph_stage is not None else None
    decoded = [record for record in records.values() if record.get("kind") == "decode"
               and _scorer_of(record) == build]
    found = []
    for decoding in decoded:
        inputs = decoding["inputs"]
        for folder, record in records.items():
            if record.get("kind") != "score":
                continue
            for system, input_build in record["inputs"].items():
                path = folder / WEIGHTS / f"{system}.json"
                if input_build == decoding["build"] and path.is_file():
                    rank = (inputs.get("graph") != graph_build, "adapters" in inputs, -path.stat().st_size)
                    found.append((rank, folder, system, record))
    return _chosen(*min(found, key=lambda one: one[0])[1:]) if found else None


def _stage_of(folder: Path) -> Path | None:
    """The stage's folder that a model was given by: itself, or around the bundle in it."""
    folder = resolved(folder)
    if (folder / RECORD).is_file():
        return folder
    if folder.name == BUNDLE and (folder.parent / RECORD).is_file():
        return folder.parent
    return None


def _scorer_of(record: dict[str, Any]) -> str | None:
    """The build of what scored frames in a decoding: the network, or the model whose Gaussians did."""
    inputs = record["inputs"]
    build: str | None = inputs.get("network", inputs.get("hmm"))
    return build


def _chosen(folder: Path, system: str, record: dict[str, Any]) -> TunedWeights:
    path = folder / WEIGHTS / f"{system}.json"
    if record["files"].get(f"{WEIGHTS}/{path.name}", [None, None])[1] != hash_file(path):
        raise InputError(f"{path}: was changed since its stage wrote it; run the stage again, or give --lm-weight and "
                         "--insertion-penalty")
    with parsing(path, "table of errors", "run the stage again"):
        grid = {(row["lm_weight"], row["insertion_penalty"]): row["errors"] for row in read_json(path)}
        weight, penalty = choose_weights(grid)
    return TunedWeights(weight, penalty, system, folder)
