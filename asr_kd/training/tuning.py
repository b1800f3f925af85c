"""What suits this machine: device, precision and number of threads."""

import copy
import os
import time
from collections.abc import Callable

import torch
from torch import nn

from asr_kd.core.errors import InputError
from asr_kd.core.parallel import available_cores
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import NetworkOutputs, Objective, forward_loss

_BFLOAT16_GAIN = 1.2
_THREADS_GAIN = 1.25


def choose_execution(model: nn.Module, objective: Objective, minibatch: Minibatch,
                     config: TrainingConfig) -> tuple[str, int]:
    """(precision, threads) for a run: what the settings say, or where they say auto, what is faster here.

    The choice decides the last bits of the result, so a run records it in its checkpoints. Threads go by the time of
    training steps of the model itself; it and PyTorch's generator are left as they are, the objective in evaluation
    mode.
    """
    cores = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    precision, threads = config.precision, config.threads or cores
    device = minibatch.inputs.device
    if precision == "auto":
        precision = "bfloat16" if bfloat16_gains(device) else "float32"
    if device.type == "cpu" and config.threads == 0 and threads > 1:
        trial = copy.deepcopy(model).train()
        objective.eval()  # what it does in training only is bound to the model itself
        generator_state, threads_before = torch.get_rng_state(), torch.get_num_threads()

        def seconds(some_threads: int) -> float:
            torch.set_num_threads(some_threads)
            return _fastest(lambda: _step(trial, objective, minibatch, precision))

        if seconds(threads) * _THREADS_GAIN > seconds(1):
            threads = 1
        torch.set_num_threads(threads_before)
        torch.set_rng_state(generator_state)
    return precision, threads


def training_device(setting: str = "auto") -> torch.device:
    """auto: a GPU where there is one; of several processes on a machine (`torchrun`) each has its own.

    InputError: cuda where there is no GPU, or fewer than processes.
    """
    if setting == "cpu" or (setting == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number, available = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= available:
        raise InputError(f"device: {number + 1} GPUs are asked for, PyTorch finds {available}; set device to cpu"
                         + (", or start fewer processes" if available else ""))
    return torch.device("cuda", number)


def bfloat16_gains(device: torch.device) -> bool:
    """Whether a bfloat16 matrix product is clearly faster here than a float32 one, on one core.

    What a network's own steps gain by it goes with its size and would be decided anew by chance where it is little.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    products = [torch.ones(512, 512, device=device, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    float32, bfloat16 = (_fastest(lambda matrix=matrix: matrix @ matrix) for matrix in products)  # type: ignore[misc]
    torch.set_num_threads(threads_before)
    return float32 / bfloat16 > _BFLOAT16_GAIN


def _step(model: nn.Module, objective: Objective, minibatch: Minibatch, precision: str) -> None:
    forward_loss(NetworkOutputs(model, objective.reads_hidden), objective, minibatch, precision)[0].backward()
    model.zero_grad(set_to_none=True)


def _fastest(function: Callable[[], None], repeats: int = 5) -> float:
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)
