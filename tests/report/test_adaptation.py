"""The page on adaptation: its advice, its tables, what is drawn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr_kd.report.adaptation import (
    draw_adaptation,
    draw_forgetting,
    forgetting_points,
    render_adaptation,
    seconds_curves,
    speaker_changes,
)
from asr_kd.report.comparisons import ResultRow, judge
from asr_kd.report.declarations import Declarations
from asr_kd.scoring.system_counts import AdaptationCounts, SystemCounts
from asr_kd.scoring.system_roles import SystemRoles
from asr_kd.scoring.wer import ErrorCounts

SPEAKERS = [f"s{number:02d}" for number in range(20)]
PLAIN = "student"


def counts(name: str, errors: int, split: str, seed: int = 1, **adaptation: Any) -> SystemCounts:
    """A system with about `errors` errors of 100 words a speaker; the last speaker has ten more."""
    speakers = {speaker: ErrorCounts(100, errors + number % 3 + 10 * (speaker == SPEAKERS[-1]), 0, 0)
                for number, speaker in enumerate(SPEAKERS)}
    facts = {"parameters": ("gates",), "numbers": 100, "teaching": "both", "seconds": 40.0, "adapters": 20,
             "refused": 2, "transductive": False}
    made = None if name == PLAIN else AdaptationCounts(**{**facts, **adaptation})
    return SystemCounts(name, seed, split, speakers, frame_accuracy=40.0, params=300, train_minutes=1.0,
                        adaptation=made)


def rows(systems: list[SystemCounts]) -> list[ResultRow]:
    adapted = {one.id for one in systems} - {PLAIN}
    roles = {name: SystemRoles(plain=PLAIN, versus=[PLAIN]) for name in adapted} | {PLAIN: SystemRoles(role="student")}
    return judge(systems, Declarations(systems=roles))


SYSTEMS = [
    counts(PLAIN, 50, "dev-last"), counts(PLAIN, 50, "test-last"), counts(PLAIN, 60, "far"), counts(PLAIN, 40, "home"),
    *(counts(f"{PLAIN}-{seconds}s-{what}", errors, split, seconds=float(seconds), parameters=(what,))
      for seconds, what, errors in ((10, "gates", 48), (10, "lhuc", 46), (40, "gates", 44), (40, "lhuc", 45))
      for split in ("test-last", "dev-last")),
    counts(f"{PLAIN}-10s-biases", 40, "test-last", seconds=10.0, parameters=("biases",)),
    counts(f"{PLAIN}-10s-biases", 52, "dev-last", seconds=10.0, parameters=("biases",)),
    counts(f"{PLAIN}-10s-first", 51, "test-last", seconds=10.0, teaching="first-pass"),
    *(counts(f"{PLAIN}-domain-{name}", errors, split, seconds=600.0, adapters=1)
      for name, split, errors in (("kl0", "far", 45), ("kl0", "home", 44), ("kl5", "far", 50), ("kl5", "home", 40)))]


def test_the_first_lines_say_what_to_do_by_what_dev_chose() -> None:
    advice = render_adaptation("recipes/x", rows(SYSTEMS)).split("\n")[2:8]
    assert [line.partition(":")[0] for line in advice[:4]] == [
        "- 10 seconds of speech with transcripts", "- 10 seconds of speech without transcripts",
        "- 1 minute of speech with transcripts", "- 10 minutes of speech with transcripts"]
    assert "lhuc" in advice[0] and "7.8 % fewer errors" in advice[0]  # biases are better on test, worse on dev
    assert "leave the network as it is" in advice[1] and "+1.9 %" in advice[1]
    assert f"`{PLAIN}-40s-gates`" in advice[2]
    assert f"`{PLAIN}-domain-kl0`" in advice[3]


def test_speakers_are_compared_one_by_one() -> None:
    found = {(row.id, row.split): row for row in rows(SYSTEMS)}
    plain = found[PLAIN, "test-last"]
    better = speaker_changes(found[f"{PLAIN}-40s-gates", "test-last"], plain)
    assert (better.better, better.same, better.worse, better.worst) == (20, 0, 0, 0.0)
    worse = speaker_changes(found[f"{PLAIN}-10s-first", "test-last"], plain)
    assert (worse.better, worse.worse, worse.worst) == (0, 20, 1.0)


def test_gain_against_seconds_has_a_curve_for_what_was_tried_with_several_amounts(tmp_path: Path) -> None:
    curves = seconds_curves(rows(SYSTEMS))
    assert set(curves) == {"test-last", "dev-last"}
    gates = curves["test-last"][f"{PLAIN}-gates"]
    assert [seconds for seconds, *_ in gates] == [10.0, 40.0]
    assert gates[1][1] == pytest.approx(100 * 6 / 51.45, abs=0.1)
    assert all(low <= gain <= high for _, gain, low, high in gates)
    draw_adaptation(tmp_path / "a.svg", curves)
    assert "seconds of adaptation speech" in (tmp_path / "a.svg").read_text()


def test_what_is_forgotten_at_home_stands_against_what_is_gained(tmp_path: Path) -> None:
    points = forgetting_points(rows(SYSTEMS))
    assert set(points) == {"far"}
    assert {name: (round(there, 1), round(home, 1)) for name, there, home in points["far"]} == {
        "domain-kl0": (-24.4, 9.7), "domain-kl5": (-16.3, 0.0)}
    draw_forgetting(tmp_path / "f.svg", points)
    assert "domain-kl5" in (tmp_path / "f.svg").read_text()
    assert "forgetting.svg" in render_adaptation("recipes/x", rows(SYSTEMS))


def test_rows_that_know_the_audio_are_marked_and_give_no_advice() -> None:
    transductive = [counts(PLAIN, 50, "test"), counts(f"{PLAIN}-adapt-gates", 40, "test", transductive=True)]
    page = render_adaptation("recipes/x", rows([*transductive, *(replace(one, seed=2) for one in transductive)]))
    assert "## test (transductive)" in page and "seconds of speech" not in page
    assert "2 of 20" in page and "| 2 |" in page
