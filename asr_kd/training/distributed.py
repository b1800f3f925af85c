"""Several processes that train one network, each on its part of every minibatch (started by `torchrun`).

A process group must have been initialised; without one there is a single process and nothing is sent.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

Found = TypeVar("Found")


def rank() -> int:
    """This process among all of them, from 0."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def num_processes() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Go on when every process is here."""
    if num_processes() > 1:
        distributed.barrier()


def own_part(batch: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return this process's part of a minibatch; empty where there are more processes than examples."""
    return batch[rank()::num_processes()]


def add_up(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in place."""
    if num_processes() > 1:
        distributed.all_reduce(values)
    return values


def add_up_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The gradients of all processes added up in each of them; a process without examples adds nothing."""
    if num_processes() == 1:
        return
    moving = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in moving:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    together = torch.cat([parameter.grad.flatten() for parameter in moving if parameter.grad is not None])
    distributed.all_reduce(together)
    for parameter, gradient in zip(moving, together.split([p.numel() for p in moving]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def joined(names: list[str]) -> list[str]:
    """The names that any process has, in all of them, sorted."""
    if num_processes() == 1:
        return names
    of_each: list[list[str]] = [[] for _ in range(num_processes())]
    distributed.all_gather_object(of_each, names)
    return sorted(set().union(*of_each))


def told_by_first(find: Callable[[], Found]) -> Found:
    """Return the first process's result in all of them; the others wait."""
    if num_processes() == 1:
        return find()
    found = [find() if rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]
