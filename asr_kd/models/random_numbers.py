"""The generators that a network and its losses draw from while they train.

Outside of training, and on a GPU, that is PyTorch's default generator. Threads that train on shards of one minibatch
would draw from it in any order, so each of them has a generator of its own, seeded anew in every step.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Generators(threading.local):
    of_shard: torch.Generator | None = None
    of_step: torch.Generator | None = None


_generators = _Generators()


def shard_generator() -> torch.Generator | None:
    """Return the generator for what is drawn for each frame; None stands for PyTorch's default one."""
    return _generators.of_shard


def step_generator() -> torch.Generator | None:
    """Return the generator for what is drawn once a step, the same for all shards; None: PyTorch's default one."""
    return _generators.of_step


@contextmanager
def drawing_with(shard_seed: int, step_seed: int) -> Iterator[None]:
    """Give this thread generators of its own, with these seeds, within the context."""
    before = _generators.of_shard, _generators.of_step
    _generators.of_shard = torch.Generator().manual_seed(shard_seed)
    _generators.of_step = torch.Generator().manual_seed(step_seed)
    try:
        yield
    finally:
        _generators.of_shard, _generators.of_step = before
