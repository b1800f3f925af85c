"""Train on the shards of a minibatch with several threads, so that their number does not change the result.

PyTorch shares a sum out among its own threads, in another way for each number of them, so the last bits of a gradient,
and after some epochs all of the weights, depend on the machine and on what else it does. Its threads also wait for each
other after every operation, by spinning: on a busy machine most of the time goes there. Here

- the settings and the size of a minibatch, never the machine, decide into how many shards it is split;
- each shard is the work of one thread, within which PyTorch uses no other;
- losses and gradients of the shards are added up in the order of the shards;
- what a layer or a loss takes over the whole minibatch (batch statistics, norms of gradients) is added up over the
  shards in the same order, while their threads wait for each other without spinning (`parts.py`);
- each shard draws its random numbers from generators that the step seeds.

The number of threads that run at a time is then free: it may change from step to step.
"""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from asr_kd.core.log import get_logger
from asr_kd.models.random_numbers import drawing_with
from asr_kd.training.batch_norm import batch_norm_layers, shared_batch_norm
from asr_kd.training.gradients import shared_linear
from asr_kd.training.objective import Objective
from asr_kd.training.parts import ShardGroup

logger = get_logger(__name__)

Result = TypeVar("Result")
Module = TypeVar("Module", bound=nn.Module)

_SHARD = 512  # frames a shard has at least where a minibatch makes more than two


def choose_num_shards(wanted: int, batch_size: int, model: nn.Module, inputs: Tensor,
                      evaluation_mode: bool = False) -> int:
    """Return the number of shards of a minibatch: as many as are `wanted`, or if that is 0, one for 512 frames.

    There are at least two then, so that two cores have something to do.
    A network gets one shard on a GPU, and where threads that share it would get in each other's way: with a batch
    normalisation other than BatchNorm1d, with random numbers of PyTorch's default generator, or where it cannot be
    copied (tensors that are computed from parameters and kept, as `torch.nn.utils.weight_norm` does). `inputs`: what it
    hears, a minibatch; `evaluation_mode`: it trains with dropout and batch norms at rest.
    """
    if inputs.device.type != "cpu":
        return 1
    if any(type(layer) is not nn.BatchNorm1d for layer in batch_norm_layers(model)):
        return 1
    if _keeps_tensors(model):
        logger.info("each minibatch is trained on by one thread: the network keeps tensors that are no parameters")
        return 1
    try:
        trial = replicate(model, model)
    except (RuntimeError, TypeError) as error:
        logger.info("each minibatch is trained on by one thread: the network cannot be copied (%s)", error)
        return 1
    if not evaluation_mode and _draws_by_itself(trial, inputs):
        return 1
    return wanted or max(2, batch_size // _SHARD)


def _keeps_tensors(model: nn.Module) -> bool:
    """Find out whether hooks compute weights, which a copy of the network would not share."""
    return any(isinstance(value, Tensor) for module in model.modules() for value in vars(module).values())


def _draws_by_itself(trial: nn.Module, inputs: Tensor) -> bool:
    """Find out whether a network in training mode draws from PyTorch's default generator, which is left as it is.

    `trial` is a copy of the network, whose buffers change.
    """
    state = torch.get_rng_state()
    with torch.no_grad(), drawing_with(0, 0):
        trial.train()(inputs)
    draws = not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)
    return draws


class Shards:
    """A network and its objective as often as a minibatch has shards, and the threads that train on these.

    The replicas share the parameters of the first, the network itself, and have buffers of their own, which change
    alike. With one shard the calling thread does the work.
    """

    def __init__(self, model: nn.Module, objective: Objective, count: int, threads: int) -> None:
        self.models = [model, *(replicate(model, model) for _ in range(count - 1))]
        self.objectives = [objective, *(replicate(objective, model, objective) for _ in range(count - 1))]
        self.set_threads(threads)
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.models)

    def set_threads(self, threads: int) -> None:
        """Let so many threads run at a time from the next step on."""
        self._threads = threads
        self._group = ShardGroup(len(self), threads)

    @torch.no_grad()
    def share_buffers(self) -> None:
        """Give all replicas the buffers of the first, after these were changed elsewhere."""
        for originals, replicas in ((self.models[0], self.models[1:]), (self.objectives[0], self.objectives[1:])):
            for replica in replicas:
                for buffer, changed in zip(replica.buffers(), originals.buffers(), strict=True):
                    buffer.copy_(changed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep threads, and batch normalisation over all parts of a minibatch, within the context."""
        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(shared_batch_norm(model, len(self)))
                if len(self) > 1:
                    stack.enter_context(shared_linear(model))
            if len(self) > 1:
                self._pool = stack.enter_context(ThreadPoolExecutor(
                    len(self), "shard", initializer=torch.set_num_threads, initargs=(1,)))
                _start_threads(self._pool, len(self))
            try:
                yield
            finally:
                self._pool = None

    def run(self, work: Callable[[int], Result]) -> list[Result]:
        """Return what `work` returns for each shard, given its number; the first error of any is raised here."""
        if self._pool is None:
            return [work(shard) for shard in range(len(self))]
        step_seed, *seeds = torch.randint(1 << 62, (len(self) + 1,)).tolist()
        group = self._group

        def in_thread(shard: int) -> Result:
            with group.member(shard), drawing_with(seeds[shard], step_seed):
                return work(shard)

        try:
            results = [self._pool.submit(in_thread, shard) for shard in range(len(self))]
            errors = [error for error in map(Future.exception, results) if error is not None]
        except BaseException:  # interrupted: no thread may wait for one that never began
            group.abort()
            raise
        for error in sorted(errors, key=lambda one: isinstance(one, threading.BrokenBarrierError)):
            raise error
        return [result.result() for result in results]

    def run_plain(self, works: Sequence[Callable[[], object]]) -> None:
        """Do pieces of work that need no random numbers and never wait for each other; each goes to a free thread."""
        waiting = iter(works)
        if self._pool is None or self._threads == 1:
            _do(waiting)
            return
        for done in [self._pool.submit(_do, waiting) for _ in range(min(self._threads, len(self)))]:
            done.result()


def _do(works: Iterator[Callable[[], object]]) -> None:
    for work in works:
        work()


def _start_threads(pool: ThreadPoolExecutor, count: int) -> None:
    """Let a new pool start all of its threads.

    It would start one only where it counts none as idle, and may count one too many; shards that wait for each other
    need a thread each.
    """
    all_started = threading.Barrier(count)
    try:
        list(pool.map(lambda _: all_started.wait(), range(count)))
    except BaseException:  # interrupted: no thread may wait for one that was not started
        all_started.abort()
        raise


def replicate(module: Module, *owners: nn.Module) -> Module:
    """Return a copy of a module that shares the parameters of the owners with it."""
    return copy.deepcopy(module, {id(parameter): parameter for owner in owners for parameter in owner.parameters()})
