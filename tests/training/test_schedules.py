"""Learning-rate schedules."""

import math

import pytest

from asr_kd.training.config import TrainingConfig
from asr_kd.training.schedules import Newbob, OneCycle, Verdict


def test_newbob_halves_from_the_first_small_improvement_on_and_stops() -> None:
    schedule = Newbob(TrainingConfig(learning_rate=0.8))
    best, rates = math.inf, []
    for loss, expected in ((3.0, Verdict(False, False)), (2.5, Verdict(False, False)), (2.49, Verdict(False, False)),
                           (2.3, Verdict(False, False)), (2.2995, Verdict(False, True))):
        rates.append(schedule.learning_rate(0))
        assert schedule.judge(loss, best) == expected
        best = min(best, loss)
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.2]


def test_newbob_goes_back_after_a_worse_epoch() -> None:
    schedule = Newbob(TrainingConfig(learning_rate=0.8))
    schedule.judge(2.0, math.inf)
    assert schedule.judge(2.1, 2.0) == Verdict(go_back=True, stop=False)
    assert schedule.learning_rate(0) == 0.4
    assert schedule.judge(2.05, 2.0) == Verdict(go_back=True, stop=True)


def test_newbob_state_survives_a_restart() -> None:
    schedule, restored = Newbob(TrainingConfig()), Newbob(TrainingConfig())
    schedule.judge(2.0, math.inf)
    schedule.judge(1.999, 2.0)
    restored.restore(schedule.state())
    assert restored.learning_rate(0) == schedule.learning_rate(0)
    assert restored.judge(1.9985, 1.999) == schedule.judge(1.9985, 1.999)


def test_one_cycle_rises_to_its_rate_and_falls_to_zero() -> None:
    schedule = OneCycle(TrainingConfig(schedule="one_cycle", epochs=10, learning_rate=0.5, warm_up=0.2), 10)
    rates = [schedule.learning_rate(step) for step in range(100)]
    top = rates.index(max(rates))
    assert top == 20 and rates[top] == 0.5
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.001 and rates[0] < 0.05


def test_thresholds_must_be_ordered() -> None:
    with pytest.raises(ValueError, match="newbob_stop_below"):
        TrainingConfig(newbob_halve_below=0.001, newbob_stop_below=0.01)
