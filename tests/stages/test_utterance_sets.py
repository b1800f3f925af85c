"""Sets of utterances of a split: parts of each speaker's, and draws of so many seconds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import Utterance, read_manifest, write_manifest
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.stages.prepare import read_references
from asr_kd.stages.utterance_sets import (
    SetFeaturesConfig,
    UtteranceDrawsConfig,
    UtteranceSetsConfig,
    copy_features,
    make_sets,
)

CONTEXT = StageContext("sets", 1, None, Path("work"), "run", "command")


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Four speakers of six utterances, each of one to six seconds."""
    utterances = [
        Utterance(f"{speaker}-{number}", speaker, f"WORD{number}", tmp_path / f"{speaker}-{number}.wav", 0.0,
                  1.0 + number, 16000, recording_duration=1.0 + number)
        for speaker in ("anna", "bert", "carl", "dora") for number in range(6)]
    write_manifest(tmp_path / "manifests", "test", utterances)
    return tmp_path / "manifests"


def made(manifests: Path, output: Path, config: UtteranceSetsConfig, seed: int = 1) -> dict[str, Any]:
    return make_sets({"manifests": manifests}, config, output, replace(CONTEXT, seed=seed))


def sets(**settings: Any) -> UtteranceSetsConfig:
    return build_config(UtteranceSetsConfig, Settings({"sets": {"part": {"split": "test", **settings}}}, {}))


@pytest.mark.parametrize(("part", "numbers"), [("first", [0, 1]), ("last", [4, 5])])
def test_parts_are_each_speakers_first_or_last_ones(
        manifests: Path, tmp_path: Path, part: str, numbers: list[int]) -> None:
    summary = made(manifests, tmp_path / "out", sets(part=part, utterances=2))
    names = [one.id for one in read_manifest(tmp_path / "out", "part")]
    assert names == [f"{speaker}-{number}" for speaker in ("anna", "bert", "carl", "dora") for number in numbers]
    assert summary["part"]["speakers"] == 4 and summary["part"]["utterances"] == 8
    texts, speakers = read_references(tmp_path / "out", "part")
    assert sorted(texts) == names and speakers["bert-4" if part == "last" else "bert-0"] == "bert"


def test_every_second_speaker(manifests: Path, tmp_path: Path) -> None:
    made(manifests, tmp_path / "out", sets(every_speaker=2))
    assert {one.speaker for one in read_manifest(tmp_path / "out", "part")} == {"anna", "carl"}


def test_draws_come_nearest_to_the_seconds_and_the_seed_decides(manifests: Path, tmp_path: Path) -> None:
    config = build_config(UtteranceDrawsConfig, Settings({"seconds": 7, "sets": {"part": {"split": "test"}}}, {}))
    drawn = {}
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        made(manifests, tmp_path / place, config, seed)
        utterances = read_manifest(tmp_path / place, "part")
        drawn[place] = [one.id for one in utterances]
        for speaker in ("anna", "bert", "carl", "dora"):
            durations = [one.duration for one in utterances if one.speaker == speaker]
            assert abs(sum(durations) - 7) <= 3 and durations
    assert drawn["a"] == drawn["b"] != drawn["c"]


def test_a_part_without_a_size_is_refused() -> None:
    with pytest.raises(InputError, match="part first or last wants utterances"):
        sets(part="first")


def test_features_of_a_set_are_copied_unless_they_depend_on_all_speech(manifests: Path, tmp_path: Path) -> None:
    made(manifests, tmp_path / "out", sets(part="last", utterances=1))
    generator = np.random.default_rng(0)
    for kind, recipe in (("plain", {"kind": "fbank", "normalisation": "running"}), ("whole", {"kind": "fmllr"})):
        with FrameStoreWriter(tmp_path / kind / "test", 3, "float16", recipe) as writer:
            for utterance in read_manifest(manifests, "test"):
                writer.add(utterance.id, utterance.speaker, generator.normal(size=(5, 3)).astype(np.float32))
    inputs = {"manifests": tmp_path / "out", "features": tmp_path / "plain"}
    copy_features(inputs, SetFeaturesConfig(), tmp_path / "copied", CONTEXT)
    whole, copied = FrameStore.open(tmp_path / "plain" / "test"), FrameStore.open(tmp_path / "copied" / "part")
    assert copied.ids == ["anna-5", "bert-5", "carl-5", "dora-5"] and copied.digest == whole.digest
    assert all(np.array_equal(copied[name], whole[name]) for name in copied.ids)
    with pytest.raises(InputError, match="depends on all speech of a speaker"):
        copy_features({**inputs, "features": tmp_path / "whole"}, SetFeaturesConfig(), tmp_path / "other", CONTEXT)
