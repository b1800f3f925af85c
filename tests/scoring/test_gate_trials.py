"""Trials of the gate: shares and agreement by hand-made figures, and files."""

from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.errors import InputError
from asr_kd.report.gate_trials import render_gate_trials
from asr_kd.scoring.adaptation_gate import ChangeFigures, Evidence, GateConfig
from asr_kd.scoring.gate_trials import GateTrial, GateTrials, agreement, read_trials_folder, shares, write_trials

GATE = GateConfig()


def trial(seen: float, before: int, after: int | None, kind: str = "honest", **others: Any) -> GateTrial:
    """A trial in which the gate saw a relative change of `seen` percent."""
    figures = ChangeFigures(measure="errors", before=50.0, after=50.0, relative=seen,
                            probability_of_gain=0.9 if seen < 0 else 0.05,
                            deletion_factor=1.0, words_before=100, words_after=100)
    evidence = None if after is None else Evidence(seconds=40.0, utterances=10, held_out=figures)
    return GateTrial(speaker="s", split="dev", kind=kind, teaching="both", evidence=evidence, words=100,
                     errors_before=before, errors_after=after, **others)


TRIALS = [
    trial(-10.0, 50, 40), trial(-5.0, 50, 50), trial(+1.0, 50, 49), trial(+5.0, 50, 56), trial(-3.0, 20, 23),
    trial(-3.0, 30, 36, "noise"), trial(+9.0, 30, 60, "noise"), trial(0.0, 30, None, "silence", not_adapted="silence"),
]


def test_good_adaptations_make_at_least_two_percent_fewer_errors() -> None:
    assert [one.is_good for one in TRIALS] == [True, False, True, False, False, False, False, False]


def test_shares_are_of_what_the_gate_makes_active() -> None:
    honest = [one for one in TRIALS if one.kind == "honest"]
    with_gate = shares(honest, GATE)
    assert (with_gate.trials, with_gate.active, with_gate.share) == (5, 3, 60.0)
    assert (with_gate.wer_before, with_gate.wer_after) == pytest.approx((40.0, 113 / 3))
    assert (with_gate.better, with_gate.worse, with_gate.worst) == (1, 1, 3.0)
    without = shares(honest, None)
    assert (without.active, without.better, without.worse, without.worst) == (5, 2, 2, 6.0)
    attacks = shares(TRIALS[5:], GATE)
    assert (attacks.trials, attacks.active) == (3, 1)
    assert shares([], GATE).share == 0.0


def test_agreement_is_of_what_was_seen_with_what_was_true() -> None:
    exact = [trial(100 * (after / 50 - 1), 50, after) for after in (40, 45, 50, 60)]
    assert agreement([*exact, TRIALS[-1]]) == (pytest.approx(1.0), 4)
    assert agreement(exact[:2])[1] == 2


def test_trials_come_back_as_they_were_written_and_damage_is_named(tmp_path: Path) -> None:
    written = GateTrials(id="net", seed=1, splits=["dev"], parameters=["gates"], command="c", revision="r",
                         trials=TRIALS)
    write_trials(tmp_path, written)
    assert read_trials_folder(tmp_path) == [written]
    assert read_trials_folder(tmp_path / "none") == []
    (tmp_path / "net.1.dev.json").write_text('{"id": "net"}')
    with pytest.raises(InputError, match=r"net\.1\.dev\.json"):
        read_trials_folder(tmp_path)


def test_the_section_has_a_row_for_each_kind_and_for_the_good_ones() -> None:
    written = GateTrials(id="net", seed=1, splits=["dev"], parameters=["gates"], command="c", revision="r",
                         trials=TRIALS)
    page = "\n".join(render_gate_trials([written], GATE))
    assert "| all attacks | 3 | 1 | 33.3 % | 30.00 | 36.00 | 0 | 1 | +6.0 |" in page
    assert "| good | 2 | 1 | 50.0 % |" in page
    assert "| honest, transcripts and the teacher, no gate | 5 | 5 | 100.0 % |" in page
    assert "| silence | 1 | 0 | 0.0 % |" in page
