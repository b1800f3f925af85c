"""Speech at other speeds: what the manifest says, what is heard, who is held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.core.errors import InputError
from asr_kd.data.audio import read_utterance
from asr_kd.data.manifest import Source, Utterance, read_manifest, write_manifest
from asr_kd.data.perturbation import perturb_speed
from asr_kd.data.validation import validate_manifest
from data_prep.kaldi import write_kaldi

RATE = 16000


@pytest.fixture
def tone(tmp_path: Path) -> Utterance:
    """Half a second of 1 kHz, with a click in its middle."""
    times = np.arange(RATE) / RATE
    samples = (8000 * np.sin(2 * np.pi * 1000 * times)).astype(np.int16)
    soundfile.write(tmp_path / "tone.wav", samples, RATE)
    return Utterance("u1", "s1", "BEEP", tmp_path / "tone.wav", 0.25, 0.5, RATE, recording="tone",
                     recording_duration=1.0)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25])
def test_perturbed_speech_is_shorter_and_higher_by_the_factor(tone: Utterance, factor: float) -> None:
    perturbed = perturb_speed(tone, factor)
    assert (perturbed.id, perturbed.speaker, perturbed.recording) == tuple(
        f"{name}_sp{factor:g}" for name in ("u1", "s1", "tone"))
    samples, rate = read_utterance(perturbed)
    assert rate == RATE and len(samples) == pytest.approx(0.5 / factor * RATE, abs=2)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert spectrum.argmax() * rate / len(samples) == pytest.approx(1000 * factor, abs=5)


def test_other_speeds_are_written_and_read_and_lhotse_knows_them(tone: Utterance, tmp_path: Path) -> None:
    import lhotse

    utterances = [tone, perturb_speed(tone, 0.9), perturb_speed(tone, 1.1)]
    write_manifest(tmp_path / "m", "train", utterances)
    assert read_manifest(tmp_path / "m", "train") == utterances
    recordings = lhotse.RecordingSet.from_jsonl(tmp_path / "m/train_recordings.jsonl.gz")
    ours, _ = read_utterance(utterances[1])
    theirs = recordings["tone_sp0.9"].load_audio()[0]
    assert len(theirs) == pytest.approx(RATE / 0.9, abs=2)
    begin = round(utterances[1].start * RATE)
    inner = slice(1000, 6000)
    assert np.corrcoef(ours[inner], theirs[begin:begin + len(ours)][inner])[0, 1] > 0.95
    assert not validate_manifest(tmp_path / "m").problems


def test_transforms_other_than_of_speed_are_refused(tone: Utterance, tmp_path: Path) -> None:
    import gzip

    write_manifest(tmp_path / "m", "train", [perturb_speed(tone, 0.9)])
    path = tmp_path / "m/train_recordings.jsonl.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text.replace('"Speed"', '"Volume"').encode()))
    with pytest.raises(InputError, match="transforms other than one of speed, are not read"):
        read_manifest(tmp_path / "m", "train")


def test_a_copy_knows_its_source_and_is_made_once(tone: Utterance) -> None:
    assert tone.source is None and perturb_speed(tone, 1.1).source == Source("u1", "s1")
    for factor, utterance in ((0.0, tone), (0.9, perturb_speed(tone, 0.9))):
        with pytest.raises(ValueError):
            perturb_speed(utterance, factor)


def test_a_speaker_whose_name_ends_like_a_copys_is_one_of_the_corpus(tone: Utterance, tmp_path: Path) -> None:
    anna = replace(tone, id="u_sp1", speaker="anna_sp1")
    write_manifest(tmp_path, "train", [anna, perturb_speed(anna, 1.1)])
    assert [u.source for u in read_manifest(tmp_path, "train")] == [None, Source("u_sp1", "anna_sp1")]


def test_copies_of_older_manifests_and_of_lhotse_are_known_by_their_speed(tone: Utterance, tmp_path: Path) -> None:
    import lhotse

    copies = [replace(perturb_speed(tone, factor), source=None) for factor in (0.9, 1.1)]
    write_manifest(tmp_path / "old", "train", [tone, *copies])
    sources = [u.source for u in read_manifest(tmp_path / "old", "train")]
    assert sources == [None, Source("u1", "s1"), Source("u1", "s1")]
    write_manifest(tmp_path / "lhotse", "train", [tone])
    for kind in ("recordings", "supervisions"):
        path = tmp_path / f"lhotse/train_{kind}.jsonl.gz"
        manifest = lhotse.load_manifest(path)
        rate = {} if kind == "recordings" else {"sampling_rate": RATE}
        manifest.from_items([item.perturb_speed(1.5, **rate) for item in manifest]).to_file(path)
    (found,) = read_manifest(tmp_path / "lhotse", "train")
    assert (found.speed, found.speaker, found.source) == (1.5, "s1", Source("u1", "s1"))


def test_segments_still_end_within_their_recording() -> None:
    rng = np.random.default_rng(0)
    for end in rng.integers(RATE, 10 * RATE, 500):
        begin = int(rng.integers(0, end - 1))
        whole = Utterance("u", "s", "A", Path("a.wav"), begin / RATE, (end - begin) / RATE, RATE,
                          recording="r", recording_duration=end / RATE)
        for factor in (0.9, 1.1):
            found = perturb_speed(whole, factor)
            assert found.start + found.duration <= found.recording_duration + 1e-9


def test_kaldi_data_directories_cannot_say_another_speed(tone: Utterance, tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", "train", [perturb_speed(tone, 0.9)])
    with pytest.raises(InputError, match="0.9 times the speed of its file"):
        write_kaldi(tmp_path / "m", tmp_path / "kaldi")
