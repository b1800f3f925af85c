"""Manifests: what is written is read back, by us and by Lhotse, and what is wrong is named with its line."""

import gzip
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.data.manifest import Utterance, list_splits, read_manifest, write_manifest


def utterance(name: str = "u1", **changes: object) -> Utterance:
    values: dict[str, object] = {
        "id": name, "speaker": "s1", "text": "HELLO WORLD", "audio": Path("/audio") / f"{name}.wav", "start": 0.0,
        "duration": 1.5, "sampling_rate": 16000, **changes,
    }
    return Utterance(**values)  # type: ignore[arg-type]


def edit(path: Path, old: str, new: str) -> None:
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new).encode()))


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)
samples = st.integers(1, 10**7)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(words, st.tuples(words, words, samples, samples, st.integers(1, 3)), min_size=1, max_size=5))
def test_what_is_written_is_read_back(content: dict[str, tuple[str, str, int, int, int]]) -> None:
    written = [
        Utterance(
            id=name, speaker=speaker, text=f"{text} {text}", audio=Path("/audio") / "x.wav", start=start / 16000,
            duration=duration / 16000, sampling_rate=16000, channel=None if channels > 1 else 0, channels=channels,
            recording=f"{name}-whole", recording_duration=(start + duration + 5) / 16000,
        )
        for name, (speaker, text, start, duration, channels) in content.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder), "train", written)
        assert read_manifest(Path(folder), "train") == sorted(written, key=lambda u: u.id)


def test_utterances_come_sorted_by_id_and_the_same_bytes_are_written(tmp_path: Path) -> None:
    utterances = [utterance("b"), utterance("a"), utterance("B")]
    write_manifest(tmp_path / "1", "train", utterances)
    write_manifest(tmp_path / "2", "train", reversed(utterances))
    assert read_manifest(tmp_path / "1", "train") == [utterance("B"), utterance("a"), utterance("b")]
    for name in ("train_recordings.jsonl.gz", "train_supervisions.jsonl.gz"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_lhotse_reads_and_validates_what_is_written(tmp_path: Path) -> None:
    import lhotse

    soundfile.write(tmp_path / "x.wav", np.arange(16000, dtype=np.int16), 16000)
    parts = [
        utterance(f"u{i}", audio=tmp_path / "x.wav", start=0.25 * i, duration=0.25, recording="x",
                  recording_duration=1.0)
        for i in range(4)
    ]
    write_manifest(tmp_path, "dev", parts)
    recordings = lhotse.load_manifest(tmp_path / "dev_recordings.jsonl.gz").with_path_prefix(tmp_path)
    supervisions = lhotse.load_manifest(tmp_path / "dev_supervisions.jsonl.gz")
    lhotse.validate(recordings, read_data=True)
    lhotse.validate_recordings_and_supervisions(recordings, supervisions)
    assert [(s.id, s.text, s.speaker, s.start) for s in supervisions] == [
        (f"u{i}", "HELLO WORLD", "s1", 0.25 * i) for i in range(4)
    ]


def test_a_folder_with_its_audio_can_be_moved(tmp_path: Path) -> None:
    audio = tmp_path / "here" / "audio" / "u1.wav"
    write_manifest(tmp_path / "here", "train", [utterance(audio=audio), utterance("u2")])
    shutil.move(tmp_path / "here", tmp_path / "there")
    inside, outside = read_manifest(tmp_path / "there", "train")
    assert inside.audio == tmp_path / "there" / "audio" / "u1.wav"
    assert outside.audio == Path("/audio/u2.wav")


def test_splits_are_listed(tmp_path: Path) -> None:
    for split in ("train", "dev", "test-other"):
        write_manifest(tmp_path, split, [utterance()])
    assert list_splits(tmp_path) == ["dev", "test-other", "train"]


def test_missing_folder_manifest_and_split_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_manifest(tmp_path / "nothing", "train")
    with pytest.raises(InputError, match="no manifest in it"):
        read_manifest(tmp_path, "train")
    write_manifest(tmp_path, "train", [utterance()])
    with pytest.raises(InputError, match="no split trian; there are train"):
        read_manifest(tmp_path, "trian")


@pytest.mark.parametrize(("old", "new", "message"), [
    ('"u2"', '"u1"', r"train_supervisions.jsonl.gz:2: utterance u1 occurs twice"),
    ('"recording_id": "u2"', '"recording_id": "u9"', r"jsonl.gz:2: recording u9 is not in train_recordings"),
    ('{"id": "u2"', '{"id" "u2"', r"train_supervisions.jsonl.gz:2: not a Lhotse SupervisionSegment"),
    ('"duration": 2.5', '"duration": -2.5', r"jsonl.gz:2: utterance u2: duration is -2.5"),
    ('"start": 0.0, "duration": 2.5', '"start": NaN, "duration": 2.5', r"jsonl.gz:2: utterance u2: start is nan"),
])
def test_faulty_supervisions_are_named_with_their_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_manifest(tmp_path, "train", [utterance("u1"), utterance("u2", duration=2.5)])
    edit(tmp_path / "train_supervisions.jsonl.gz", old, new)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path, "train")


def test_a_command_in_place_of_audio_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [utterance()])
    edit(tmp_path / "train_recordings.jsonl.gz", '"type": "file"', '"type": "command"')
    with pytest.raises(InputError, match=r"train_recordings.jsonl.gz:1: recording u1 is not one plain audio file"):
        read_manifest(tmp_path, "train")


def test_plain_jsonl_of_other_programs_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [utterance()])
    for path in list(tmp_path.glob("*.gz")):
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        extra = {"language": "English", "custom": {"a": 1}} if "supervisions" in path.name else {}
        path.with_suffix("").write_text("".join(json.dumps({**line, **extra}) + "\n" for line in lines))
        path.unlink()
    assert read_manifest(tmp_path, "train") == [utterance()]


def test_impossible_manifests_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="u1 occurs twice"):
        write_manifest(tmp_path, "train", [utterance(), utterance()])
    with pytest.raises(InputError, match="no utterances"):
        write_manifest(tmp_path, "train", [])
    with pytest.raises(InputError, match="split"):
        write_manifest(tmp_path, "../train", [utterance()])
    with pytest.raises(InputError, match="recording r of utterance u2"):
        write_manifest(tmp_path, "train", [utterance("u1", recording="r"), utterance("u2", recording="r")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "key", "value"), [
    ("recordings", "sampling_rate", 0), ("recordings", "sampling_rate", "16000"), ("recordings", "num_samples", None),
    ("recordings", "num_samples", -5), ("supervisions", "text", 3), ("supervisions", "speaker", 3),
    ("supervisions", "id", None), ("supervisions", "recording_id", ["u1"]),
    ("recordings", "sources", [{"type": "file", "channels": [0], "source": None}]),
])
def test_values_of_another_type_are_named_with_their_line(
    tmp_path: Path, kind: str, key: str, value: object
) -> None:
    write_manifest(tmp_path, "train", [utterance()])
    path = tmp_path / f"train_{kind}.jsonl.gz"
    record = json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps({**record, key: value}).encode()))
    with pytest.raises(InputError, match=f"train_{kind}.jsonl.gz:1: not a Lhotse .*expected"):
        read_manifest(tmp_path, "train")


def test_a_record_nested_too_deep(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [utterance()])
    (tmp_path / "train_recordings.jsonl.gz").write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(InputError, match="train_recordings.jsonl.gz:1: not a Lhotse Recording"):
        read_manifest(tmp_path, "train")
