"""Ordered parallel work over threads; the work itself must release the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from asr_kd.core.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def map_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    description: str = "",
    unit: str = "utt",
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, computed by `workers` threads (default: all cores).

    At most a few items per worker are in flight, so results do not pile up. The first error is raised
    here and what has not begun is not begun.
    """
    items = list(items)
    workers = workers or available_cores()
    return iter(progress(_run(function, items, workers), len(items), description, unit))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's and SciPy's matrix products and decompositions by one thread; also a decorator.

    The last bits of what they give depend on the number of threads, and so on the machine: too little to matter, but
    where what follows is decided by comparisons (trees, mixtures) and every later stage stands on it.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _run(function: Callable[[Item], Result], items: list[Item], workers: int) -> Iterator[Result]:
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
