"""Logging: detail to the stage's log file, warnings (and with -v information) to stderr."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`."""
    return logging.getLogger(name)


def configure_console(verbose: bool) -> None:
    """Show warnings on stderr, with `verbose` also information."""
    root = logging.getLogger("asr_kd")
    root.setLevel(logging.DEBUG)
    for handler in [h for h in root.handlers if not isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
    console = logging.StreamHandler()
    console.setLevel(logging.INFO if verbose else logging.WARNING)
    console.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(console)


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append everything that is logged in the block to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _StageLog(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger("asr_kd")
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()


class _StageLog(logging.FileHandler):
    """On a full disk the log loses lines; what stops the stage is reported by the stage itself."""

    def handleError(self, record: logging.LogRecord) -> None:
        return
