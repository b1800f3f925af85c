"""Logging: detail to the stage's log file, warnings (and with -v information) to stderr."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from asr_kd.core.terminal import printable

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`."""
    return logging.getLogger(name)


def configure_console(verbose: bool) -> None:
    """Show warnings on stderr, with `verbose` also information."""
    root = logging.getLogger("asr_kd")
    root.setLevel(logging.DEBUG)
    for handler in [h for h in root.handlers if not isinstance(h, _StageLog)]:
        root.removeHandler(handler)
    console = logging.StreamHandler()
    console.setLevel(logging.INFO if verbose else logging.WARNING)
    console.setFormatter(_PrintableFormatter("%(message)s"))
    root.addHandler(console)


@contextlib.contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append everything that is logged in the block to `path`; a link there is not followed (OSError)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags, 0o666), "a", encoding="utf-8", errors="backslashreplace") as file:
        handler = _StageLog(file)
        handler.setFormatter(_PrintableFormatter(_FORMAT))
        root = logging.getLogger("asr_kd")
        root.setLevel(logging.DEBUG)
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            with contextlib.suppress(OSError):
                file.close()


class _StageLog(logging.StreamHandler[TextIO]):
    """On a full disk the log loses lines; what stops the stage is reported by the stage itself."""

    def handleError(self, record: logging.LogRecord) -> None:
        return


class _PrintableFormatter(logging.Formatter):
    """Log files are shown on terminals too."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
