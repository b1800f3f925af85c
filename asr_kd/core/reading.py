"""One guard around every reader: what goes wrong while a file is parsed is an InputError that names the file.

A file from outside can break a parser in more ways than a list of exceptions can hold. A reader therefore opens files
with `asr_kd.core.opening.open_file` and does its work inside `with parsing(path, "alignments", "align again"):`.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from asr_kd.core.errors import AsrKdError, InputError
from asr_kd.core.opening import reading, require_file

_NO_FAULT_OF_THE_FILE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPIPE}
_LONGEST_DETAIL = 200


@contextlib.contextmanager
def parsing(path: Path | str, kind: str = "file", remedy: str = "") -> Iterator[None]:
    """Turn every exception of the block into `InputError("PATH: damaged KIND (what was found); REMEDY")`.

    `path` may carry a place (`FILE:LINE`). Our own errors pass unchanged, as do interrupts, MemoryError and system
    errors that are no fault of the file (a full disk, too many open files).
    """
    try:
        yield
    except (AsrKdError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError):
            if error.errno in _NO_FAULT_OF_THE_FILE:
                raise
            if error.errno is not None:
                with reading(Path(error.filename or path)):
                    raise
        detail = f"{type(error).__name__}: {error}"
        if len(detail) > _LONGEST_DETAIL:
            detail = f"{detail[:_LONGEST_DETAIL]}..."
        raise InputError(f"{path}: damaged {kind} ({detail}){f'; {remedy}' if remedy else ''}") from error


def file_size(path: Path) -> int:
    """Size of a regular file in bytes, for readers that open it by its name; InputError where it is none."""
    require_file(path)
    return os.stat(path).st_size
