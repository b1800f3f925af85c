"""Estimate the share of a run that is done, and the time that is left."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from asr_kd.core import progress


class RunClock:
    """Tells the share of a run that is done, and the time left, from what its stages cost when last built.

    `seconds`: stage -> wall seconds of its last build, None where it was never built; in the order of the run.
    """

    def __init__(self, seconds: Mapping[str, float | None], now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = dict(seconds)
        self._now = now
        self._run_began = now()
        self._done = 0
        self._began: float | None = None
        self._current: str | None = None

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The block builds the stage `name`; lines of progress within it begin with its name and the run's state."""
        self._seconds.setdefault(name, None)
        self._current, self._began = name, self._now()
        try:
            with progress.within(name, self.describe):
                yield
        finally:
            self._seconds.pop(name)
            self._done += 1
            self._current = self._began = None

    def describe(self) -> str:
        """For example "stage 3 of 12; run: 40 % done, about 25 min left"; no share where costs are not known."""
        total = self._done + len(self._seconds)
        text = f"stage {min(self._done + 1, total)} of {total}"
        left = self.seconds_left()
        if left is None:
            return text
        spent = self._now() - self._run_began
        share = 100 * spent / max(spent + left, 1e-9)
        return f"{text}; run: {share:.0f} % done, about {progress.describe_seconds(left)} left"

    def seconds_left(self) -> float | None:
        """Wall seconds that the rest may take; None where a stage of it was never built before."""
        left = 0.0
        for name, seconds in self._seconds.items():
            if seconds is None:
                return None
            spent = self._now() - self._began if name == self._current and self._began is not None else 0.0
            left += max(0.0, seconds - spent)
        return left
