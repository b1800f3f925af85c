"""The C library's treatment of memory that is freed."""

import contextlib
import ctypes
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt's names for them
_KEPT = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1}
_USUAL = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}  # the highest that glibc adapts them to by itself


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Blocks of up to 1 GiB that are freed stay with the process for their next use, and go back in the end.

    A training step on a CPU frees as much as it takes. glibc gives large blocks back to the system at once and has
    them filled with zeros, page by page, in the next step: up to a third of its time. With another C library this does
    nothing.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_ARENA_MAX, 1)  # the other threads' own arenas go back to the system however much is kept
    for threshold, size in _KEPT.items():
        libc.mallopt(threshold, size)
    try:
        yield
    finally:
        for threshold, size in _USUAL.items():
            libc.mallopt(threshold, size)
        libc.malloc_trim(0)
