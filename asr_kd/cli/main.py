"""The entry of `asr-kd`. It imports next to nothing: signals are handled before the rest is imported."""

import sys

from asr_kd.cli.signals import EXIT_INTERRUPTED, StopRequest, Terminated


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done; 1 the work failed; 2 wrong usage or input; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM).
    """
    stop = StopRequest()
    try:
        with stop.handled():
            from asr_kd.cli.application import run_command

            return run_command(sys.argv[1:] if arguments is None else arguments, stop)
    except (KeyboardInterrupt, Terminated):
        from asr_kd.core.terminal import print_error

        print_error(f"asr-kd: {stop.message}")
        return stop.exit_code or EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
