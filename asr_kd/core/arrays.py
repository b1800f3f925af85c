"""Arrays in files: `.npy` and `.safetensors`, written whole or not at all, and checked before memory is taken."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.opening import open_file
from asr_kd.core.reading import file_size, parsing

if TYPE_CHECKING:
    from torch import Tensor


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an array as a `.npy` file, atomically."""
    with atomic_file(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def read_npy(path: Path, kind: str = "array", remedy: str = "", *, mapped: bool = False) -> np.ndarray:
    """Read a `.npy` file; with `mapped` its values stay on disk until they are used.

    InputError: no such file, no `.npy` file, one of Python objects, or one of another size than its header says.
    """
    with parsing(path, kind, remedy):
        with open_file(path) as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0,
                           (2, 0): np.lib.format.read_array_header_2_0}.get(version)
            if read_header is None:
                raise InputError(f"{path}: damaged {kind} (.npy of version {version})"
                                 f"{f'; {remedy}' if remedy else ''}")
            shape, _, dtype = read_header(file)
            begin = file.tell()
        count = math.prod(map(int, shape))
        expected = begin + count * dtype.itemsize
        size = file_size(path)
        if dtype.hasobject or size != expected or min(shape, default=0) < 0:
            raise InputError(f"{path}: damaged {kind}: {size} bytes, its header says {shape} of {dtype}"
                             f"{f'; {remedy}' if remedy else ''}")
        values = np.load(path, mmap_mode="r" if mapped and count else None, allow_pickle=False)
        return values.view(np.ndarray)


def write_tensors(path: Path, tensors: "Mapping[str, np.ndarray] | Mapping[str, Tensor]") -> None:
    """Write NumPy's arrays or PyTorch's tensors as a `.safetensors` file, atomically."""
    with atomic_file(path, "wb") as file:
        file.write(_serialised(dict(tensors)))


def read_tensors(path: Path, kind: str = "tensors", remedy: str = "") -> dict[str, np.ndarray]:
    """Read a `.safetensors` file as NumPy's arrays; InputError where it is missing or damaged."""
    from safetensors.numpy import load_file

    file_size(path)
    with parsing(path, kind, remedy):
        return load_file(path)


def read_torch_tensors(path: Path, kind: str = "tensors", remedy: str = "") -> "dict[str, Tensor]":
    """Read a `.safetensors` file as PyTorch's tensors; InputError where it is missing or damaged."""
    from safetensors.torch import load_file

    file_size(path)
    with parsing(path, kind, remedy):
        return load_file(path)


def _serialised(tensors: dict[str, Any]) -> bytes:
    if all(isinstance(value, np.ndarray) for value in tensors.values()):
        from safetensors.numpy import save

        return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    from safetensors.torch import save as save_torch

    return save_torch({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
