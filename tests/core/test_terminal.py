"""One place prints, and it prints only what cannot steer a terminal."""

import ast
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr_kd.core.log import configure_console, get_logger, log_to_file
from asr_kd.core.terminal import print_error, print_json, print_text, printable

ROOT = Path(__file__).resolve().parents[2]
RED, TITLE, RIGHT_TO_LEFT, C1, HALF = "\x1b[31m", "\x1b]0;owned\x07", "a\u202eb", "\x9b2J", "x\udcffy"
# What the helper process prints is read by the program that started it, over a pipe.
_PROTOCOL = ["data_prep/demo_espeak.py"]


@pytest.mark.parametrize(("text", "shown"), [
    (RED, "\\x1b[31m"), (TITLE, "\\x1b]0;owned\\x07"), (RIGHT_TO_LEFT, "a\\u202eb"), (C1, "\\x9b2J"),
    (HALF, "x\\udcffy"), ("a\rb", "a\\x0db"), ("\ufeffWORD", "\\ufeffWORD"), ("\U000e0041", "\\U000e0041"),
    ("a\u2028b", "a\\u2028b"), ("\x7f", "\\x7f"),
    ("Götter 数字 ‌\u200c [red]x[/red]\n\t–", "Götter 数字 ‌\u200c [red]x[/red]\n\t–"),
])
def test_only_what_is_printable_is_printed(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text) == shown
    print_text(text)
    print_error(text)
    assert capsys.readouterr() == (shown + "\n", shown + "\n")


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"id": RED + C1 + RIGHT_TO_LEFT + "\U000e0041", "word": "Götter"}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value and "Götter" in printed
    assert printable(printed) == printed


def test_logs_are_printable_on_the_console_and_in_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("asr_kd").handlers[:]
    try:
        configure_console(verbose=False)
        with log_to_file(tmp_path / "log"):
            get_logger("asr_kd.test").warning("dropped %s", RED)
    finally:
        logging.getLogger("asr_kd").handlers[:] = before
    assert capsys.readouterr().err == "dropped \\x1b[31m\n"
    assert "dropped \\x1b[31m\n" in (tmp_path / "log").read_text()


def test_ids_of_a_score_do_not_reach_the_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from asr_kd.cli.main import main

    (tmp_path / "ref").write_text(f"u1 {RIGHT_TO_LEFT}\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("u1 other\n")
    assert main(["score", "--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), "--alignments", "-"]) == 0
    assert main(["score", "--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / f"hyp{RED}{C1}")]) == 2
    printed = "".join(capsys.readouterr())
    assert "a\\u202eb" in printed and "hyp\\x1b[31m\\x9b2J" in printed
    assert not {"\x1b", "\u202e", "\x9b"} & set(printed)


def test_nothing_prints_but_that_place() -> None:
    files = [*ROOT.glob("asr_kd/**/*.py"), *ROOT.glob("data_prep/**/*.py")]
    assert len(files) > 100
    found = [f"{path.relative_to(ROOT)}:{line}" for path in sorted(files)
             if str(path.relative_to(ROOT)) not in ("asr_kd/core/terminal.py", *_PROTOCOL)
             for line in printing_lines(ast.parse(path.read_text(encoding="utf-8")))]
    assert found == []


@pytest.mark.parametrize("code", [
    "print(x)", "typer.echo(x)", "sys.stdout.write(x)", "sys.stderr.writelines(x)", "typer.secho(x)",
    "rich.print(x)", "print(x, file=sys.stderr)"])
def test_a_planted_print_is_found(code: str) -> None:
    assert list(printing_lines(ast.parse(f"import sys\n{code}"))) == [2]


def printing_lines(tree: ast.AST) -> Iterator[int]:
    """Lines that print by themselves."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr="echo" | "secho" | "print" | "print_exc", value=ast.Name())):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr="write" | "writelines", value=ast.Attribute(attr=stream))):
                if stream in ("stdout", "stderr"):
                    yield node.lineno


def test_a_command_whose_streams_are_closed_works_in_silence() -> None:
    command = [sys.executable, "-m", "asr_kd.cli.main", "stages", "align"]
    done = subprocess.run(["sh", "-c", f"{shlex.join(command)} >&- 2>&-"], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
