"""Progress where there is no terminal: a line every so often, with share done and time left."""

import pytest

from asr_kd.core import progress as module
from asr_kd.core.progress import ProgressBar, describe_seconds, progress, within
from asr_kd.core.run_clock import RunClock


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "FIRST_LINE", 10.0)
    monkeypatch.setattr(module.time, "monotonic", made)
    monkeypatch.setattr(module, "_lines", module._Lines())
    return made


def test_lines_come_at_growing_intervals_up_to_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    moments = []
    for _ in progress(range(400), 400, "aligning", "utt"):
        clock.now += 1
        if capsys.readouterr().err:
            moments.append(clock.now - 1)
    assert moments[:5] == [11, 31, 71, 131, 191] and len(moments) == 8


def test_a_line_says_share_and_time_left_of_the_stage_and_the_run(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunClock({"mono": 60.0, "tri": 120.0}, clock)
    with run.stage("mono"):
        clock.now += 60
    with run.stage("tri"), ProgressBar(200, "aligning", "utt") as bar:
        bar.update(100)  # done before a restart
        clock.now += 30
        bar.update(50, loss="1.2")
    assert capsys.readouterr().err == (
        "tri: aligning: 75 % of 200 utt, loss 1.2, about 30 s left [stage 2 of 2; run: 50 % done, about 1 min 30 s "
        "left]\n")


def test_a_run_without_earlier_costs_says_which_stage_it_is_at(clock: Clock) -> None:
    run = RunClock({"mono": None, "tri": 120.0}, clock)
    with run.stage("mono"):
        assert run.describe() == "stage 1 of 2"
    assert run.describe() == "stage 2 of 2; run: 0 % done, about 2 min 0 s left"


def test_short_work_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with within("tri", lambda: "stage 1 of 1"):
        for _ in progress(range(9)):
            clock.now += 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0 s"), (59.7, "1 min 0 s"), (125, "2 min 5 s"), (7300, "2 h 1 min")])
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
