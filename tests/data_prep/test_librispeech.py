"""LibriSpeech from its own folders: parts, speakers, what is missing."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.core.errors import InputError, WorkError
from asr_kd.data.manifest import list_splits, read_manifest
from data_prep.librispeech import prepare_librispeech


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two parts, three speakers, one of them in both; four utterances a chapter."""
    for part, speaker, chapter in (("dev-clean", "19", "198"), ("dev-clean", "26", "495"), ("train-clean-5", "19", "7"),
                                   ("train-clean-5", "103", "1")):
        folder = tmp_path / "LibriSpeech" / part / speaker / chapter
        folder.mkdir(parents=True)
        names = [f"{speaker}-{chapter}-{number:04d}" for number in range(4)]
        for name in names:
            soundfile.write(folder / f"{name}.flac", np.zeros(8000), 16000)
        lines = [f"{name} WORD {number}\n" for number, name in enumerate(names)]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return tmp_path


def test_parts_become_splits(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare_librispeech(corpus, tmp_path / "out")
    assert {name: (one.utterances, one.speakers) for name, one in prepared.items()} == {
        "dev-clean": (8, 2), "train-clean-5": (8, 2)}
    first = read_manifest(tmp_path / "out", "dev-clean")[0]
    assert (first.id, first.speaker, first.text, first.duration) == ("19-198-0000", "19", "WORD 0", 0.5)
    prepare_librispeech(corpus / "LibriSpeech", tmp_path / "one", parts=["dev-clean"])
    assert list_splits(tmp_path / "one") == ["dev-clean"]


def test_splits_are_made_of_speakers_in_whatever_part(corpus: Path, tmp_path: Path) -> None:
    prepare_librispeech(corpus, tmp_path / "out", speakers={"a": ["19"], "b": ["26", "103"]})
    assert [len(read_manifest(tmp_path / "out", split)) for split in "ab"] == [8, 8]
    with pytest.raises(InputError, match="no speaker 99"):
        prepare_librispeech(corpus, tmp_path / "other", speakers={"a": ["99"]})
    assert not (tmp_path / "other").exists()


def test_missing_audio_and_transcripts_are_dropped_and_counted(corpus: Path, tmp_path: Path) -> None:
    folder = corpus / "LibriSpeech" / "dev-clean" / "19" / "198"
    (folder / "19-198-0001.flac").unlink()
    transcripts = folder / "19-198.trans.txt"
    transcripts.write_text("".join(line for line in transcripts.open() if "0002" not in line))
    drops = prepare_librispeech(corpus, tmp_path / "out", parts=["dev-clean"], max_dropped=0.5)["dev-clean"].drops
    assert drops.by_reason == {"no audio file": 1, "no transcript": 1} and drops.kept == 6
    with pytest.raises(WorkError, match="2 of 8"):
        prepare_librispeech(corpus, tmp_path / "strict", parts=["dev-clean"])


def test_other_audio_suffixes_will_do(corpus: Path, tmp_path: Path) -> None:
    for path in sorted(corpus.rglob("*.flac")):
        soundfile.write(path.with_suffix(".ogg"), np.zeros(8000), 16000)
        path.unlink()
    assert sum(one.utterances for one in prepare_librispeech(corpus, tmp_path / "out").values()) == 16


@pytest.mark.parametrize(("line", "message"), [
    ("19-198-0009", r"trans\.txt:5: expected ID WORDS"), ("19-198-0000 AGAIN", r"trans\.txt:5: utterance 19-198-0000")])
def test_a_malformed_line_is_named(corpus: Path, tmp_path: Path, line: str, message: str) -> None:
    path = corpus / "LibriSpeech" / "dev-clean" / "19" / "198" / "19-198.trans.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        prepare_librispeech(corpus, tmp_path / "out")


def test_what_is_no_librispeech_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no part dev-other; there are: dev-clean, train-clean-5"):
        prepare_librispeech(corpus, tmp_path / "out", parts=["dev-other"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no transcripts"):
        prepare_librispeech(tmp_path / "empty", tmp_path / "out")


def test_the_subset_has_its_285_utterances(shared: Path, tmp_path: Path) -> None:
    folder = shared / "corpora" / "librispeech_subset"
    if not folder.is_dir():
        pytest.skip("no LibriSpeech subset")
    (prepared,) = prepare_librispeech(folder, tmp_path / "out").values()
    assert (prepared.utterances, prepared.speakers, prepared.words) == (285, 21, 9830)
