"""Choose what suits this machine: device, precision and number of threads."""

import os

import torch

from asr_kd.core.errors import InputError
from asr_kd.core.parallel import available_cores


def choose_precision(setting: str, device: torch.device) -> str:
    """Return the precision of a run: the setting, or for auto bfloat16 where this kind of machine gains by it."""
    if setting != "auto":
        return setting
    return "bfloat16" if bfloat16_gains(device) else "float32"


def choose_threads(setting: int) -> int:
    """Return how many threads this process trains with: the setting, or for 0 its share of the machine's cores."""
    return setting or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


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
    """Find out whether a bfloat16 matrix product is clearly faster here than a float32 one.

    A CPU's instructions tell, not a timing, so that every run on one kind of machine has the same precision.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
