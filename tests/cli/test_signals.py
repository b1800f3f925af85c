"""Ctrl-C and SIGTERM at any moment: one line, nothing half-written, exit code 130 or 143."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}

# A command that writes a folder and waits in the middle of it.
WAITING = """
import sys, time
from pathlib import Path
import typer
from asr_kd.cli import application
from asr_kd.cli.main import main
from asr_kd.core.files import atomic_folder
from asr_kd.core.own_folders import FolderKind
app = typer.Typer()
application.app = app
@app.callback()
def options() -> None: ...
@app.command("wait")
def wait(output: Path) -> None:
    with atomic_folder(output, FolderKind("output", ())) as folder:
        (folder / "half").touch()
        sys.stdout.write("begun\\n")
        {action}
sys.exit(main(["wait", sys.argv[1]]))
"""


def heed_interrupts() -> None:
    """Undo that SIGINT is ignored, as it is below a job in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
@pytest.mark.parametrize("action", [
    "time.sleep(60)",
    """try:
            time.sleep(60)
        except BaseException as error:
            raise ImportError from error"""], ids=["plain", "swallowed by a library"])
def test_a_signal_cleans_up_and_says_so(
    tmp_path: Path, number: signal.Signals, code: int, word: str, action: str
) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING.replace("{action}", action), str(tmp_path / "out")],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True,
                          preexec_fn=heed_interrupts) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stderr.read() == f"asr-kd: {word}; the same command goes on from here\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_command_line_is_imported_is_no_traceback(number: signal.Signals, code: int) -> None:
    program = (
        "import os, sys, threading\n"
        "from asr_kd.cli.main import main\n"
        "assert 'typer' not in sys.modules\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'typer': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.exit(main(['--help']))\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
                          preexec_fn=heed_interrupts)
    assert done.returncode == code
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_version_and_completion(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from asr_kd.cli.main import main; sys.exit(main())"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("asr-kd ") and done.stdout.strip()[-1].isdigit()
    environment = {**ENVIRONMENT, "_ASR_KD_COMPLETE": "complete_bash", "COMP_WORDS": "asr-kd pre", "COMP_CWORD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "prepare" in done.stdout.split()


def test_a_full_standard_output_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full to write to")
    began = time.monotonic()
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", "import sys; from asr_kd.cli.main import main; sys.exit(main())",
                               "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and time.monotonic() - began < 60
    assert done.stderr.count("\n") == 1 and "disk full" in done.stderr
