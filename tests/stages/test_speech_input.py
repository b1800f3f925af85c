"""A small set of speech in every form that people have it, and what is wrong with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.core.errors import InputError, WorkError
from asr_kd.data.manifest import Utterance, write_manifest
from asr_kd.stages.speech_input import SpeechInput, read_speech

RATE = 16000


def write_audio(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).normal(0, 0.1, int(RATE * seconds))
    soundfile.write(path, noise, RATE)
    return path


def described(given: SpeechInput) -> dict[str, tuple[str, str, float]]:
    return {one.id: (one.speaker, one.text, round(one.duration, 3)) for one in given.utterances}


def test_a_folder_of_audio_has_transcripts_beside_its_files(tmp_path: Path) -> None:
    write_audio(tmp_path / "anna" / "a.wav")
    write_audio(tmp_path / "anna" / "b.flac", 0.25)
    (tmp_path / "anna" / "a.txt").write_text("HELLO\n  THERE\n")
    found = described(read_speech(tmp_path / "anna", tmp_path / "scratch"))
    assert found == {"a": ("anna", "HELLO THERE", 0.5), "b": ("anna", "", 0.25)}
    assert described(read_speech(tmp_path / "anna", tmp_path / "scratch", speaker="bert"))["a"][0] == "bert"


def test_files_of_one_name_in_two_folders_are_two_utterances(tmp_path: Path) -> None:
    write_audio(tmp_path / "x" / "1" / "a.wav")
    write_audio(tmp_path / "x" / "2" / "a.wav")
    assert sorted(described(read_speech(tmp_path / "x", tmp_path / "scratch"))) == ["1-a", "2-a"]


def test_one_file_of_transcripts_may_leave_some_out(tmp_path: Path) -> None:
    for name in "ab":
        write_audio(tmp_path / "x" / f"{name}.wav")
    (tmp_path / "text").write_text("a HELLO THERE\nz NOBODY\n")
    found = described(read_speech(tmp_path / "x", tmp_path / "scratch", transcripts=tmp_path / "text"))
    assert {name: text for name, (_, text, _) in found.items()} == {"a": "HELLO THERE", "b": ""}
    (tmp_path / "text").write_text("y HELLO\n")
    with pytest.raises(InputError, match="no transcript of these utterances; the first of the file is y"):
        read_speech(tmp_path / "x", tmp_path / "scratch", transcripts=tmp_path / "text")


def test_json_lines_name_audio_text_speaker_and_times(tmp_path: Path) -> None:
    write_audio(tmp_path / "audio" / "a.wav", 1.0)
    rows = [{"audio": "audio/a.wav", "id": "first", "text": "ONE", "speaker": "anna", "duration": 0.4},
            {"audio_filepath": "audio/a.wav", "offset": 0.4}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = described(read_speech(tmp_path / "list.jsonl", tmp_path / "scratch"))
    assert found == {"first": ("anna", "ONE", 0.4), "a": ("list", "", 0.6)}


@pytest.mark.parametrize(("line", "message"), [
    ("{", "list.jsonl:2"), ("[]", "list.jsonl:2: no audio"), ('{"text": "A"}', "list.jsonl:2: no audio"),
    ('{"audio": "b.wav", "start": "x"}', "list.jsonl:2: start and duration are seconds"),
    ('{"audio": "b.wav", "start": NaN}', "list.jsonl:2"), ('{"audio": "b.wav", "start": true}', "list.jsonl:2: start"),
    ('{"audio": "b.wav", "text": ["A"]}', "list.jsonl:2: text is words"),
    ('{"audio": "a.wav"}', "list.jsonl:2: utterance a occurs twice")])
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    write_audio(tmp_path / "a.wav")
    (tmp_path / "list.jsonl").write_text('{"audio": "a.wav", "duration": 0.2}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        read_speech(tmp_path / "list.jsonl", tmp_path / "scratch")


def test_audio_that_cannot_be_read_is_counted_and_none_at_all_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "x" / "a.wav")
    (tmp_path / "x" / "b.wav").write_bytes(b"RIFF of nothing")
    given = read_speech(tmp_path / "x", tmp_path / "scratch")
    assert list(described(given)) == ["a"] and given.drops.kept == 1 and given.drops.total == 2
    (tmp_path / "x" / "a.wav").unlink()
    with pytest.raises(WorkError, match="1 of 1 utterances dropped"):
        read_speech(tmp_path / "x", tmp_path / "scratch")


def test_times_outside_of_the_audio_are_counted(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    rows = [{"audio": "a.wav", "id": "in"}, {"audio": "a.wav", "id": "out", "start": 0.7},
            {"audio": "a.wav", "id": "long", "duration": 0.9}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = read_speech(tmp_path / "list.jsonl", tmp_path / "scratch")
    assert list(described(given)) == ["in"]
    assert given.drops.by_reason == {"times outside of the audio": 2}


def test_a_folder_without_audio_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="no audio file in it"):
        read_speech(tmp_path / "x", tmp_path / "scratch")
    with pytest.raises(InputError, match="no such file or folder"):
        read_speech(tmp_path / "y", tmp_path / "scratch")


def test_manifests_of_several_splits_want_one_named(tmp_path: Path) -> None:
    for split in ("dev", "test"):
        audio = write_audio(tmp_path / f"{split}.wav")
        write_manifest(tmp_path / "m", split, [Utterance(f"{split}-1", "anna", "HELLO", audio, 0.0, 0.5, RATE)])
    with pytest.raises(InputError, match="dev, test; say which by --split"):
        read_speech(tmp_path / "m", tmp_path / "scratch")
    found = described(read_speech(tmp_path / "m", tmp_path / "scratch", split="test"))
    assert found == {"test-1": ("anna", "HELLO", 0.5)}


def test_a_kaldi_directory_is_read(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "k" / "a.wav")
    (tmp_path / "k" / "wav.scp").write_text(f"u1 {audio.name}\n")
    (tmp_path / "k" / "text").write_text("u1 HELLO\n")
    (tmp_path / "k" / "utt2spk").write_text("u1 anna\n")
    assert described(read_speech(tmp_path / "k", tmp_path / "scratch")) == {"u1": ("anna", "HELLO", 0.5)}


def test_an_unknown_split_names_those_that_there_are(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "a.wav")
    write_manifest(tmp_path / "m", "dev", [Utterance("a", "anna", "HELLO", audio, 0.0, 0.5, RATE)])
    with pytest.raises(InputError, match="no split tset; there are dev"):
        read_speech(tmp_path / "m", tmp_path / "scratch", split="tset")


def test_what_has_no_splits_is_refused_one(tmp_path: Path) -> None:
    write_audio(tmp_path / "audio" / "a.wav")
    with pytest.raises(InputError, match="has no splits.*leave out --split"):
        read_speech(tmp_path / "audio", tmp_path / "scratch", split="dev")


def test_an_empty_list_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text("\n")
    with pytest.raises(InputError, match="list of speech is empty"):
        read_speech(tmp_path / "list.jsonl", tmp_path / "scratch")


def test_the_only_split_of_manifests_need_not_be_named_and_given_transcripts_replace_its_own(tmp_path: Path) -> None:
    audio = write_audio(tmp_path / "a.wav")
    write_manifest(tmp_path / "m", "dev", [
        Utterance(name, "anna", "HELLO", audio, 0.0, 0.5, RATE) for name in ("u1", "u2")])
    assert {text for _, text, _ in described(read_speech(tmp_path / "m", tmp_path / "scratch")).values()} == {"HELLO"}
    (tmp_path / "text").write_text("u1 GOOD BYE\n")
    found = described(read_speech(tmp_path / "m", tmp_path / "scratch", transcripts=tmp_path / "text"))
    assert {name: text for name, (_, text, _) in found.items()} == {"u1": "GOOD BYE", "u2": ""}


def test_faulty_audio_of_a_kaldi_directory_is_counted(tmp_path: Path) -> None:
    write_audio(tmp_path / "k" / "a.wav")
    (tmp_path / "k" / "wav.scp").write_text("u1 a.wav\nu2 gone.wav\n")
    (tmp_path / "k" / "text").write_text("u1 HELLO\nu2 THERE\n")
    (tmp_path / "k" / "utt2spk").write_text("u1 anna\nu2 anna\n")
    given = read_speech(tmp_path / "k", tmp_path / "scratch")
    assert list(described(given)) == ["u1"]
    assert given.drops.total == 2 and given.drops.by_reason == {"missing file": 1}


def test_what_is_no_form_of_speech_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a.wav: is audio, expected text"):
        read_speech(write_audio(tmp_path / "a.wav"), tmp_path / "scratch")
    with pytest.raises(InputError, match="text: no such file"):
        read_speech(tmp_path, tmp_path / "scratch", transcripts=tmp_path / "text")


def test_two_files_of_one_name_in_one_folder_are_refused(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        write_audio(tmp_path / "x" / name)
    with pytest.raises(InputError, match="two audio files would be the utterance a"):
        read_speech(tmp_path / "x", tmp_path / "scratch")
