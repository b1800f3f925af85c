"""Trials of the gate on the small demo: every attack is made, known by what it is, and looked up afterwards."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.scoring.gate_trials import GATE_TRIALS, GateTrial, read_trials_folder
from asr_kd.stages.gate_trials import GateTrialsConfig, check_gate_trials, try_gate

CONFIG = {
    "system": "hdnn128-kd", "splits": ["test"], "utterances": 3, "every_speaker": 2, "attacks_every": 1,
    "options": {"adaptation": {"kl_weight": 0.3, "training": {"epochs": 1}}}}


def config(**others: Any) -> GateTrialsConfig:
    return build_config(GateTrialsConfig, Settings({**CONFIG, **others}, {}))


def inputs(run: Path) -> dict[str, Path]:
    return {"manifests": run / "prepare", "features": run / "fmllr", "hmm": run / "sat", "graph": run / "graph",
            "network": run / "student-kd-seed1", "teacher": run / "teacher-seed1", "reserve": run / "reserve-seed1"}


def trials(run: Path, folder: Path, work: Path) -> list[GateTrial]:
    context = StageContext("gate-trials", 1, None, work, "run", "command")
    try_gate(inputs(run), config(), folder, context)
    (found,) = read_trials_folder(folder / GATE_TRIALS)
    return found.trials


def test_every_attack_is_made_and_known_by_what_it_is(finished_demo: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    found = trials(finished_demo, tmp_path / "first", work)
    assert Counter(trial.kind for trial in found) == {
        "honest": 2, "shuffled words": 1, "words of another speaker": 1, "one word": 1, "silence": 2, "noise": 2,
        "tones": 2, "clipped": 2, "another language": 2}
    by_kind = {(trial.kind, trial.teaching): trial for trial in found}
    for kind in ("silence", "clipped"):
        for teaching in ("both", "teacher"):
            trial = by_kind[kind, teaching]  # type: ignore[index]
            assert trial.evidence is None and trial.not_adapted is not None and kind in trial.not_adapted
    misfits = {kind: trial.evidence.misfit for (kind, teaching), trial in by_kind.items()
               if teaching == "both" and trial.evidence is not None}
    honest = misfits.pop("honest")
    assert honest is not None and all(misfit is not None and misfit > honest + 1 for misfit in misfits.values())
    judged = [trial for trial in found if trial.evidence is not None]
    assert len({(trial.words, trial.errors_before) for trial in judged}) == 1
    assert all(trial.errors_after is not None for trial in judged)
    assert all(trial.evidence is not None and trial.evidence.canary is not None for trial in judged)

    # What an interrupted stage has done is not done again; what it has not done comes out the same.
    done = sorted(work.iterdir())
    assert len(done) == len(found)
    done[0].unlink()
    kept = done[1].stat().st_mtime_ns
    assert trials(finished_demo, tmp_path / "second", work) == found
    assert done[1].stat().st_mtime_ns == kept


def test_a_teacher_that_is_to_teach_must_be_there() -> None:
    with pytest.raises(InputError, match="need the input 'teacher'"):
        check_gate_trials(config(), {})
    check_gate_trials(config(teachings=["transcripts"]), {})
