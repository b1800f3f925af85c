"""The gate: each reason to refuse, and none for a clear gain."""

import pytest

from asr_kd.adaptation.gate import Change, Evidence, GateConfig, refusals
from asr_kd.adaptation.recognition import Recognised, Recognition
from asr_kd.scoring.wer import ErrorCounts


def recognition(substitutions: int, deletions: int, utterances: int = 20, known: bool = True,
                expected: float = 1.0) -> Recognition:
    """Utterances of ten words with such errors in each."""
    errors = ErrorCounts(10, substitutions, deletions, 0) if known else None
    return Recognition({f"u{number}": Recognised(["w"] * (10 - deletions), errors, expected, -5.0, 300)
                        for number in range(utterances)})


GAIN = Change(recognition(5, 0), recognition(4, 0))
SAME = Change(recognition(1, 0), recognition(1, 0))


def test_a_clear_gain_is_active() -> None:
    assert refusals(Evidence(60.0, 20, GAIN, SAME, 0.5), GateConfig()) == []


@pytest.mark.parametrize(("evidence", "reason"), [
    (Evidence(2.0, 20, GAIN, SAME), "too little to tell"),
    (Evidence(60.0, 1, None, SAME), "too little to tell"),
    (Evidence(60.0, 20, GAIN, SAME, misfit=50.0), "transcripts do not fit"),
    (Evidence(60.0, 20, GAIN, SAME, doubt=50.0), "too doubtful"),
    (Evidence(60.0, 20, SAME, SAME), "target does not improve"),
    (Evidence(60.0, 20, Change(recognition(3, 1), recognition(0, 3)), SAME), "words get lost"),
    (Evidence(60.0, 20, GAIN, Change(recognition(1, 0), recognition(5, 0))), "canary loses: its errors"),
    (Evidence(60.0, 20, GAIN, Change(recognition(3, 0), recognition(0, 3))), "canary loses words"),
    (Evidence(60.0, 20, GAIN, SAME, faults=["no speech"]), "no speech"),
])
def test_each_reason_refuses(evidence: Evidence, reason: str) -> None:
    assert any(reason in one for one in refusals(evidence, GateConfig()))


def test_a_gain_of_few_utterances_may_be_chance() -> None:
    before = Recognition({f"u{n}": Recognised([], ErrorCounts(10, e, 0, 0), 0.0, 0.0, 300)
                          for n, e in enumerate([5, 5, 9])})
    after = Recognition({f"u{n}": Recognised([], ErrorCounts(10, e, 0, 0), 0.0, 0.0, 300)
                         for n, e in enumerate([6, 6, 6])})
    change = Change(before, after)
    assert 0.5 < change.probability_of_gain() < 0.8
    assert GAIN.probability_of_gain() == 1.0 and SAME.probability_of_gain() == 0.5
    strict = GateConfig(least_probability=0.9)
    assert any("not sure" in one for one in refusals(Evidence(60.0, 3, change, None), strict))


def test_without_transcripts_expected_errors_decide() -> None:
    change = Change(recognition(0, 0, known=False, expected=2.0), recognition(0, 0, known=False, expected=1.0))
    assert not change.has_transcripts
    assert change.relative_change() == pytest.approx(-0.5)
    assert refusals(Evidence(60.0, 20, change, SAME), GateConfig()) == []
    assert "expected errors" in refusals(Evidence(60.0, 20, Change(change.after, change.before), SAME), GateConfig())[0]
