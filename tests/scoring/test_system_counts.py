import dataclasses
import json
from pathlib import Path

import pydantic
import pytest

from asr_kd.core.errors import InputError
from asr_kd.scoring.system_counts import SystemCounts, read_counts, read_counts_folder, write_counts
from asr_kd.scoring.wer import ErrorCounts

COUNTS = SystemCounts(
    id="hdnn128-kd-q0.5",
    seed=2,
    split="dev",
    speakers={"b": ErrorCounts(10, 3, 2, 1), "a": ErrorCounts(5, 0, 0, 0)},
    frame_accuracy=45.4,
    params=375_952,
    run="kd",
    baseline="hdnn128-ce",
    teacher="teacher-ce",
)


def test_counts_read_back_as_written(tmp_path: Path) -> None:
    path = write_counts(tmp_path / "counts", COUNTS)
    assert path.name == "hdnn128-kd-q0.5.2.dev.json"
    assert read_counts(path) == COUNTS
    assert read_counts_folder(path.parent) == [COUNTS]
    assert read_counts_folder(tmp_path / "absent") == []


def test_file_has_the_keys_of_the_design(tmp_path: Path) -> None:
    content = json.loads(write_counts(tmp_path, COUNTS).read_text())
    assert list(content["speakers"]) == ["a", "b"]
    assert content["speakers"]["b"] == {"words": 10, "ins": 1, "del": 2, "sub": 3}
    assert {
        "id",
        "seed",
        "split",
        "frame_accuracy",
        "real_time_factor",
        "lm_weight",
        "partial",
    } <= content.keys()


def test_a_part_never_takes_the_place_of_the_whole(tmp_path: Path) -> None:
    write_counts(tmp_path, COUNTS)
    part = dataclasses.replace(COUNTS, partial=True)
    assert write_counts(tmp_path, part).name == "hdnn128-kd-q0.5.2.dev-partial.json"
    assert read_counts_folder(tmp_path) == [part, COUNTS]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "0"}, "seed: .*integer"),
        ({"speakers": {"a": {"words": 10**25, "ins": 0, "del": 2, "sub": 2}}}, "speakers.a: .*whole numbers"),
        ({"speakers": {"a": {"words": 3, "ins": 0, "del": 2, "sub": 2}}}, "speakers.a: 2 substitutions"),
        ({"speakers": {"a": {"words": 3, "ins": 0, "del": 1.0, "sub": 2}}}, "speakers.a: .*whole numbers"),
        ({"speakers": {"a": {"words": 3}}}, "speakers.a: expected"),
        ({"speakers": {}}, "no reference words"),
        ({"typo": 1}, "typo"),
        ({"params": -1}, "params"),
        ({"run": "some/where"}, "run"),
        ({"id": "../../escape"}, "id"),
        ({"id": "other"}, "belongs to other.2.dev.json"),
    ],
)
def test_wrong_content_is_refused_with_file_and_key(tmp_path: Path, change: dict, message: str) -> None:
    path = write_counts(tmp_path, COUNTS)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=rf"{path.name}: .*{message}"):
        read_counts(path)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"id": "x"}'])
def test_what_is_no_counts_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.0.dev.json").write_text(content)
    with pytest.raises(InputError, match="x.0.dev.json"):
        read_counts(tmp_path / "x.0.dev.json")


def test_wrong_values_are_refused_when_counts_are_made() -> None:
    with pytest.raises(pydantic.ValidationError):
        dataclasses.replace(COUNTS, frame_accuracy=float("nan"))


def test_the_run_directory_may_have_any_name(tmp_path: Path) -> None:
    counts = dataclasses.replace(COUNTS, run="my run (läuft)")
    assert read_counts(write_counts(tmp_path, counts)) == counts
