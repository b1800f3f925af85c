"""Audio: Kaldi's scale, and every way in which a file can be wrong."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.data.audio import AudioError, AudioHeader, read_audio, read_header, read_utterance
from asr_kd.data.manifest import Utterance
from asr_kd.data.resampling import resample

RATE = 16000


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    generator = np.random.default_rng(1)
    return np.clip(generator.normal(0, 3000, 2 * RATE), -32768, 32767).astype(np.int16)


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def reason(path: Path, **options: object) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path, **options)  # type: ignore[arg-type]
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.aiff", "x.au", "x.w64"])
def test_sixteen_bit_samples_are_exact(tmp_path: Path, samples: np.ndarray, name: str) -> None:
    soundfile.write(tmp_path / name, samples, RATE, subtype="PCM_16")
    found, rate = read_audio(tmp_path / name)
    assert found.dtype == np.float32 and rate == RATE
    assert np.array_equal(found, samples)
    assert read_header(tmp_path / name) == AudioHeader(RATE, 1, len(samples))


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT"])
def test_finer_samples_have_the_same_scale(tmp_path: Path, samples: np.ndarray, subtype: str) -> None:
    soundfile.write(tmp_path / "x.wav", samples / 32768, RATE, subtype=subtype)
    assert np.array_equal(read_audio(tmp_path / "x.wav")[0], samples)


def test_loud_vorbis_is_clipped_and_does_not_wrap_around(tmp_path: Path) -> None:
    square = np.sign(np.sin(np.arange(RATE) / 20)).astype(np.float32)
    soundfile.write(tmp_path / "x.ogg", square, RATE, subtype="VORBIS")
    found, _ = read_audio(tmp_path / "x.ogg")
    assert found.max() == 32767 and found.min() == -32768
    assert np.mean(np.sign(found) == square) > 0.95


def test_start_and_duration_choose_exactly_those_samples(tmp_path: Path, samples: np.ndarray) -> None:
    soundfile.write(tmp_path / "x.flac", samples, RATE)
    found, _ = read_audio(tmp_path / "x.flac", start=0.25, duration=1.0)
    assert np.array_equal(found, samples[4000:20000])
    assert np.array_equal(read_audio(tmp_path / "x.flac", start=1.5)[0], samples[24000:])


def test_agrees_with_the_decoded_copies_of_the_corpus(shared: Path) -> None:
    for path in sorted((shared / "golden/kaldi/wav").glob("0*.wav")):
        ogg = shared / f"corpora/speechocean762/audio/{path.stem[1:5]}/{path.stem}.ogg"
        if not ogg.exists():
            ogg = next((shared / "corpora/speechocean762/audio").glob(f"*/{path.stem}.ogg"))
        assert np.array_equal(read_audio(ogg)[0], read_audio(path)[0])


@pytest.mark.parametrize("share", [0.97, 0.5])
@pytest.mark.parametrize("name", ["x.wav", "x.aiff", "x.au", "x.flac", "x.ogg", "x.opus", "x.mp3"])
def test_truncated_audio_is_found(tmp_path: Path, samples: np.ndarray, name: str, share: float) -> None:
    path = tmp_path / name
    kind = {"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "ogg": ("OGG", "VORBIS")}
    format_, subtype = kind.get(path.suffix[1:], (None, "PCM_16"))
    soundfile.write(path, samples, RATE, format=format_, subtype=subtype)
    assert len(read_audio(path)[0]) == len(samples)
    cut(path, share)
    assert reason(path) == "truncated"
    with pytest.raises(AudioError, match="truncated"):
        read_header(path)


def test_wav_whose_writer_did_not_know_the_length_is_whole(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, samples, RATE)
    content = bytearray(path.read_bytes())
    for position in (4, 40):
        content[position : position + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    assert np.array_equal(read_audio(path)[0], samples)


def test_audio_shorter_than_asked_for_is_truncated(tmp_path: Path, samples: np.ndarray) -> None:
    soundfile.write(tmp_path / "x.wav", samples, RATE)
    assert reason(tmp_path / "x.wav", duration=2.5) == "truncated"
    assert reason(tmp_path / "x.wav", start=3.0, duration=0.5) == "truncated"


def test_missing_empty_and_text_files_have_their_own_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio\n" * 100)
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.int16), RATE)
    assert reason(tmp_path / "empty.wav") == "empty file"
    assert reason(tmp_path / "text.wav") == "not audio"
    assert reason(tmp_path / "nothing.wav") == "missing file"
    assert reason(tmp_path) == "missing file"
    with pytest.raises(AudioError, match="empty file"):
        read_header(tmp_path / "none.wav")


def test_stereo_at_44100_is_used_only_when_asked(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    left, right = np.sin(2 * np.pi * 440 * time), 0.5 * np.sin(2 * np.pi * 440 * time)
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([left, right], axis=1) * 0.5, 44100)
    assert reason(path, sampling_rate=RATE, mix_down=True) == "sampling rate"
    assert reason(path, sampling_rate=RATE, resample=True) == "channels"
    assert reason(path, channel=2) == "channels"
    found, rate = read_audio(path, sampling_rate=RATE, mix_down=True, resample=True)
    expected = 0.375 * 32768 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert rate == RATE and len(found) == RATE
    mixed, _ = read_audio(path, mix_down=True)
    assert np.array_equal(found, resample(mixed, 44100, RATE)), "resampled otherwise than Kaldi's features want it"
    assert np.abs(found - expected)[500:-500].max() < 20
    one, _ = read_audio(path, channel=1)
    assert np.abs(one - 0.25 * 32768 * np.sin(2 * np.pi * 440 * time)).max() < 2


def test_utterance_without_a_chosen_channel_needs_mixing_down(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([samples, -samples // 2], axis=1), RATE)
    chosen = Utterance("u", "s", "A", path, 0.5, 1.0, RATE, channel=1, channels=2)
    assert np.array_equal(read_utterance(chosen)[0], (-samples // 2)[8000:24000])
    unchosen = Utterance("u", "s", "A", path, 0.5, 1.0, RATE, channel=None, channels=2)
    with pytest.raises(AudioError, match="channels"):
        read_utterance(unchosen)
    mixed, _ = read_utterance(unchosen, mix_down=True)
    assert np.array_equal(mixed, ((samples.astype(np.float32) + -samples // 2) / 2)[8000:24000])
