"""Systems of a run found by their ids, on records of a run that was never made."""

import json
from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.errors import InputError
from asr_kd.stages.systems import RunSystem, find_system


class MadeUpRun:
    """A run directory that has nothing but records of stages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "run.json").write_text(json.dumps({"stages": {}}))

    def add(self, name: str, kind: str, reads: dict[str, str] | None = None, **settings: Any) -> None:
        """Add the record of a finished stage, which reads others by their names."""
        inputs = {key: f"build of {stage}" for key, stage in (reads or {}).items()}
        record = {"stage": name, "kind": kind, "key": "k", "build": f"build of {name}", "inputs": inputs,
                  "settings": settings, "files": {}, "wall_seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mib": 1.0,
                  "bytes": 1}
        (self.path / name).mkdir()
        (self.path / name / "stage.json").write_text(json.dumps(record))


@pytest.fixture
def run(tmp_path: Path) -> MadeUpRun:
    """A teacher, its student with a reserve, and the Gaussians, all scored on dev and test."""
    run = MadeUpRun(tmp_path / "run")
    run.add("prepare", "prepare-demo")
    run.add("sat", "speaker-adaptive", {"manifests": "prepare"})
    run.add("graph", "graph", {"hmm": "sat"})
    run.add("teacher-seed1", "network", {"hmm": "sat"})
    run.add("student-seed1", "network", {"hmm": "sat", "teacher": "teacher-seed1"})
    run.add("reserve-seed1", "adaptation-reserve", {"network": "student-seed1"})
    run.add("decode-sat", "decode", {"graph": "graph", "hmm": "sat"})
    for name in ("teacher-seed1", "student-seed1"):
        run.add(f"decode-{name}", "decode", {"graph": "graph", "hmm": "sat", "network": name})
    run.add("score-gmm", "score", {"manifests": "prepare", "gmm-sat": "decode-sat"}, splits=["dev"])
    run.add("score-seed1", "score", {"manifests": "prepare", "dnn": "decode-teacher-seed1",
                                     "hdnn-kd": "decode-student-seed1"}, splits=["dev", "test"])
    return run


def test_a_student_is_found_with_all_that_goes_with_it(run: MadeUpRun) -> None:
    path = run.path
    assert find_system(path, "hdnn-kd") == RunSystem(
        "hdnn-kd", path / "student-seed1", path / "sat", path / "graph", path / "prepare", path / "teacher-seed1",
        path / "reserve-seed1", ("dev", "test"))


def test_a_network_without_teacher_has_none_and_no_reserve_of_another(run: MadeUpRun) -> None:
    found = find_system(run.path, "dnn")
    assert found.network == run.path / "teacher-seed1"
    assert found.teacher is None and found.reserve is None


def test_an_unknown_system_names_the_nearest(run: MadeUpRun) -> None:
    with pytest.raises(InputError, match="no system 'hdnn-dk' was scored in this run; did you mean 'hdnn-kd'"):
        find_system(run.path, "hdnn-dk")


def test_a_system_like_no_other_names_all_and_no_manifests(run: MadeUpRun) -> None:
    with pytest.raises(InputError, match="there are: dnn, gmm-sat, hdnn-kd$"):
        find_system(run.path, "zzz")


def test_a_system_of_gaussians_is_refused(run: MadeUpRun) -> None:
    with pytest.raises(InputError, match="the system gmm-sat has no network, its Gaussians score"):
        find_system(run.path, "gmm-sat")


def test_a_run_that_scored_nothing_says_so(tmp_path: Path) -> None:
    run = MadeUpRun(tmp_path / "run")
    run.add("prepare", "prepare-demo")
    with pytest.raises(InputError, match="no system 'dnn' was scored in this run; none was"):
        find_system(run.path, "dnn")


def test_a_folder_that_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        find_system(tmp_path, "dnn")
    with pytest.raises(InputError, match="not a run directory"):
        find_system(tmp_path / "nowhere", "dnn")


def test_the_lowest_of_two_seeds_is_taken(run: MadeUpRun) -> None:
    run.add("student-seed0", "network", {"hmm": "sat", "teacher": "teacher-seed1"})
    run.add("decode-student-seed0", "decode", {"graph": "graph", "hmm": "sat", "network": "student-seed0"})
    run.add("score-seed0", "score", {"manifests": "prepare", "hdnn-kd": "decode-student-seed0"}, splits=["dev"])
    assert find_system(run.path, "hdnn-kd").network == run.path / "student-seed0"


def test_a_damaged_record_hides_its_system_alone(run: MadeUpRun) -> None:
    (run.path / "score-gmm" / "stage.json").write_text("{")
    with pytest.raises(InputError, match="no system 'gmm-sat' was scored"):
        find_system(run.path, "gmm-sat")
    assert find_system(run.path, "hdnn-kd").network == run.path / "student-seed1"
