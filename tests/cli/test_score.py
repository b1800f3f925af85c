"""`asr-kd score`: one signature with the function, and its options from files to the terminal."""

import inspect
import json
import typing
from pathlib import Path

import pytest

from asr_kd.cli import score as command
from asr_kd.cli.main import main
from asr_kd.scoring import api


def test_command_and_function_share_one_signature() -> None:
    shell = dict(inspect.signature(command.score).parameters)
    assert shell.pop("json").default is False
    python = inspect.signature(api.score).parameters
    assert list(shell) == list(python)
    assert {name: p.default for name, p in shell.items()} == {name: p.default for name, p in python.items()}
    hints = typing.get_type_hints(command.score)
    assert {name: hints[name] for name in python} == {
        name: kind for name, kind in typing.get_type_hints(api.score).items() if name != "return"
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ref.stm").write_text("r1 A s1 0 2 A B C\nr1 A s2 2 4 D E\nr1 A x 4 6 IGNORE_TIME_SEGMENT_IN_SCORING\n")
    (tmp_path / "hyp.ctm").write_text(
        "r1 A 0.1 0.2 B 0.9\nr1 A 0.5 0.2 X 0.3\nr1 A 1.5 0.2 Y 0.2\nr1 A 2.1 0.2 D 0.8\nr1 A 4.5 0.2 Q 0.4\n"
        "r1 A 8.0 0.2 Z 0.1\n"
    )
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["score", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_ctm_against_an_stm_per_speaker(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--ref", folder / "ref.stm", "--hyp", folder / "hyp.ctm"]
    shown = printed(capsys, *files)
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith("s")}
    assert rows["s1"] == ["100.00", "3", "3", "3", "0", "0"] and rows["s2"] == ["100.00", "2", "2", "0", "1", "1"]
    assert "1 words in no segment, counted as insertions: Z (r1 A at 8 s)" in shown
    assert "1 words out of bounds for scoring, skipped" in shown
    assert shown.rstrip().endswith("text filter none-1, unit costs")
    sclite = printed(capsys, *files, "--alignment", "sclite")
    assert next(line.split() for line in sclite.splitlines() if line.startswith("s1"))[3:] == ["3", "1", "1", "1"]
    assert "sclite's costs (4/3/3)" in sclite
    content = json.loads(printed(capsys, *files, "--alignment", "sclite", "--filter", "lower", "--json"))
    assert (content["alignment"], content["text_filter"], content["metric"]) == ("sclite", "lower-1", "wer")


def test_formats_may_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_suffix = printed(capsys, "--ref", folder / "ref.stm", "--hyp", folder / "hyp.ctm")
    (folder / "ref.stm").rename(folder / "ref")
    (folder / "hyp.ctm").rename(folder / "hyp")
    named = ["--ref", folder / "ref", "--ref-format", "stm", "--hyp", folder / "hyp", "--format", "ctm"]
    assert printed(capsys, *named) == by_suffix


def test_confidences_are_fitted_on_one_set_and_measured_on_another(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--ref", folder / "ref.stm", "--hyp", folder / "hyp.ctm"]
    fitted = printed(capsys, *files, "--fit", folder / "map.json")
    assert "confidences: 1 of 5 words correct, NCE" in fitted and "calibrated" not in fitted
    shown = printed(capsys, *files, "--calibration", folder / "map.json")
    assert "calibrated confidences: 1 of 5 words correct, NCE" in shown
    content = json.loads(printed(capsys, *files, "--confidence", "--json"))
    assert content["system"]["confidence"]["correct"] == 1


def test_cpwer_by_recording(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("meeteval", reason="MeetEval (the extra `meetings`) is not installed")
    (folder / "ref.stm").write_text("r1 A s1 0 2 A B C\nr1 A s2 2 4 D E\n")
    shown = printed(capsys, "--ref", folder / "ref.stm", "--hyp", folder / "hyp.ctm", "--metric", "cpwer")
    assert shown.startswith("recording  cpWER %") and "overall: cpWER" in shown
    assert "r1: speaker = stream: s1 = –, s2 = A" in shown and "one recording: no interval by recording" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter", "kaldi"], "text filter 'kaldi': no such filter; expected one of none, lower, upper, spoken"),
        (["--calibration", "nothing.json"], "nothing.json: no such file"),
        (["--metric", "cpwer", "--trn", "out"], "--trn does not go with --metric cpwer"),
        (["--words", "7"], "5 words in 2 utterances, expected 7"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["score", "--ref", f"{folder}/ref.stm", "--hyp", f"{folder}/hyp.ctm", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert main(["score", "--ref", f"{folder}/ref.stm", "--hyp", f"{folder}/hyp.ctm", "--alignment", "nist"]) == 2
