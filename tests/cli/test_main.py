"""The command line's frame: exit codes, one-line errors, help, and one signature per job."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from asr_kd.cli import application
from asr_kd.cli.main import main

COMMANDS = [["run"], ["status"], ["stages"], ["align"], ["graph"], ["decode"], ["adapt"], ["rescore"], ["score"],
            ["results"], ["validate"], ["init"], ["prepare", "kaldi"], ["prepare", "demo"], ["prepare", "lexicon"],
            ["lm", "train"], ["lm", "interpolate"], ["lm", "prune"], ["lm", "perplexity"]]


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert main(["no-such-command"]) == 2
    assert main(["run", "recipes/demo", "--run-dir"]) == 2


def test_missing_recipe_is_one_line_and_exits_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "nothing"), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no recipe there" in error
    assert not (tmp_path / "run").exists()


def test_missing_corpus_is_one_line_and_exits_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for corpus in ([], ["--corpus", str(tmp_path / "nothing")]):
        assert main(["run", "recipes/speechocean762", "--run-dir", str(tmp_path / "run"), *corpus]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "--corpus" in error


def test_faulty_setting_is_named_before_any_work(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = ["run", "recipes/demo", "--run-dir", str(tmp_path / "run")]
    assert main([*run, "--set", "teacher.network.hidden_dim=-5"]) == 2
    assert "teacher.network.hidden_dim: expected greater than 0, found -5" in capsys.readouterr().err
    assert main([*run, "--set", "teacher.network.hiden_dim=5"]) == 2
    assert "unknown key; did you mean 'hidden_dim'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_gives_a_worked_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert f"Example: asr-kd {' '.join(command)} " in text


def test_run_and_run_recipe_share_one_signature() -> None:
    from asr_kd.cli.run import run
    from asr_kd.stages.run import run_recipe

    command = inspect.signature(run).parameters
    function = inspect.signature(run_recipe).parameters
    assert set(command) - set(function) == {"as_json"}  # how the outcome is printed
    assert set(function) - set(command) == {"say"}  # where a program wants to be told
    for name in set(command) & set(function):
        assert command[name].default == function[name].default, name


def test_commands_share_their_functions_signatures() -> None:
    from asr_kd.cli import adapt, align, status, validate
    from asr_kd.core.run_directory import read_status
    from asr_kd.data.validation import validate_manifest
    from asr_kd.stages.adaptation import adapt_network
    from asr_kd.stages.alignment import align_manifest

    for command, function in ((status.status, read_status), (validate.validate, validate_manifest),
                              (align.align, align_manifest), (adapt.adapt, adapt_network)):
        shell = {name: p.default for name, p in inspect.signature(command).parameters.items()}
        python = {name: p.default for name, p in inspect.signature(function).parameters.items()}
        assert {k: v for k, v in shell.items() if k not in ("json", "as_json")} == python  # how it is printed


def test_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.callback()
    def options() -> None:
        return

    @app.command("wait")
    def wait() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "app", app)
    assert main(["wait"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_verbose_may_stand_anywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", str(tmp_path), "-v"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and "not a run directory" in error.splitlines()[-1]


def test_a_faulty_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "recipes/demo", "--run-dir", "x", "--seed", "-1"]) == 2
    assert "'--seed'" in capsys.readouterr().err


def test_no_command_gives_help_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr()
    assert "Usage" in printed.out and printed.err == "asr-kd: no command given; see above\n"


def test_a_reader_that_has_gone_is_no_noise() -> None:
    program = "import sys; from asr_kd.cli.main import main; sys.stdin.readline(); sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == "" and process.wait() == 1


def test_more_memory_than_there_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1 A\nu2 B\n")
    text = str(tmp_path / "text")
    assert main(["score", "--ref", text, "--hyp", text, "--draws", "99999999999999"]) == 1
    assert capsys.readouterr().err.startswith("asr-kd: out of memory (")


def test_help_is_quick_because_heavy_packages_wait() -> None:
    program = "import sys; from asr_kd.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "lhotse", "numba", "scipy"} & set(done.stderr.split())


def test_every_command_is_reachable() -> None:
    assert main(["--help"]) == 0
    names = set(typer.main.get_command(application.app).commands)  # type: ignore[attr-defined]
    assert {command[0] for command in COMMANDS} == names
