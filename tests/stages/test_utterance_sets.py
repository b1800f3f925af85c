"""Sets of utterances of a split: parts of each speaker's, and draws of so many seconds."""

from collections.abc import Callable
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
from asr_kd.scoring.transcripts import write_transcripts, write_utt2spk
from asr_kd.stages.prepare import REFERENCES, read_references
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


def drop_all_but(manifests: Path, is_kept: Callable[[str], bool]) -> None:
    """Leave some utterances of the test split, and the references of all, as a preparing stage does."""
    utterances = read_manifest(manifests, "test")
    references = manifests / REFERENCES / "test"
    write_transcripts(references / "text", {one.id: one.text.split() for one in utterances})
    write_utt2spk(references / "utt2spk", {one.id: one.speaker for one in utterances})
    write_manifest(manifests, "test", [one for one in utterances if is_kept(one.id)])


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


def test_a_draw_of_a_set_is_of_all_speakers_together(manifests: Path, tmp_path: Path) -> None:
    settings = {"seconds": 20, "of": "set", "sets": {"part": {"split": "test"}}}
    summary = made(manifests, tmp_path / "out", build_config(UtteranceDrawsConfig, Settings(settings, {})))["part"]
    durations = [one.duration for one in read_manifest(tmp_path / "out", "part")]
    assert abs(sum(durations) - 20) <= 3
    assert summary["seconds"] == sum(durations) and summary["utterances"] == len(durations)
    assert summary["seconds_per_speaker"] == round(sum(durations) / summary["speakers"], 2)


def test_one_utterance_is_drawn_at_least(manifests: Path, tmp_path: Path) -> None:
    settings = {"seconds": 0.1, "sets": {"part": {"split": "test"}}}
    made(manifests, tmp_path / "out", build_config(UtteranceDrawsConfig, Settings(settings, {})))
    drawn = read_manifest(tmp_path / "out", "part")
    assert sorted(one.speaker for one in drawn) == ["anna", "bert", "carl", "dora"]


def test_each_set_has_the_references_of_its_utterances(manifests: Path, tmp_path: Path) -> None:
    config = build_config(UtteranceSetsConfig, Settings({"sets": {
        "first": {"split": "test", "part": "first", "utterances": 4},
        "last": {"split": "test", "part": "last", "utterances": 2}}}, {}))
    made(manifests, tmp_path / "out", config)
    for name, numbers in (("first", [0, 1, 2, 3]), ("last", [4, 5])):
        texts, speakers = read_references(tmp_path / "out", name)
        assert texts == {f"{speaker}-{number}": [f"WORD{number}"]
                         for speaker in ("anna", "bert", "carl", "dora") for number in numbers}
        assert speakers == {utterance: utterance.split("-")[0] for utterance in texts}


def test_utterances_that_preparing_dropped_stay_in_the_references(manifests: Path, tmp_path: Path) -> None:
    drop_all_but(manifests, lambda name: name != "anna-0")
    summary = made(manifests, tmp_path / "out", sets(part="first", utterances=2))
    assert summary["part"]["utterances"] == 7
    assert "anna-0" not in [one.id for one in read_manifest(tmp_path / "out", "part")]
    assert "anna-0" in read_references(tmp_path / "out", "part")[0]


def test_a_set_that_no_utterance_is_left_for_is_refused(manifests: Path, tmp_path: Path) -> None:
    drop_all_but(manifests, lambda name: name == "anna-5")
    with pytest.raises(InputError, match="set part: no utterance of test is left for it"):
        made(manifests, tmp_path / "out", sets(part="first", utterances=1))


def test_an_unknown_split_names_those_that_there_are(manifests: Path, tmp_path: Path) -> None:
    config = build_config(UtteranceSetsConfig, Settings({"sets": {"part": {"split": "dev"}}}, {}))
    with pytest.raises(InputError, match="no split dev; there are test"):
        made(manifests, tmp_path / "out", config)


@pytest.mark.parametrize("settings", [{"part": "first"}, {"part": "last"}, {"utterances": 3}])
def test_a_part_without_a_size_and_a_size_without_a_part_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="part first or last wants utterances"):
        sets(**settings)


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


def test_a_set_without_features_is_refused(manifests: Path, tmp_path: Path) -> None:
    made(manifests, tmp_path / "out", sets())
    with FrameStoreWriter(tmp_path / "features" / "test", 3, "float16", {"kind": "fbank"}) as writer:
        writer.add("other-1", "other", np.zeros((5, 3), np.float32))
    with pytest.raises(InputError, match="no features of the set part"):
        copy_features({"manifests": tmp_path / "out", "features": tmp_path / "features"}, SetFeaturesConfig(),
                      tmp_path / "copied", CONTEXT)
