"""`asr-kd`: the commands, and what becomes of their errors."""

import errno
import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from asr_kd.core.errors import AsrKdError
from asr_kd.core.log import configure_console, get_logger

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
_INTERRUPTED = "interrupted; the same command goes on from here"
_VERBOSE = {"-v", "--verbose"}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more, and show tracebacks.")] = False,
) -> None:
    """Small speech recognisers by knowledge distillation.

    Example: asr-kd run recipes/demo --run-dir runs/demo
    """
    configure_console(verbose)


def _register() -> None:
    from asr_kd.cli import align, decode, graph, lm, prepare, rescore, results, run, score, stages, status, validate

    for command in (prepare, validate, lm, run, status, stages, align, graph, decode, rescore, score, results):
        command.register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose = bool(_VERBOSE & set(arguments))
    # Wherever it stands: people put it at the end.
    arguments = [*(["-v"] if verbose else []), *(one for one in arguments if one not in _VERBOSE)]
    configure_console(verbose)
    if not app.registered_commands:
        _register()
    try:
        outcome = app(arguments, prog_name="asr-kd", standalone_mode=False)
        sys.stdout.flush()
    except AsrKdError as error:
        return _fail(str(error), error.exit_code, verbose)
    except TyperException as error:
        message = error.format_message()
        return _fail(f"{message} (see --help)" if message else "no command given; see above", EXIT_USAGE, verbose)
    except (typer.Abort, KeyboardInterrupt):
        return _fail(_INTERRUPTED, EXIT_INTERRUPTED, False)
    except BrokenPipeError:
        # The reader has gone (`| head`); what is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"disk full{f' ({error.filename})' if error.filename else ''}; free space and run the same command"
            return _fail(what, EXIT_FAILED, verbose)
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", EXIT_FAILED, verbose)
    except MemoryError as error:
        return _fail(f"out of memory ({error})", EXIT_FAILED, verbose)
    except Exception as error:
        get_logger(__name__).debug("unexpected error", exc_info=True)
        return _fail(f"unexpected {type(error).__name__}: {error} (-v shows where)", EXIT_FAILED, verbose)
    if outcome == EXIT_INTERRUPTED:
        return _fail(_INTERRUPTED, EXIT_INTERRUPTED, False)
    return outcome if isinstance(outcome, int) else 0  # typer returns the code of an Exit


def _fail(message: str, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"asr-kd: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
