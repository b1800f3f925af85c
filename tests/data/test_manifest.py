"""Manifests: what is written is read back, by us and by Lhotse, and what is wrong is named with its line."""

import gzip
import json
import re
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
from asr_kd.data.perturbation import perturb_speed


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
    ('"duration": 2.5', '"duration": -2.5', r"jsonl.gz:2: not a Lhotse .*duration is -2.5, expected"),
    ('"start": 0.0, "duration": 2.5', '"start": NaN, "duration": 2.5', r"jsonl.gz:2: .*start is nan, expected"),
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
    ("recordings", "sources", [{"type": "file", "channels": [0], "source": "a\0b"}]), ("recordings", "sources", []),
    ("recordings", "sources", {}), ("recordings", "id", "a\ud800"), ("recordings", "num_samples", 1 << 60),
    ("recordings", "num_samples", 16000.0), ("recordings", "sampling_rate", True), ("recordings", "transforms", [3]),
    ("recordings", "channel_ids", [-1]), ("supervisions", "text", "a\udfff"), ("supervisions", "id", "u\n1"),
    ("supervisions", "speaker", "a\0b"), ("supervisions", "id", ""), ("supervisions", "start", 1e308),
    ("supervisions", "duration", 10**400), ("supervisions", "duration", True), ("supervisions", "channel", "0"),
    ("supervisions", "channel", {"a": 1}), ("supervisions", "custom", 3),
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


@pytest.mark.parametrize("key", ["id", "recording_id", "start", "duration"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    write_manifest(tmp_path, "train", [utterance()])
    edit(tmp_path / "train_supervisions.jsonl.gz", f'"{key}"', '"other"')
    with pytest.raises(InputError, match=f"train_supervisions.jsonl.gz:1: not a Lhotse .*{key} is missing"):
        read_manifest(tmp_path, "train")


def test_lines_are_those_that_lhotse_writes(tmp_path: Path) -> None:
    from lhotse.audio import AudioSource, Recording
    from lhotse.augmentation import Speed
    from lhotse.supervision import SupervisionSegment

    stereo = utterance(start=0.25, channel=None, channels=2, recording="r", recording_duration=2.0)
    write_manifest(tmp_path, "train", [perturb_speed(stereo, 0.9)])
    recording = Recording("r_sp0.9", [AudioSource("file", [0, 1], "/audio/u1.wav")], 16000, 35556, 35556 / 16000,
                          [0, 1], [Speed(factor=0.9).to_dict()])
    supervision = SupervisionSegment("u1_sp0.9", "r_sp0.9", 4444 / 16000, (31111 - 4444) / 16000, [0, 1], "HELLO WORLD",
                                     speaker="s1_sp0.9", custom={"source_utterance": "u1", "source_speaker": "s1"})
    for kind, record in (("recordings", recording), ("supervisions", supervision)):
        line = gzip.decompress((tmp_path / f"train_{kind}.jsonl.gz").read_bytes()).decode()
        assert line == json.dumps(record.to_dict()) + "\n"


def test_text_that_is_no_text_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no character"):
        write_manifest(tmp_path, "train", [utterance(text="A \ud800")])
    assert not list(tmp_path.iterdir())


def mutations(content: bytes, random: np.random.Generator) -> bytes:
    """A line of a manifest with a value, a few bytes or a stretch changed."""
    values = [b"null", b"-1", b"1e308", b"NaN", b'"\\ud800"', b'"\\u0000"', b"[]", b"{}", b"true", b"[" * 3000,
              b"9" * 5000]
    kind = random.integers(4)
    begin, end = sorted(random.integers(0, len(content), 2))
    if kind == 0:
        keys = [match.end() for match in re.finditer(rb'": ', content)]
        begin = keys[random.integers(len(keys))]
        end = begin + len(re.match(rb'("[^"]*"|[^,}\]]*)', content[begin:])[0])  # type: ignore[index]
        return content[:begin] + values[random.integers(len(values))] + content[end:]
    if kind == 1:
        return content[:begin] + random.bytes(random.integers(1, 9)) + content[begin:]
    return content[:begin] + content[end:] if kind == 2 else content[:end] + content[begin:]


def test_damaged_manifests_are_input_errors_or_readable(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_manifest(tmp_path, "train", [perturb_speed(utterance(), 0.9), utterance("u2", duration=2.5)])
    refused = 0
    for number in range(300):
        path = tmp_path / f"train_{('recordings', 'supervisions')[number % 2]}.jsonl.gz"
        whole = path.read_bytes()
        path.write_bytes(gzip.compress(mutations(gzip.decompress(whole), random)))
        try:
            for read in read_manifest(tmp_path, "train"):
                assert read.recording_samples >= 0 and read.id and read.speed > 0
        except InputError as error:
            refused += "jsonl.gz" in str(error) or "no utterances" in str(error)
        path.write_bytes(whole)
    assert refused > 150


def test_a_record_nested_too_deep(tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [utterance()])
    (tmp_path / "train_recordings.jsonl.gz").write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(InputError, match="train_recordings.jsonl.gz:1: not a Lhotse Recording"):
        read_manifest(tmp_path, "train")
