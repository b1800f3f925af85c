"""The gate: each reason to refuse, and none for a clear gain."""

from typing import Any

import pytest

from asr_kd.adaptation.change import Change
from asr_kd.adaptation.recognition import Recognised, Recognition
from asr_kd.scoring.adaptation_gate import ChangeFigures, Evidence, GateConfig, refusals
from asr_kd.scoring.wer import ErrorCounts


def recognition(substitutions: int, deletions: int, utterances: int = 20, known: bool = True,
                expected: float = 1.0) -> Recognition:
    """Utterances of ten words with such errors in each."""
    errors = ErrorCounts(10, substitutions, deletions, 0) if known else None
    return Recognition({f"u{number}": Recognised(["w"] * (10 - deletions), errors, expected, -5.0, 300)
                        for number in range(utterances)})


def change(before: Recognition, after: Recognition) -> ChangeFigures:
    return Change(before, after).figures()


def evidence(held_out: ChangeFigures | None, canary: ChangeFigures | None, seconds: float = 60.0, utterances: int = 20,
             **others: Any) -> Evidence:
    return Evidence(seconds=seconds, utterances=utterances, held_out=held_out, canary=canary, **others)


GAIN = change(recognition(5, 0), recognition(4, 0))
SURER = change(recognition(0, 0, known=False), recognition(0, 0, known=False, expected=0.5))
SAME = change(recognition(1, 0), recognition(1, 0))


def test_a_clear_gain_is_active() -> None:
    assert refusals(evidence(GAIN, SAME, misfit=0.5), GateConfig()) == []


@pytest.mark.parametrize(("found", "reason"), [
    (evidence(GAIN, SAME, seconds=2.0), "too little to tell"),
    (evidence(None, SAME, utterances=1), "too little to tell"),
    (evidence(GAIN, SAME, misfit=50.0), "transcripts do not fit"),
    (evidence(GAIN, SAME, doubt=50.0), "too doubtful"),
    (evidence(change(recognition(10, 0), recognition(9, 0)), SAME), "not what was recognised"),
    (evidence(SURER, SAME, seconds=600.0), "hardly any speech"),
    (evidence(change(recognition(0, 0, known=False), recognition(0, 3, known=False)), SAME), "they get fewer"),
    (evidence(SAME, SAME), "target does not improve"),
    (evidence(change(recognition(3, 1), recognition(0, 3)), SAME), "words get lost"),
    (evidence(GAIN, change(recognition(1, 0), recognition(5, 0))), "canary loses: its errors"),
    (evidence(GAIN, change(recognition(3, 0), recognition(0, 3))), "canary loses words"),
    (evidence(GAIN, SAME, faults=["no speech"]), "no speech"),
])
def test_each_reason_refuses(found: Evidence, reason: str) -> None:
    assert any(reason in one for one in refusals(found, GateConfig()))


def few_words(errors: list[int]) -> Recognition:
    """Utterances of ten words with so many errors each."""
    return Recognition({f"u{number}": Recognised([], ErrorCounts(10, found, 0, 0), 0.0, 0.0, 300)
                        for number, found in enumerate(errors)})


def test_a_loss_of_few_words_may_be_chance_and_one_of_many_may_not() -> None:
    before, after = few_words([5, 5, 5]), few_words([6, 6, 4])
    loss = evidence(change(before, after), None, utterances=3)
    assert loss.held_out is not None and 0.1 < loss.held_out.probability_of_gain < 0.5
    assert refusals(loss, GateConfig()) == []
    assert "does not improve" in refusals(loss, GateConfig(least_probability=0.5))[0]
    assert "does not improve" in refusals(loss, GateConfig(many_words=30))[0]
    sure = evidence(change(before, few_words([6, 6, 6])), None, utterances=3)
    assert "probability 0.00" in refusals(sure, GateConfig())[0]


def test_without_transcripts_expected_errors_decide() -> None:
    unsure, sure = (recognition(0, 0, known=False, expected=errors) for errors in (2.0, 1.0))
    gain = change(unsure, sure)
    assert gain.measure == "expected errors" and gain.errors is None
    assert gain.relative == pytest.approx(-50.0)
    assert refusals(evidence(gain, SAME), GateConfig()) == []
    assert "expected errors" in refusals(evidence(change(sure, unsure), SAME), GateConfig())[0]


def test_evidence_comes_back_from_a_report_as_it_was() -> None:
    found = evidence(GAIN, SAME, misfit=0.5, faults=["no speech"])
    assert Evidence.model_validate_json(found.model_dump_json()) == found
