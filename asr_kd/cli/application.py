"""`asr-kd`: the commands, and what becomes of their errors."""

import contextlib
import os
import sys
import traceback
from importlib import metadata
from typing import Annotated

import typer
from typer.exceptions import TyperException

from asr_kd.cli.signals import EXIT_INTERRUPTED, StopRequest, Terminated
from asr_kd.core.disk_space import disk_full_error
from asr_kd.core.errors import AsrKdError
from asr_kd.core.log import configure_console, get_logger
from asr_kd.core.parallel import use_one_library_thread
from asr_kd.core.terminal import print_error, print_text

EXIT_FAILED, EXIT_USAGE = 1, 2
_VERBOSE = {"-v", "--verbose"}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_text(f"asr-kd {metadata.version('asr-kd')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Small speech recognisers by knowledge distillation.

    Example: asr-kd run recipes/demo --run-dir runs/demo
    """
    configure_console(verbose)


def _register() -> None:
    from asr_kd.cli import (
        adapt,
        align,
        decode,
        graph,
        init,
        lm,
        prepare,
        rescore,
        results,
        run,
        score,
        stages,
        status,
        validate,
    )

    commands = (init, prepare, validate, lm, run, status, stages, align, graph, decode, adapt, rescore)
    for command in (*commands, score, results):
        command.register(app)


def run_command(arguments: list[str], stop: StopRequest) -> int:
    """Run one command and return its exit code; every error becomes one line on stderr."""
    verbose = bool(_VERBOSE & set(arguments))
    # Wherever it stands: people put it at the end.
    arguments = [*(["-v"] if verbose else []), *(word for word in arguments if word not in _VERBOSE)]
    configure_console(verbose)
    use_one_library_thread()
    if not app.registered_commands:
        _register()
    try:
        outcome = app(arguments, prog_name="asr-kd", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt, Terminated):
        return _fail(stop.message, stop.exit_code or EXIT_INTERRUPTED, False)
    except BrokenPipeError:
        _leave_stdout()  # the reader has gone (`| head`)
        return EXIT_FAILED
    except TyperException as error:
        message = error.format_message()
        return _fail(f"{message} (see --help)" if message else "no command given; see above", EXIT_USAGE, verbose)
    except Exception as error:
        if stop.exit_code is not None:  # a library made an error of its own of the interruption
            return _fail(stop.message, stop.exit_code, False)
        message, code = _describe(error)
        return _fail(message, code, verbose)
    if outcome == EXIT_INTERRUPTED:
        return _fail(stop.message, stop.exit_code or EXIT_INTERRUPTED, False)
    return outcome if isinstance(outcome, int) else 0  # typer returns the code of an Exit


def _describe(error: Exception) -> tuple[str, int]:
    """One line for people, and the exit code."""
    if isinstance(error, AsrKdError):
        return str(error), error.exit_code
    full = disk_full_error(error)
    if full is not None:
        _leave_stdout()  # it may be what cannot be written
        return str(full), EXIT_FAILED
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{where}", EXIT_FAILED
    if isinstance(error, MemoryError):
        return f"out of memory ({error})", EXIT_FAILED
    get_logger(__name__).debug("unexpected error", exc_info=True)
    return f"unexpected {type(error).__name__}: {error} (-v shows where)", EXIT_FAILED


def _leave_stdout() -> None:
    """Send what is still buffered nowhere: it must not be tried again at exit."""
    with contextlib.suppress(OSError, AttributeError):  # a stream of the caller's, or a closed one, has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int, verbose: bool) -> int:
    if verbose:
        print_error(traceback.format_exc())
    print_error(f"asr-kd: {' '.join(message.split())}")
    return code
