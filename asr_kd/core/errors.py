"""The two kinds of error that a user sees, each as one line, and how they name what can be set."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_stage: ContextVar[str | None] = ContextVar("stage", default=None)

# Characters of a message: a damaged file's line can have millions.
_LONGEST = 2000


class AsrKdError(Exception):
    """Base of all errors that are reported as one line, without a traceback.

    The message says what is wrong, where (file:line, utterance, key), what was expected and what to
    do.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ...")


class InputError(AsrKdError):
    """Wrong usage, or a fault of a whole input; nothing has been done (exit code 2)."""

    exit_code = 2


class WorkError(AsrKdError):
    """The work itself failed (exit code 1)."""

    exit_code = 1


@contextmanager
def messages_of_stage(stage: str) -> Iterator[None]:
    """Within the block messages name settings of this stage of a recipe, not options of a
    command."""
    token = _stage.set(stage)
    try:
        yield
    finally:
        _stage.reset(token)


def option_name(name: str) -> str:
    """Name what changes the parameter `name`: the option `--name` of a command, or the setting of a
    stage."""
    stage = _stage.get()
    return (
        f"--{name.replace('_', '-')}" if stage is None else f"the setting {name} of stage {stage}"
    )


def assignment(name: str, value: str) -> str:
    """Write the assignment that gives `name` a value: an option of a command, or a setting of a
    stage."""
    return f"--set {name}={value}" if _stage.get() is None else f"{name}: {value}"
