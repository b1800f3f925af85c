"""The two kinds of error that a user sees, each as one line."""


class AsrKdError(Exception):
    """Base of all errors that are reported as one line, without a traceback.

    The message says what is wrong, where (file:line, utterance, key), what was expected and what to do.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class InputError(AsrKdError):
    """Wrong usage, or a fault of a whole input; nothing has been done (exit code 2)."""

    exit_code = 2


class WorkError(AsrKdError):
    """The work itself failed (exit code 1)."""

    exit_code = 1
