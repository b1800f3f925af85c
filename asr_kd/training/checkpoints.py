"""Checkpoints of a training run: safetensors for tensors, JSON for the rest, whole or absent, never pickle."""

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr_kd.core.arrays import read_torch_tensors, write_tensors
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import atomic_folder, hash_file, read_json, remove_abandoned, write_json
from asr_kd.core.own_folders import FolderKind, is_own_folder
from asr_kd.core.reading import parsing

_TENSORS = "state.safetensors"
_STATE = "state.json"
_CHECKPOINT = FolderKind("checkpoint", (_TENSORS, _STATE))


@dataclass
class RunState:
    """The state of a run, beside its tensors."""

    key: str  # of settings, data, objective, seed and initial weights
    precision: str
    threads: int
    epoch: int = 0  # epochs judged
    step: int = 0  # minibatches within the epoch that is under way
    global_step: int = 0
    epoch_frames: int = 0  # trained on in this epoch
    loss_sum: float = 0.0  # of those frames
    measures: dict[str, float] = field(default_factory=dict)  # of the objective, summed over those frames
    seconds: float = 0.0  # of wall time in all
    cpu_seconds: float = 0.0
    training_seconds: float = 0.0  # without cross-validation
    frames: int = 0  # trained on in all
    best_loss: float = math.inf
    best_epoch: int = 0
    finished: bool = False
    schedule: dict[str, Any] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)  # the lines of the log


def write_checkpoint(folder: Path, state: RunState, model: nn.Module, objective: nn.Module,
                     optimiser: torch.optim.Optimizer, best: dict[str, Tensor]) -> None:
    """Write a new checkpoint below `folder`, then remove the older ones. WorkError where it cannot be written."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"objective/{name}": value for name, value in objective.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in values.items() if value is not None}
    tensors["generator"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["generator_cuda"] = torch.cuda.get_rng_state()
    name = f"checkpoint-{state.epoch:04d}-{state.step:08d}"
    content = {key: value for key, value in vars(state).items() if key != "best_loss"}
    content["best_loss"] = None if math.isinf(state.best_loss) else state.best_loss
    try:
        with atomic_folder(folder / name, _CHECKPOINT) as temporary:
            write_tensors(temporary / _TENSORS, tensors)
            write_json(temporary / _STATE, {**content, "tensors_sha256": hash_file(temporary / _TENSORS)})
    except OSError as error:
        raise WorkError(f"{folder / name}: the checkpoint cannot be written ({error}); the one before it is whole: "
                        "make room and run again") from error
    for old in _checkpoints(folder):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(folder: Path, key: str) -> tuple[RunState, dict[str, Tensor]] | None:
    """State and tensors of the newest checkpoint below `folder`, or None where there is none.

    A checkpoint of another run (its key differs) and a damaged one raise InputError. Remains of a
    checkpoint whose writing was killed are removed.
    """
    if folder.is_dir():
        remove_abandoned(folder)
    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    content = read_json(newest / _STATE)
    if not isinstance(content, dict) or content.get("key") is None:
        raise InputError(f"{newest / _STATE}: damaged checkpoint; remove {folder} to train anew")
    if content["key"] != key:
        raise InputError(f"{newest}: is a checkpoint of the run {str(content['key'])[:12]} (other settings, data, "
                         f"objective, seed or initial weights), this run is {key[:12]}; remove {folder} to train anew")
    tensors_path = newest / _TENSORS
    if not tensors_path.is_file() or hash_file(tensors_path) != content.pop("tensors_sha256", None):
        raise InputError(f"{tensors_path}: damaged (SHA-256 differs from {_STATE}); remove {folder} to train anew")
    with parsing(newest / _STATE, "checkpoint", f"remove {folder} to train anew"):
        best_loss = content.pop("best_loss")
        state = RunState(**content, best_loss=math.inf if best_loss is None else best_loss)
    return state, read_torch_tensors(tensors_path, "checkpoint", f"remove {folder} to train anew")


def restore_tensors(tensors: dict[str, Tensor], model: nn.Module, objective: nn.Module,
                    optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Put a checkpoint's tensors into model, objective, optimiser and PyTorch's generators; return the best weights."""
    model.load_state_dict(_below(tensors, "model/"))
    objective.load_state_dict(_below(tensors, "objective/"))
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(tensors, "optimiser/").items():
        index, _, key = name.partition("/")
        states.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["generator"])
    if torch.cuda.is_available() and "generator_cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator_cuda"])
    return _below(tensors, "best/")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*") if is_own_folder(path, _CHECKPOINT))
