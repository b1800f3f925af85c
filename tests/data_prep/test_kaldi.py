"""Kaldi data directories: read, written back, and every way in which they can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.cli.main import main
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import read_manifest
from asr_kd.scoring.transcripts import read_transcripts
from data_prep.kaldi import prepare_kaldi, write_kaldi


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two data directories of 30 and 2 utterances; utterance n of train has 1600 + n samples."""
    folder = tmp_path / "corpus"
    for split, count in (("train", 30), ("dev", 2)):
        (folder / split).mkdir(parents=True)
        (folder / "audio").mkdir(exist_ok=True)
        names = [f"{split}{n:02d}" for n in range(count)]
        for number, name in enumerate(names):
            samples = np.arange(1600 + number, dtype=np.int16)
            soundfile.write(folder / "audio" / f"{name}.wav", samples, 16000)
        write(folder / split / "wav.scp", [f"{name} audio/{name}.wav" for name in names])
        write(folder / split / "text", [f"{name} SOME WORDS {name.upper()}" for name in names])
        write(folder / split / "utt2spk", [f"{name} {split}-s{n % 3}" for n, name in enumerate(names)])
    return folder


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines))


def change(path: Path, old: str, new: str) -> None:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode("latin-1"), 1))


def test_every_sub_folder_with_wav_scp_is_a_split(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare_kaldi(corpus, tmp_path / "out")
    assert {name: (s.utterances, s.speakers, s.words) for name, s in prepared.items()} == {
        "train": (30, 3, 90), "dev": (2, 2, 6),
    }
    utterance = read_manifest(tmp_path / "out", "train")[7]
    assert (utterance.id, utterance.speaker, utterance.text) == ("train07", "train-s1", "SOME WORDS TRAIN07")
    assert (utterance.duration, utterance.sampling_rate, utterance.start) == (1607 / 16000, 16000, 0)
    assert utterance.audio == corpus / "audio" / "train07.wav"


def test_marks_line_ends_and_wide_spaces_of_other_systems_change_no_word(corpus: Path, tmp_path: Path) -> None:
    words = "RED\u3000WINE AND\u00a0BREAD"
    for name in ("wav.scp", "text", "utt2spk"):
        content = (corpus / "dev" / name).read_text().replace("SOME WORDS", words).replace("\n", "\r\n")
        (corpus / "dev" / name).write_bytes(("\ufeff" + content).encode())
    prepared = prepare_kaldi(corpus, tmp_path / "out", splits=["dev"])["dev"]
    assert (prepared.utterances, prepared.words) == (2, 6)
    first = read_manifest(tmp_path / "out", "dev")[0]
    assert (first.id, words_of(first.text)) == ("dev00", ["RED\u3000WINE", "AND\u00a0BREAD", "DEV00"])
    write_kaldi(tmp_path / "out", tmp_path / "kaldi", root=corpus)
    again = read_transcripts(tmp_path / "kaldi/dev/text").words
    assert again["dev00"] == ["RED\u3000WINE", "AND\u00a0BREAD", "DEV00"]


def test_splits_can_be_chosen_and_the_corpus_can_be_one_itself(corpus: Path, tmp_path: Path) -> None:
    assert list(prepare_kaldi(corpus, tmp_path / "1", splits=["dev"])) == ["dev"]
    assert list(prepare_kaldi(corpus / "dev", tmp_path / "2", root=corpus)) == ["dev"]
    assert read_manifest(tmp_path / "1", "dev") == read_manifest(tmp_path / "2", "dev")
    with pytest.raises(InputError, match="no data directory test; there are dev, train"):
        prepare_kaldi(corpus, tmp_path / "3", splits=["test"])


def test_segments_cut_recordings(corpus: Path, tmp_path: Path) -> None:
    write(corpus / "dev" / "segments", ["a dev00 0.01 0.05", "b dev00 0.05 -1", "c dev01 0 0.3"])
    write(corpus / "dev" / "text", ["a ONE", "b TWO", "c THREE"])
    write(corpus / "dev" / "utt2spk", ["a s1", "b s1", "c s2"])
    prepare_kaldi(corpus, tmp_path / "out", splits=["dev"])
    a, b, c = read_manifest(tmp_path / "out", "dev")
    assert (a.start, a.duration, a.recording_id) == (0.01, pytest.approx(0.04), "dev00")
    assert (b.start, b.duration) == (0.05, pytest.approx(0.05))
    assert (c.duration, c.recording_samples) == (1601 / 16000, 1601)  # ends 0.2 s late: cut at the end
    write_kaldi(tmp_path / "out", tmp_path / "kaldi", root=corpus)
    again = prepare_kaldi(tmp_path / "kaldi", tmp_path / "again", root=corpus)
    assert again["dev"].utterances == 3
    for first, second in zip(read_manifest(tmp_path / "again", "dev"), (a, b, c), strict=True):
        assert first.start == pytest.approx(second.start, abs=1e-6)
        assert first.duration == pytest.approx(second.duration, abs=2e-6)


def test_segments_far_outside_of_their_recording_are_dropped(corpus: Path, tmp_path: Path) -> None:
    write(corpus / "dev" / "segments", ["dev00 dev00 0 0.1", "dev01 dev01 0 0.9"])
    with pytest.raises(WorkError, match="1 of 2 utterances dropped.*segment after the end of its recording.*dev01"):
        prepare_kaldi(corpus, tmp_path / "out", splits=["dev"])
    prepared = prepare_kaldi(corpus, tmp_path / "out", splits=["dev"], max_dropped=0.5)
    assert prepared["dev"].drops.by_reason == {"segment after the end of its recording": 1}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_dropped_utterances_are_named_with_file_and_reason(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 9, 11, 20, 21):
        (corpus / f"audio/train{number:02d}.wav").write_text("no audio")
    command = ["prepare", "kaldi", "--corpus", str(corpus), "--output"]
    assert main([*command, str(tmp_path / "out"), "--max-dropped", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if line.startswith(f"  dropped train03 ({corpus}/audio/train03.wav): not audio: ")]
    assert len(named) == 1
    assert "  and 2 more; dropped.jsonl names all" in lines
    records = [json.loads(line) for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()]
    assert [(r["split"], r["id"], r["reason"]) for r in records] == [
        ("train", f"train{number:02d}", "not audio") for number in (3, 9, 11, 20, 21)]
    assert records[1]["file"] == str(corpus / "audio/train09.wav")
    assert main([*command, str(tmp_path / "few")]) == 1
    error = capsys.readouterr().err
    (said,) = [line for line in error.splitlines() if line.startswith("asr-kd: ")]
    assert "train03 (" in said and "train11 (" in said
    assert main(["-v", *command, str(tmp_path / "few")]) == 1
    error = capsys.readouterr().err
    assert all(f"train: dropped train{number:02d} (" in error for number in (3, 9, 11, 20, 21))
    prepare_kaldi(corpus, tmp_path / "out", splits=["dev"])
    assert (tmp_path / "out/dropped.jsonl").read_text() == ""


def test_rates_and_channels_are_refused_only_where_a_rate_is_wanted(corpus: Path, tmp_path: Path) -> None:
    soundfile.write(corpus / "audio/dev00.wav", np.ones((8000, 2), np.int16), 16000)
    soundfile.write(corpus / "audio/dev01.wav", np.ones(8000, np.int16), 8000)

    def dropped(**options: object) -> dict[str, int]:
        prepared = prepare_kaldi(corpus, tmp_path / "out", splits=["dev"], max_dropped=1.0, **options)  # type: ignore
        return prepared["dev"].drops.by_reason

    assert dropped() == dropped(sampling_rate=16000, resample=True, mix_down=True) == {}
    assert dropped(sampling_rate=16000, resample=True) == {"channels": 1}
    assert dropped(sampling_rate=16000, mix_down=True) == {"sampling rate": 1}
    with pytest.raises(WorkError, match="2 of 2 utterances dropped"):
        dropped(sampling_rate=16000)


@pytest.mark.parametrize(("fault", "reason"), [
    (cut, "truncated"),
    (Path.unlink, "missing file"),
    (lambda path: path.write_bytes(b""), "empty file"),
    (lambda path: path.write_text("text that is named wav\n" * 9), "not audio"),
])
def test_unusable_audio_is_dropped_counted_and_capped(
    corpus: Path, tmp_path: Path, fault: Callable[[Path], object], reason: str
) -> None:
    fault(corpus / "audio" / "train03.wav")
    prepared = prepare_kaldi(corpus, tmp_path / "out")["train"]
    assert prepared.drops.by_reason == {reason: 1}
    assert prepared.utterances + sum(prepared.drops.by_reason.values()) == prepared.drops.total == 30
    assert "train03" not in {utterance.id for utterance in read_manifest(tmp_path / "out", "train")}
    assert f"dropped: 1 {reason}" in str(prepared)
    fault(corpus / "audio" / "train04.wav")
    with pytest.raises(WorkError, match=f"2 of 30 utterances dropped.*{reason}.*train03"):
        prepare_kaldi(corpus, tmp_path / "capped")
    assert not (tmp_path / "capped").exists()


@pytest.mark.parametrize(("table", "old", "new", "message"), [
    ("text", "train05 ", "train04 ", r"text:6: train04 occurs twice, first at .*text:5; ids must be unique"),
    ("utt2spk", "train05 ", "train04 ", r"utt2spk:6: train04 occurs twice"),
    ("wav.scp", "train05 ", "train04 ", r"wav.scp:6: train04 occurs twice"),
    ("text", "WORDS TRAIN05", "W\xd6RDS", r"text:6: not UTF-8 \(byte 0xd6"),
    ("text", "train05 ", "other05 ", r"text:6: utterance other05 is not in .*wav.scp"),
    ("wav.scp", "train05 ", "other05 ", r"text:6: utterance train05 is not in .*wav.scp"),
    ("utt2spk", "train05 train-s2\n", "", r"text:6: utterance train05 is not in .*utt2spk"),
    ("wav.scp", "train05 audio/train05.wav", "train05", r"wav.scp:6: only 'train05'; expected an id and a path"),
    ("utt2spk", "train-s2", "train s2", r"utt2spk:3: utterance train02 has more than one speaker"),
    ("text", "train05 SOME WORDS TRAIN05", "", r"text:6: empty line"),
    ("wav.scp", "audio/train05.wav", "sox a.wav -t wav - |", r"wav.scp:6: is a command.*--allow-pipes"),
    ("wav.scp", "audio/train05.wav", "../secret.wav", r"wav.scp:6: ../secret.wav lies outside of .*--root"),
    ("wav.scp", "audio/train05.wav", "/etc/passwd", r"wav.scp:6: /etc/passwd lies outside of"),
    ("wav.scp", "audio/train05.wav", "| cat", r"wav.scp:6: '| cat' is not an input"),
])
def test_tables_that_do_not_fit_are_refused_with_file_and_line(
    corpus: Path, tmp_path: Path, table: str, old: str, new: str, message: str
) -> None:
    change(corpus / "train" / table, old, new)
    with pytest.raises(InputError, match=message) as caught:
        prepare_kaldi(corpus, tmp_path / "out")
    assert "\n" not in str(caught.value) and str(corpus) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_root_that_holds_all_audio_is_proposed(corpus: Path, tmp_path: Path) -> None:
    """The folder of the first file is not enough where speakers have folders of their own."""
    elsewhere = tmp_path.resolve() / "elsewhere"
    write(corpus / "dev/wav.scp", [f"dev{n:02} {elsewhere}/speaker{n}/dev{n:02}.wav" for n in range(3)])
    with pytest.raises(InputError, match=f"a folder above all audio, such as {elsewhere}$"):
        prepare_kaldi(corpus, tmp_path / "out", splits=["dev"])


@pytest.mark.parametrize("line", ["dev00 dev00 0.1", "dev00 dev00 a 1", "dev00 dev00 1 1", "dev00 dev00 -1 1",
                                  "dev00 other 0 1", "dev00 dev00 0 1 1", "dev00 dev00 0 nan"])
def test_faulty_segments_are_refused_with_file_and_line(corpus: Path, tmp_path: Path, line: str) -> None:
    write(corpus / "dev" / "segments", ["dev01 dev01 0 1", line])
    with pytest.raises(InputError, match="segments:2: "):
        prepare_kaldi(corpus, tmp_path / "out", splits=["dev"])


def test_a_link_that_leaves_the_root_is_refused(corpus: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.wav"
    (corpus / "audio" / "train05.wav").rename(outside)
    (corpus / "audio" / "train05.wav").symlink_to(outside)
    with pytest.raises(InputError, match=r"wav.scp:6: audio/train05.wav lies outside"):
        prepare_kaldi(corpus, tmp_path / "out")


def test_missing_folders_and_tables_are_input_errors(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: no such folder"):
        prepare_kaldi(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(InputError, match="no Kaldi data directory; expected wav.scp"):
        prepare_kaldi(corpus / "audio", tmp_path / "out")
    with pytest.raises(InputError, match="root: no such folder"):
        prepare_kaldi(corpus, tmp_path / "out", root=tmp_path / "root")
    (corpus / "dev" / "text").unlink()
    with pytest.raises(InputError, match="dev/text: no such file"):
        prepare_kaldi(corpus, tmp_path / "out")


def test_pipes_run_only_when_allowed_and_their_audio_is_kept(corpus: Path, tmp_path: Path) -> None:
    source, ran = corpus / "audio" / "dev00.wav", tmp_path / "ran"
    change(corpus / "dev" / "wav.scp", "audio/dev00.wav", f"touch {ran} && cat {source} |")
    with pytest.raises(InputError, match="commands run only with --allow-pipes"):
        prepare_kaldi(corpus, tmp_path / "out")
    assert not ran.exists()
    prepare_kaldi(corpus, tmp_path / "out", allow_pipes=True)
    assert ran.exists()
    utterance = read_manifest(tmp_path / "out", "dev")[0]
    assert utterance.audio.is_relative_to(tmp_path / "out")
    assert utterance.audio.read_bytes() == source.read_bytes()
    change(corpus / "dev" / "wav.scp", "cat ", "echo not there >&2; false; cat /no/file ")
    with pytest.raises(WorkError, match="command failed.*dev00"):
        prepare_kaldi(corpus, tmp_path / "again", allow_pipes=True)


def test_stereo_is_taken_in_without_choosing_a_channel(corpus: Path, tmp_path: Path) -> None:
    stereo = np.arange(44100 * 2, dtype=np.int16).reshape(-1, 2)
    soundfile.write(corpus / "audio" / "dev00.wav", stereo, 44100)
    prepare_kaldi(corpus, tmp_path / "out")
    utterance = read_manifest(tmp_path / "out", "dev")[0]
    assert (utterance.channel, utterance.channels, utterance.sampling_rate) == (None, 2, 44100)
    assert utterance.duration == 1.0
    with pytest.raises(InputError, match="dev00: .* has 2 channels"):
        write_kaldi(tmp_path / "out", tmp_path / "kaldi")


def test_speechocean762_goes_to_manifests_and_back_unchanged(shared: Path, tmp_path: Path) -> None:
    corpus = shared / "corpora" / "speechocean762"
    prepared = prepare_kaldi(corpus, tmp_path / "manifests")
    assert {name: (s.utterances, s.speakers, s.words) for name, s in prepared.items()} == {
        "train": (2500, 125, 15849), "dev": (1000, 50, 6390), "test": (1500, 75, 9577),
    }
    assert {name: round(s.seconds / 3600, 3) for name, s in prepared.items()} == {
        "train": 2.876, "dev": 1.076, "test": 1.615,
    }
    assert all(not s.drops.by_reason for s in prepared.values())
    write_kaldi(tmp_path / "manifests", tmp_path / "kaldi", root=corpus)
    for split in ("train", "dev", "test"):
        for name in ("wav.scp", "text", "utt2spk", "spk2utt"):
            assert (tmp_path / "kaldi" / split / name).read_bytes() == (corpus / split / name).read_bytes()
        durations = dict(line.split() for line in (corpus / split / "utt2dur").read_text().splitlines())
        for utterance in read_manifest(tmp_path / "manifests", split):
            assert utterance.duration == pytest.approx(float(durations[utterance.id]), abs=6e-4)


def test_command_prints_a_line_a_split_and_names_faults_in_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "kaldi", "--corpus", str(corpus), "--output", str(tmp_path / "out")]
    assert main([*command, "--split", "dev"]) == 0
    assert capsys.readouterr().out == "dev: 2 utterances, 2 speakers, 6 words, 0.000 h\n"
    change(corpus / "train" / "text", "train05 ", "train04 ")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train/text:6" in error


@pytest.mark.parametrize("name", ["audio/a\0b.wav", "audio/" + 300 * "x"], ids=["zero byte", "long"])
def test_what_cannot_be_a_path_is_refused_with_file_and_line(corpus: Path, tmp_path: Path, name: str) -> None:
    change(corpus / "dev/wav.scp", "audio/dev00.wav", name)
    with pytest.raises(InputError, match=r"wav.scp:1: .*(control character U\+0000|cannot be a file's path)"):
        prepare_kaldi(corpus, tmp_path / "out")


def test_a_split_whose_name_cannot_be_written_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    (corpus / "train").rename(corpus / "train set")
    with pytest.raises(InputError, match="split 'train set'"):
        prepare_kaldi(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [float("nan"), -0.1, 1.1])
def test_a_share_that_is_none_is_refused(corpus: Path, tmp_path: Path, share: float) -> None:
    with pytest.raises(InputError, match="max_dropped"):
        prepare_kaldi(corpus, tmp_path / "out", max_dropped=share)
