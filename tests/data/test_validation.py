"""Validation finds each planted fault, and nothing in a sound manifest."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.cli.main import main
from asr_kd.core.errors import InputError
from asr_kd.data.manifest import Utterance, write_manifest
from asr_kd.data.validation import validate_manifest

Corpus = dict[str, list[Utterance]]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    generator = np.random.default_rng(0)
    splits: Corpus = {"train": [], "dev": []}
    for split, utterances in splits.items():
        for number in range(6):
            name = f"{split}{number}"
            path = tmp_path / f"{name}.flac"
            soundfile.write(path, generator.integers(-999, 999, 8000 + number, dtype=np.int16), 16000)
            utterances.append(Utterance(
                name, f"{split}-speaker{number % 2}", "SOME WORDS", path, 0.0, (8000 + number) / 16000, 16000
            ))
    return splits


def validate(folder: Path, corpus: Corpus, **options: float) -> list[tuple[str, str]]:
    for split, utterances in corpus.items():
        write_manifest(folder, split, utterances)
    report = validate_manifest(folder, workers=2, **options)  # type: ignore[arg-type]
    assert sum(report.by_kind.values()) == len(report.problems)
    return [(problem.kind, problem.item) for problem in report.problems]


def test_a_sound_manifest_has_no_problems(tmp_path: Path, corpus: Corpus) -> None:
    assert validate(tmp_path, corpus) == []
    report = validate_manifest(tmp_path)
    assert report.splits["dev"].utterances == 6 and report.splits["dev"].speakers == 2
    assert report.splits["dev"].words == 12 and report.splits["dev"].seconds == pytest.approx(3.001)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def stretch(path: Path) -> None:
    soundfile.write(path, np.arange(9000, dtype=np.int16), 16000)


def write_with(path: Path, value: float) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 8000)
    samples[500] = value
    soundfile.write(path, samples, 16000, format="WAV", subtype="FLOAT")


def write_short_length(path: Path) -> None:
    soundfile.write(path, np.arange(8000, dtype=np.int16), 16000, format="WAV")
    content = path.read_bytes()
    path.write_bytes(content[:40] + (8000).to_bytes(4, "little") + content[44:])


@pytest.mark.parametrize(("fault", "kind"), [
    (truncate, "truncated"),
    (Path.unlink, "missing file"),
    (lambda path: path.write_bytes(b""), "empty file"),
    (lambda path: path.write_text("no audio at all"), "not audio"),
    (lambda path: soundfile.write(path, np.zeros(8000, np.int16), 16000), "silent audio"),
    (stretch, "not what the manifest says"),
    (lambda path: write_with(path, np.nan), "not finite"),
    (lambda path: write_with(path, np.inf), "not finite"),
    (lambda path: write_short_length(path), "wrong length"),
])
def test_audio_faults_are_found_by_decoding(
    tmp_path: Path, corpus: Corpus, fault: Callable[[Path], object], kind: str
) -> None:
    path = corpus["dev"][0].audio
    fault(path)
    assert validate(tmp_path, corpus) == [(kind, str(path))]


@pytest.mark.parametrize(("changes", "problem"), [
    ({"text": " "}, ("empty transcript", "dev3")),
    ({"speaker": ""}, ("no speaker", "dev3")),
    ({"speaker": "train-speaker1"}, ("speaker in several splits", "train-speaker1")),
    ({"id": "train2"}, ("duplicate id", "train2")),
    ({"duration": 0.05, "recording_duration": 8003 / 16000}, ("duration", "dev3")),
    ({"duration": 0.7, "recording_duration": 8003 / 16000}, ("outside of its recording", "dev3")),
])
def test_faults_of_one_utterance_are_found(
    tmp_path: Path, corpus: Corpus, changes: dict[str, object], problem: tuple[str, str]
) -> None:
    corpus["dev"][3] = dataclasses.replace(corpus["dev"][3], **changes)  # type: ignore[arg-type]
    assert validate(tmp_path, corpus) == [problem]


def test_another_sampling_rate_is_found(tmp_path: Path, corpus: Corpus) -> None:
    path = corpus["dev"][3].audio
    soundfile.write(path, np.arange(4000, dtype=np.int16), 8000)
    corpus["dev"][3] = dataclasses.replace(corpus["dev"][3], sampling_rate=8000, duration=0.5)
    assert validate(tmp_path, corpus) == [("sampling rate", "dev3")]


@pytest.mark.parametrize("rate", [0, 20_000_000])
def test_a_rate_that_no_audio_has_is_refused(tmp_path: Path, corpus: Corpus, rate: int) -> None:
    with pytest.raises(InputError, match="sampling_rate: expected"):
        validate(tmp_path, corpus, sampling_rate=rate)


def test_mixed_sampling_rates_and_channels_are_problems_unless_they_may_be_converted(
    tmp_path: Path, corpus: Corpus
) -> None:
    for number, (rate, channels) in enumerate(((8000, 1), (8000, 1), (16000, 2))):
        old = corpus["dev"][number]
        samples = np.random.default_rng(number).integers(-999, 999, (4000, channels), dtype=np.int16)
        soundfile.write(old.audio, samples, rate)
        corpus["dev"][number] = dataclasses.replace(
            old, sampling_rate=rate, duration=4000 / rate, channels=channels, channel=0 if channels == 1 else None)
    found = validate(tmp_path, corpus)
    assert found == [("sampling rate", "dev0"), ("sampling rate", "dev1"), ("channels", "dev2")]
    report = validate_manifest(tmp_path)
    assert "8000 Hz, expected 16000; in all 10 of 16000 Hz, 2 of 8000 Hz" in report.problems[0].detail
    assert validate(tmp_path, corpus, resample=True) == [("channels", "dev2")]
    assert validate(tmp_path, corpus, resample=True, mix_down=True) == []
    assert len(validate(tmp_path, corpus, sampling_rate=8000, mix_down=True)) == 10


def test_the_same_audio_and_clipped_audio_are_told(tmp_path: Path, corpus: Corpus) -> None:
    shutil.copy(corpus["dev"][1].audio, corpus["dev"][3].audio)
    corpus["dev"][3] = dataclasses.replace(corpus["dev"][3], duration=corpus["dev"][1].duration)
    loud = np.clip(np.random.default_rng(0).normal(0, 1, 8000).cumsum() * 6000, -32768, 32767).astype(np.int16)
    soundfile.write(corpus["dev"][0].audio, loud, 16000)
    assert validate(tmp_path, corpus) == []
    warnings = [(warning.kind, warning.item) for warning in validate_manifest(tmp_path).warnings]
    assert warnings == [("clipped", str(corpus["dev"][0].audio)), ("same audio", str(corpus["dev"][3].audio))]
    corpus["dev"][3] = dataclasses.replace(corpus["dev"][3], speaker="dev-speaker7")
    assert validate(tmp_path, corpus) == [("same audio of two speakers", str(corpus["dev"][3].audio))]


def test_untranscribed_speech_is_validated_with_a_manifest_and_without(
    tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus["dev"] = [dataclasses.replace(u, text="", speaker="") for u in corpus["dev"]]
    assert len(validate(tmp_path / "m", corpus)) == 12
    assert validate(tmp_path / "m", corpus, untranscribed=True) == []
    assert validate_manifest(tmp_path / "m", untranscribed=True).splits["dev"].speakers == 0
    (tmp_path / "audio").mkdir()
    for utterance in corpus["dev"][:3]:
        shutil.copy(utterance.audio, tmp_path / "audio")
    write_with(tmp_path / "audio/nan.wav", np.nan)
    (tmp_path / "audio/broken.mp3").write_text("none")
    assert main(["validate", str(tmp_path / "audio"), "--untranscribed"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("audio: 4 utterances") and "1 not audio, 1 not finite" in captured.err
    assert main(["validate", str(tmp_path / "audio")]) == 2
    assert "no manifest in it" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["validate", str(tmp_path / "empty"), "--untranscribed"]) == 2


def test_limits_of_durations_are_options(tmp_path: Path, corpus: Corpus) -> None:
    assert len(validate(tmp_path, corpus, max_duration=0.1)) == 12


def test_one_split_can_be_validated_alone(tmp_path: Path, corpus: Corpus) -> None:
    corpus["dev"][3] = dataclasses.replace(corpus["dev"][3], text="")
    validate(tmp_path, corpus)
    assert not validate_manifest(tmp_path / "train_supervisions.jsonl.gz").problems
    assert validate_manifest(tmp_path / "dev_supervisions.jsonl.gz").problems


def test_a_manifest_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        validate_manifest(tmp_path / "nothing")
    (tmp_path / "other.txt").touch()
    with pytest.raises(InputError, match="SPLIT_supervisions"):
        validate_manifest(tmp_path / "other.txt")


def test_command_says_what_is_wrong_by_its_exit_code(
    tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    validate(tmp_path, corpus)
    assert main(["validate", str(tmp_path)]) == 0
    truncate(corpus["train"][0].audio)
    assert main(["validate", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "truncated: " + str(corpus["train"][0].audio) in captured.out
    assert captured.err == f"asr-kd: {tmp_path}: 1 problems: 1 truncated\n"
    assert main(["validate", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems_by_kind"] == {"truncated": 1}
    assert main(["validate", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("limits", [(float("nan"), 1.0), (5.0, 1.0), (-1.0, 1.0), (0.0, float("nan"))])
def test_limits_that_no_duration_meets_are_refused(tmp_path: Path, limits: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="expected 0 <= shortest <= longest"):
        validate_manifest(tmp_path, min_duration=limits[0], max_duration=limits[1])
