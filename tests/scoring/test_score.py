import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from asr_kd.cli import score as command
from asr_kd.core.errors import InputError
from asr_kd.scoring import api
from asr_kd.scoring.wer import ErrorCounts

REFERENCE = "u1 A B C\nu2 D E\nu3 F\nu4 G H I J\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text").write_text(REFERENCE)
    (tmp_path / "utt2spk").write_text("u1 s1\nu2 s1\nu3 s2\nu4 s2\n")
    (tmp_path / "good").write_text("u1 A B C\nu2 D X\nu3 F\nu4 G H I J\n")
    (tmp_path / "bad").write_text("u1 A B\nu2 X X\nu3 F F\nu4\n")
    (tmp_path / "part").write_text("u1 A B C\nu3 X\n")
    return tmp_path


def run(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    command.register(app)
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_counts_per_speaker_and_overall(folder: Path) -> None:
    found = api.score(folder / "text", [folder / "bad"])
    assert found.system.by_speaker == {"s1": ErrorCounts(5, 2, 1, 0), "s2": ErrorCounts(5, 0, 4, 1)}
    assert found.system.total == ErrorCounts(10, 2, 5, 1)
    assert found.system.interval.value == 80
    assert (found.unit, found.partial, found.words, found.utterances) == ("speaker", False, 10, 4)


def test_second_system_is_compared_on_the_same_draws(folder: Path) -> None:
    found = api.score(folder / "text", [folder / "good"], against=[folder / "bad"], draws=500)
    assert found.comparison is not None
    assert found.comparison.difference == pytest.approx(10 - 80)
    assert found.comparison.p_value == 1 / 501
    turned = api.score(folder / "text", [folder / "bad"], against=[folder / "good"], draws=500)
    assert turned.comparison is not None
    assert turned.comparison.difference == pytest.approx(70)


def many_speakers(folder: Path, speakers: int) -> list[Path]:
    """A reference of so many speakers, and hypotheses without errors, with one a speaker, and with two."""
    (folder / "utt2spk").write_text("".join(f"v{n:02} s{n:02}\n" for n in range(speakers)))
    words = ["A B C D", "A B C D", "A B X D", "A Y X D"]
    for name, said in zip(("text", "none", "one", "two"), words, strict=True):
        (folder / name).write_text("".join(f"v{n:02} {said}\n" for n in range(speakers)))
    return [folder / name for name in ("text", "none", "one", "two")]


@pytest.mark.parametrize(("speakers", "seeds", "verdict", "reason"), [
    (1, 2, None, "one speaker"), (2, 2, None, "2 speakers"), (9, 2, None, "9 speakers"), (10, 1, None, "one seed"),
    (10, 2, "fewer errors", None)])
def test_a_verdict_takes_ten_speakers_and_two_seeds(
    folder: Path, speakers: int, seeds: int, verdict: str | None, reason: str | None
) -> None:
    text, none, one, two = many_speakers(folder, speakers)
    again = [folder / "again", folder / "again2"]
    for copy, original in zip(again, (none, two), strict=True):
        copy.write_bytes(original.read_bytes())
    files = ["--ref", text, "--hyp", none, "--against", two, "--draws", 200]
    files += ["--hyp", one, "--against", again[1]] if seeds == 2 else []
    shown = run(*files).stdout
    assert (f": {verdict}" if verdict else f": no verdict, {reason}") in next(
        line for line in shown.splitlines() if "p = " in line)

    def refuse(name: str) -> float:
        raise AssertionError(name)

    content = json.loads(run(*files, "--json").stdout, parse_constant=refuse)["comparison"]
    assert (content["verdict"], content["no_verdict"]) == (verdict, reason)
    assert (content["p_value"] is None) == (speakers == 1) == (content["ci_low"] is None)
    assert content["difference"] == (-50.0 if seeds == 1 else -37.5)


def test_where_no_speaker_is_known_there_is_no_verdict(folder: Path) -> None:
    text, none, one, two = many_speakers(folder, 12)
    (folder / "utt2spk").unlink()
    found = api.score(text, [none, one], against=[one, two], draws=100)
    assert (found.unit, found.verdict, found.no_verdict) == ("utterance", None, "speakers not known")


def test_seeds_of_a_system_are_averaged(folder: Path) -> None:
    found = api.score(folder / "text", [folder / "good", folder / "bad"])
    assert found.system.interval.value == pytest.approx(45)
    assert found.system.total.words == 20
    assert found.as_dict()["system"]["wer_per_seed"] == [10, 80]


def test_utterances_without_hypothesis_are_deletions_and_reported(folder: Path) -> None:
    found = api.score(folder / "text", [folder / "part"])
    assert found.system.total == ErrorCounts(10, 1, 6, 0)
    assert found.system.missing == [["u2", "u4"]]
    assert not found.partial
    assert (
        "2 utterances without hypothesis, counted as deletions: u2, u4"
        in run("--ref", folder / "text", "--hyp", folder / "part").stdout
    )


def test_a_part_is_marked_wherever_its_figure_stands(folder: Path) -> None:
    files = ["--ref", folder / "text", "--hyp", folder / "part", "--against", folder / "good", "--partial"]
    shown = run(*files).stdout
    assert "PARTIAL: 2 of 4 reference utterances, 4 of 10 words" in shown
    figures = [line for line in shown.splitlines() if "WER " in line and "%" in line and ":" in line]
    assert len(figures) == 2 and all("PARTIAL" in line for line in figures)
    assert "PARTIAL" in next(line for line in shown.splitlines() if "p = " in line)
    content = json.loads(run(*files, "--json").stdout)
    assert content["partial"] is True
    assert (content["words"], content["reference_words"]) == (4, 10)
    assert content["system"]["errors"] == 1


def test_a_whole_set_is_not_marked_even_if_a_part_was_allowed(folder: Path) -> None:
    assert not api.score(folder / "text", [folder / "good"], partial=True).partial


def test_a_reference_of_other_words_is_refused_but_for_partial(folder: Path) -> None:
    assert api.score(folder / "text", [folder / "good"], words=10).words == 10
    with pytest.raises(InputError, match="10 words in 4 utterances, expected 12"):
        api.score(folder / "text", [folder / "good"], words=12)
    assert api.score(folder / "text", [folder / "good"], words=12, partial=True).partial
    with pytest.raises(InputError, match="expected 9"):
        api.score(folder / "text", [folder / "good"], words=9, partial=True)


@pytest.mark.parametrize("option", ["--hyp", "--against"])
def test_different_ids_are_refused_in_one_line(folder: Path, option: str) -> None:
    (folder / "other").write_text("u1 A\nv1 A\nv2 B\n")
    extra = [] if option == "--hyp" else ["--hyp", folder / "good"]
    outcome = run("--ref", folder / "text", option, folder / "other", *extra)
    assert isinstance(outcome.exception, InputError)
    message = str(outcome.exception)
    assert "2 of 3 hypothesis ids are not in the reference (v1, v2)" in message
    assert "3 of 4 reference ids have no hypothesis (u2, u3, u4)" in message
    assert "other" in message and "\n" not in message


def test_speakers_missing_from_utt2spk_are_refused(folder: Path) -> None:
    (folder / "few").write_text("u1 s1\n")
    with pytest.raises(InputError, match=r"few: no speaker for 3 of 4 .*\(u2, u3, u4\)"):
        api.score(folder / "text", [folder / "good"], utt2spk=folder / "few")


def test_without_speakers_utterances_are_drawn_and_it_is_said(folder: Path) -> None:
    (folder / "utt2spk").unlink()
    assert api.score(folder / "text", [folder / "good"]).unit == "utterance"
    assert "no speakers known" in run("--ref", folder / "text", "--hyp", folder / "good").stdout


def test_trn_written_for_sclite_gives_the_same_score(folder: Path) -> None:
    direct = api.score(folder / "text", [folder / "bad"], trn=folder / "out", text=folder / "out")
    assert (folder / "out" / "hyp.trn").read_text() == "A B (s1-u1)\nX X (s1-u2)\nF F (s2-u3)\n(s2-u4)\n"
    assert (folder / "out" / "ref.txt").read_text() == REFERENCE
    back = api.score(folder / "out" / "ref.trn", [folder / "out" / "hyp.trn"])
    assert back == direct
    mixed = api.score(folder / "text", [folder / "out" / "hyp.trn"])
    assert mixed == direct


def test_alignments_go_to_a_file_or_to_the_terminal(folder: Path) -> None:
    run("--ref", folder / "text", "--hyp", folder / "bad", "--alignments", folder / "ali")
    written = (folder / "ali").read_text()
    assert "u3 (speaker s2): 1 words, 0 sub, 0 del, 1 ins\nREF: F *\nHYP: F F\n       I\n" in written
    shown = run("--ref", folder / "text", "--hyp", folder / "bad", "--alignments", "-").stdout
    assert shown.startswith(written)
    both = run("--ref", folder / "text", "--hyp", folder / "bad", "--alignments", "-", "--json")
    assert isinstance(both.exception, InputError)


def test_one_file_given_for_two_seeds_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        api.score(folder / "text", [folder / "good", folder / "good"])


def test_hyp2_is_another_name_of_against(folder: Path) -> None:
    files = ["--ref", folder / "text", "--hyp", folder / "good"]
    assert run(*files, "--hyp2", folder / "bad").stdout == run(*files, "--against", folder / "bad").stdout


def test_help_gives_a_worked_example() -> None:
    assert "Example: asr-kd score --ref" in run("--help").stdout
