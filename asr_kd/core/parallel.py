"""Ordered parallel work over threads; the work itself must release the interpreter lock."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from threadpoolctl import threadpool_limits

from asr_kd.core.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    That is the number of cores in its affinity mask, or fewer where the CPU quota of its control group, or of a group
    above it, allows less time than these cores have: a quota of 1.5 cores counts as 2. `root`: folder that holds `proc`
    and `sys`.
    """
    cores = len(os.sched_getaffinity(0))
    quotas = [math.ceil(quota) for quota in _cpu_quotas(root)]
    return max(1, min([cores, *quotas]))


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quota, in cores, of each control group (v1 and v2) around this process that has one."""
    for line in _read_lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in _control_group_mounts(root, "cpu" if controllers else ""):
            # In a container the group's own path may lie outside of what is mounted; the mount is its top then.
            own = (mount / group.lstrip("/")) if ".." not in group.split("/") else mount
            for folder in [own, *own.parents]:
                if folder.is_relative_to(mount):
                    yield from _cpu_quota(folder)


def _control_group_mounts(root: Path, controller: str) -> Iterator[Path]:
    """Yield where control groups are mounted: those of a controller in version 1, of version 2 where it is empty."""
    for line in _read_lines(root / "proc/self/mountinfo"):
        mounted, _, source = line.partition(" - ")
        kind, _, options = source.partition(" ")
        is_asked_for = kind == "cgroup" and controller in options.split()[-1].split(",") if controller else (
            kind == "cgroup2")
        if is_asked_for:
            yield root / mounted.split()[4].lstrip("/")


def _cpu_quota(folder: Path) -> Iterator[float]:
    """Yield the quota that a control group's own files set, if any: `max` (version 2) and -1 (version 1) set none."""
    version_2 = " ".join(_read_lines(folder / "cpu.max")).split()
    version_1 = [*_read_lines(folder / "cpu.cfs_quota_us"), *_read_lines(folder / "cpu.cfs_period_us")]
    for values in (version_2, version_1):
        if len(values) == 2 and values[0].isdecimal() and values[1].isdecimal() and int(values[1]) > 0:
            yield int(values[0]) / int(values[1])


def _read_lines(path: Path) -> list[str]:
    """Return the lines of one of the kernel's small files, none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


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


def use_one_library_thread() -> None:
    """Make the numerical libraries that this process and its children load from now on use one thread each.

    What runs in parallel are threads of ours (`map_threads`, the shards of minibatches). Threads of the libraries would
    wait for each other by spinning, and the last bits of what they give depend on their number.
    """
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


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
