"""Sums over a whole minibatch while several threads, of one or several processes, each train on a part of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from asr_kd.training.distributed import add_up, num_processes


class ShardGroup:
    """The threads that train on the shards of one minibatch, and a place where they meet.

    At most `threads` of the `size` threads run at a time; one that waits for the others lets another run. Every thread
    must call `total` equally often, in the forward and in the backward pass.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size = size
        self._permits = threading.Semaphore(threads)
        self._values: list[Tensor | None] = [None] * size
        self._total: Tensor | None = None
        self._meeting = threading.Barrier(size, self._add_up_values)

    @contextmanager
    def member(self, shard: int) -> Iterator[None]:
        """Work on a shard in this thread within the context. An error in it ends the waiting of the others."""
        _membership.group, _membership.shard = self, shard
        with self._permits:
            try:
                yield
            except BaseException:
                self.abort()
                raise
            finally:
                _membership.group = None

    def abort(self) -> None:
        """End the waiting of all threads with an error."""
        self._meeting.abort()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the `values` of all threads of all processes, in the order of the shards.

        threading.BrokenBarrierError: another thread had an error.
        """
        self._values[_membership.shard] = values
        self._permits.release()
        try:
            self._meeting.wait()
        finally:
            self._permits.acquire()
        assert self._total is not None
        return self._total

    def _add_up_values(self) -> None:
        first, *others = self._values
        assert first is not None
        total = first.clone()
        for values in others:
            assert values is not None
            total += values
        self._total = add_up(total)


class _Membership(threading.local):
    group: ShardGroup | None = None
    shard = 0


_membership = _Membership()


def num_parts() -> int:
    """Return how many parts the minibatch has, one of which this thread trains on: shards times processes."""
    group = _membership.group
    return num_processes() if group is None else group.size * num_processes()


def add_up_parts(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all parts of the minibatch; it may take the place of `values`, and threads share
    it: change neither of them."""
    group = _membership.group
    return add_up(values) if group is None else group.total(values)
