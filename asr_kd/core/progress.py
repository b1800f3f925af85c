"""Progress of long work: a bar on a terminal, elsewhere a line every so often."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from asr_kd.core.terminal import print_error, printable

Item = TypeVar("Item")

FIRST_LINE, LONGEST_PAUSE = 10.0, 60.0  # seconds


def progress(
    iterable: Iterable[Item], total: int | None = None, description: str = "", unit: str = "it"
) -> Iterator[Item]:
    """Yield from `iterable` under a progress bar on stderr, see `ProgressBar`."""
    with ProgressBar(total, description, unit) as bar:
        for item in iterable:
            yield item
            bar.update(1)


class ProgressBar:
    """Progress that is moved by hand: `update(n, loss=1.23)`.

    On a terminal it is a bar on stderr. Elsewhere a line there says the share done and the time left: the first after
    ten seconds, the next after twice as long, up to one a minute.
    """

    def __init__(self, total: int | None = None, description: str = "", unit: str = "it") -> None:
        self._bar: tqdm | None = None
        self._total, self._description, self._unit = total, description, unit
        self._count = 0
        self._first_count: int | None = None  # what work of before a restart is reported as at once
        self._began = time.monotonic()
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(total=total, desc=printable(description) or None, unit=unit, leave=False, file=sys.stderr,
                             dynamic_ncols=True, unit_scale=True)

    def update(self, count: int, **fields: object) -> None:
        """Move on by `count`; `fields` are shown behind the bar."""
        if self._bar is not None:
            if fields:
                self._bar.set_postfix({name: printable(str(value)) for name, value in fields.items()}, refresh=False)
            self._bar.update(count)
            return
        self._count += count
        if self._first_count is None:
            self._first_count = self._count
        if _lines.is_due():
            print_error(_lines.prefix + self._describe(fields) + _lines.suffix())

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _describe(self, fields: dict[str, object]) -> str:
        seconds = time.monotonic() - self._began
        name = f"{self._description}: " if self._description else ""
        if self._total:
            share = f"{100 * self._count / self._total:.0f} % of {self._total:,} {self._unit}"
        else:
            share = f"{self._count:,} {self._unit} in {describe_seconds(seconds)}"
        parts = [share, *(f"{key} {value}" for key, value in fields.items())]
        moved = self._count - (self._first_count or 0)
        if self._total and moved > 0:
            left = seconds * (self._total - self._count) / moved
            parts.append(f"about {describe_seconds(left)} left")
        return name + ", ".join(parts)


@contextlib.contextmanager
def within(name: str, describe: Callable[[], str]) -> Iterator[None]:
    """Lines of progress in the block begin with `name`, and end with what `describe()` says of the whole."""
    global _lines
    outer, _lines = _lines, _Lines(f"{name}: ", describe)
    _lines.is_due()  # the first pause begins here
    try:
        yield
    finally:
        _lines = outer


def describe_seconds(seconds: float) -> str:
    """Write a length of time with two units at most, for example "2 min 5 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _Lines:
    """The time of the next line of progress, and the text around it."""

    def __init__(self, prefix: str = "", describe: Callable[[], str] | None = None) -> None:
        self.prefix = prefix
        self._describe = describe
        self._pause = FIRST_LINE
        self._next: float | None = None

    def is_due(self) -> bool:
        now = time.monotonic()
        if self._next is None:
            self._next = now + self._pause
        if now < self._next:
            return False
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._next = now + self._pause
        return True

    def suffix(self) -> str:
        return "" if self._describe is None else f" [{self._describe()}]"


_lines = _Lines()
