"""Ctrl-C and SIGTERM stop a command in the same way: what is half done is cleaned up, and the exit code says which."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
_MESSAGES = {EXIT_INTERRUPTED: "interrupted", EXIT_TERMINATED: "terminated"}


class Terminated(BaseException):
    """SIGTERM arrived."""


class StopRequest:
    """A signal's request to stop the command: `exit_code` is 130 for Ctrl-C, 143 for SIGTERM, else None."""

    def __init__(self) -> None:
        self.exit_code: int | None = None

    @property
    def message(self) -> str:
        """One line for people."""
        return f"{_MESSAGES[self.exit_code or EXIT_INTERRUPTED]}; the same command goes on from here"

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """In the block SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`, and both are noted.

        A signal that is ignored (as SIGINT is for a job in the background) stays so. Outside of the main thread
        signals cannot be handled, and nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            if self.exit_code is not None:
                return  # cleaning up already
            self.exit_code = EXIT_TERMINATED
            raise Terminated
        self.exit_code = self.exit_code or EXIT_INTERRUPTED
        raise KeyboardInterrupt
