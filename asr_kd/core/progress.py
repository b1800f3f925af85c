"""Progress bars on long work: on a terminal only."""

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    iterable: Iterable[Item], total: int | None = None, description: str = "", unit: str = "it"
) -> Iterator[Item]:
    """Yield from `iterable` under a progress bar on stderr; silent where stderr is not a terminal."""
    with ProgressBar(total, description, unit) as bar:
        for item in iterable:
            yield item
            bar.update(1)


class ProgressBar:
    """A progress bar that is moved by hand: `update(n, loss=1.23)`; silent where stderr is not a terminal."""

    def __init__(self, total: int | None = None, description: str = "", unit: str = "it") -> None:
        self._bar = tqdm(total=total, desc=description or None, unit=unit, leave=False, file=sys.stderr,
                         disable=not sys.stderr.isatty(), dynamic_ncols=True, unit_scale=True)

    def update(self, count: int, **fields: object) -> None:
        """Move on by `count`; `fields` are shown behind the bar."""
        if fields:
            self._bar.set_postfix(fields, refresh=False)
        self._bar.update(count)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()
