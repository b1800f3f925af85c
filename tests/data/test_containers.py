"""Lengths that headers leave out or say wrongly: all samples are read, or both figures are named."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_kd.data.audio import AudioError, read_audio, read_header
from asr_kd.data.flac import _crc, find_end

RATE = 16000
UNKNOWN = 0xFFFFFFFF


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    generator = np.random.default_rng(2)
    return np.clip(generator.normal(0, 3000, 3 * RATE), -32768, 32767).astype(np.int16)


def patch(path: Path, offset: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)


def write(path: Path, samples: np.ndarray, kind: str, subtype: str = "PCM_16") -> int:
    """Write audio and return the offset of the length of its samples."""
    soundfile.write(path, samples, RATE, format=kind, subtype=subtype)
    marks = {"WAV": b"data", "RF64": b"ds64", "W64": b"data\xf3\xac\xd3\x11", "AIFF": b"SSND", "CAF": b"data"}
    content = path.read_bytes()
    if kind == "AU":
        return 8
    offset = content.index(marks[kind]) + len(marks[kind])
    return offset + {"RF64": 12, "W64": 8}.get(kind, 0)


FORMATS = {"WAV": "<I", "RF64": "<Q", "W64": "<Q", "AIFF": ">I", "AU": ">I", "CAF": ">q"}


def test_the_cases_have_their_right_values(shared: Path) -> None:
    folder = shared / "cases/audio"
    good, _ = read_audio(folder / "good.wav")
    for name in ("flac_pipe.flac", "len0.wav", "pipe.aiff"):
        assert np.array_equal(read_audio(folder / name)[0], good)
        assert read_header(folder / name).samples == len(good) == 41280
    with pytest.raises(AudioError, match="wrong length: .* 41280 bytes of samples, 82560 bytes follow"):
        read_header(folder / "lenshort.wav")
    whole, _ = read_audio(folder / "cbr_no_xing.mp3")
    assert len(whole) == 836 * 576 == read_header(folder / "cbr_no_xing.mp3").samples
    assert np.array_equal(read_audio(folder / "cbr_no_xing.mp3", start=29.0, duration=0.9)[0], whole[464000:478400])


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
@pytest.mark.parametrize(("kind", "length"), [
    ("WAV", 0), ("WAV", UNKNOWN), ("WAV", 0x7FFFF000), ("WAV", 0x80000000), ("RF64", 0), ("RF64", (1 << 64) - 1),
    ("W64", 24), ("W64", (1 << 63) - 1), ("AIFF", 0), ("AIFF", 0x7F000008), ("AU", UNKNOWN), ("AU", 0), ("CAF", -1),
])
def test_a_length_that_its_writer_did_not_know_is_that_of_the_file(
    tmp_path: Path, samples: np.ndarray, kind: str, length: int, subtype: str
) -> None:
    path = tmp_path / "x"
    offset = write(path, samples, kind, subtype)
    whole, _ = read_audio(path)
    patch(path, offset, struct.pack(FORMATS[kind], length))
    assert np.array_equal(read_audio(path)[0], whole)
    assert np.array_equal(read_audio(path, start=2.5)[0], whole[40000:])
    assert read_header(path).samples == len(samples)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_length_that_leaves_samples_out_is_said_with_both_figures(
    tmp_path: Path, samples: np.ndarray, kind: str
) -> None:
    path = tmp_path / "x"
    offset = write(path, samples, kind)
    extra = {"W64": 24, "AIFF": 8, "CAF": 4}.get(kind, 0)
    patch(path, offset, struct.pack(FORMATS[kind], len(samples) + extra))
    kept = {"W64": 0, "AIFF": 8, "CAF": 4}.get(kind, 0)
    figures = f"wrong length: its header says {len(samples) + kept} bytes of samples, {2 * len(samples) + kept} bytes"
    for read in (read_header, read_audio):
        with pytest.raises(AudioError, match=figures):
            read(path)


def test_other_chunks_behind_the_samples_are_no_samples(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "x.wav"
    write(path, samples, "WAV")
    plain = path.read_bytes()
    chunk = b"LIST\4\0\0\0INFO"
    for behind in (chunk, chunk + b"id3 \3\0\0\0abc\0", bytes(4000), b"TAG" + b" " * 125, b"\r\n"):
        path.write_bytes(plain + behind)
        assert np.array_equal(read_audio(path)[0], samples)
    path.write_bytes(plain + plain)
    with pytest.raises(AudioError, match="wrong length"):
        read_audio(path)
    soundfile.write(path, np.zeros(0, np.int16), RATE)
    path.write_bytes(path.read_bytes() + chunk)
    with pytest.raises(AudioError, match="empty file"):
        read_header(path)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_says_its_length_by_its_last_frame(tmp_path: Path, samples: np.ndarray, channels: int) -> None:
    path = tmp_path / "x.flac"
    stereo = np.stack([samples, samples[::-1]], axis=1)[:, :channels]
    soundfile.write(path, stereo, RATE)
    plain = path.read_bytes()
    (packed,) = struct.unpack(">Q", plain[18:26])

    def header(total: int) -> None:
        patch(path, 18, struct.pack(">Q", packed >> 36 << 36 | total))

    header(0)
    assert read_header(path).samples == len(samples)
    assert np.array_equal(read_audio(path, start=1.0, channel=channels - 1)[0], stereo[RATE:, channels - 1])
    header(20000)
    with pytest.raises(AudioError, match="wrong length: its header says 20000 samples, .* ends at sample 48000"):
        read_header(path)
    header(50000)
    with pytest.raises(AudioError, match="truncated"):
        read_header(path)
    path.write_bytes(plain[:-3000])
    header(0)
    with pytest.raises(AudioError, match="truncated: its last frame is cut"):
        read_header(path)


def test_bytes_like_a_header_in_the_last_flac_frame_are_none(tmp_path: Path) -> None:
    def header(number: int) -> bytes:
        begin = bytes.fromhex("fff8c908") + bytes([number])
        return begin + bytes([_crc(begin, 0x07, 8)])

    frame = header(2) + bytes(40) + header(7) + bytes(30)
    whole = frame + _crc(frame, 0x8005, 16).to_bytes(2, "big")
    assert find_end(bytes(100) + whole, 4096, 0) == 3 * 4096
    assert find_end(whole, 4096, 3 * 4096) == 3 * 4096
    assert find_end(whole[:-1], 4096, 0) == 0


def mp3(path: Path, samples: np.ndarray, mode: str = "CONSTANT") -> tuple[bytes, bytes]:
    """The tag's frame and all other frames of an MP3 file that was written to `path`."""
    with soundfile.SoundFile(path, "w", RATE, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode) as file:
        file.write(samples)
    content = path.read_bytes()
    assert content[13:17] in (b"Xing", b"Info")
    end = content.index(content[:2], 20)
    return content[:end], content[end:]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("before", [b"", b"ID3\4\0\0\0\0\0\12" + bytes(10), b"ID3\4\0\0\0\0\0\12" + bytes(300)])
def test_mp3_without_a_tag_is_read_to_its_end(
    tmp_path: Path, samples: np.ndarray, mode: str, before: bytes
) -> None:
    path = tmp_path / "x.mp3"
    speech = (samples * np.repeat([1.0, 0.001, 1.0], RATE)).astype(np.int16)
    _, frames = mp3(path, speech, mode)
    tagged, _ = read_audio(path)
    assert len(tagged) == len(samples)
    path.write_bytes(before + frames + b"TAG".ljust(128, b" "))
    whole, _ = read_audio(path)
    assert read_header(path).samples == len(whole) and len(whole) % 576 == 0
    delay = np.argmax(np.correlate(whole, tagged[:RATE])[:3000])
    assert len(tagged) + delay <= len(whole)
    assert np.abs(whole[delay : delay + len(tagged)] - tagged).max() <= 2
    for start in (0.3, 2.2, 1.0, 0.1, 2.9):
        begin = round(start * RATE)
        assert np.array_equal(read_audio(path, start=start, duration=0.1)[0], whole[begin : begin + 1600])
    path.write_bytes(before + frames[:-20])
    with pytest.raises(AudioError, match="truncated"):
        read_header(path)


def test_mp3_whose_tag_counts_too_few_frames_is_read_to_its_end(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "x.mp3"
    tag, frames = mp3(path, samples)
    tagged, _ = read_audio(path)
    path.write_bytes(tag + frames + frames)
    whole, _ = read_audio(path)
    assert len(whole) > 2 * len(samples) - 576
    assert np.array_equal(whole[: len(samples) - 1152], tagged[:-1152])
    path.write_bytes(tag + frames + b"ID3\4\0\0\0\0\0\12" + b"x" * 10 + frames)
    assert read_header(path).samples > 2 * len(samples) - 576


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_streams_that_are_chained_are_read_one_after_the_other(
    tmp_path: Path, samples: np.ndarray, subtype: str
) -> None:
    parts = []
    for number in range(3):
        path = tmp_path / f"{number}.ogg"
        soundfile.write(path, samples[number * RATE :], RATE, format="OGG", subtype=subtype)
        parts.append(path)
    decoded = np.concatenate([read_audio(part)[0] for part in parts])
    chain = tmp_path / "chain.ogg"
    chain.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert read_header(chain).samples == 6 * RATE
    assert np.array_equal(read_audio(chain)[0], decoded)
    for start in (2.9, 0.5, 4.9, 5.1):
        begin = round(start * RATE)
        assert np.array_equal(read_audio(chain, start=start, duration=0.5)[0], decoded[begin : begin + 8000])
    soundfile.write(parts[1], samples, 48000, format="OGG", subtype=subtype)
    chain.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(AudioError, match="changes within: begins with 16000 Hz"):
        read_header(chain)
    chain.write_bytes(parts[0].read_bytes() + parts[2].read_bytes()[:-100])
    with pytest.raises(AudioError, match="truncated"):
        read_header(chain)


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS", "MPEG_LAYER_III"])
def test_a_stretch_of_a_lossy_file_is_what_decoding_from_its_start_gives(
    tmp_path: Path, samples: np.ndarray, subtype: str
) -> None:
    path = tmp_path / "x"
    changing = np.tile(samples, 4) * np.repeat([1.0, 0.0005, 0.5, 0.0005], 3 * RATE)
    kind = "MP3" if subtype == "MPEG_LAYER_III" else "OGG"
    soundfile.write(path, changing.astype(np.int16), RATE, format=kind, subtype=subtype)
    whole, _ = read_audio(path)
    for begin in (1, 40000, 48123, 50000, 17, 150000, 188000, 190000, 190000):
        piece, _ = read_audio(path, start=begin / RATE, duration=0.1)
        assert np.array_equal(piece, whole[begin : begin + 1600])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_not_finite_are_refused(
    tmp_path: Path, samples: np.ndarray, value: float, subtype: str
) -> None:
    path = tmp_path / "x.wav"
    damaged = samples / 32768
    damaged[[1000, 1002]] = value
    soundfile.write(path, damaged, RATE, subtype=subtype)
    with pytest.raises(AudioError, match="not finite: 2 samples are NaN or infinite, the first at 1000"):
        read_audio(path)
    assert len(read_audio(path, start=0.5)[0]) == len(samples) - 8000


def test_kinds_that_no_corpus_comes_in_are_refused(tmp_path: Path, samples: np.ndarray) -> None:
    for kind, subtype in (("SVX", "PCM_16"), ("MAT5", "PCM_16"), ("SDS", "PCM_16"), ("XI", "DPCM_16")):
        soundfile.write(tmp_path / "x", samples, RATE, format=kind, subtype=subtype)
        with pytest.raises(AudioError, match="not audio"):
            read_header(tmp_path / "x")
    for kind in ("NIST", "VOC"):
        soundfile.write(tmp_path / "x", samples, RATE, format=kind, subtype="PCM_16")
        assert np.array_equal(read_audio(tmp_path / "x")[0], samples)


def test_a_length_that_the_file_cannot_hold_takes_no_memory(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, samples, RATE)
    (packed,) = struct.unpack(">Q", path.read_bytes()[18:26])
    patch(path, 18, struct.pack(">Q", packed | (1 << 36) - 1))
    path.write_bytes(path.read_bytes() + b"junk" * 9000)  # no last frame is found
    with pytest.raises(AudioError, match="truncated: .* cannot hold the 68719476735 samples"):
        read_audio(path)


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """A file with some bytes changed, gone, put in or twice, most of them in its header."""
    changed = bytearray(content)
    values = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", random.bytes(1)]
    for _ in range(random.integers(1, 6)):
        position = int(random.integers(0, min(len(changed), random.choice([64, 400, len(changed)])) or 1))
        kind, length = random.integers(5), int(random.integers(1, 200))
        if kind < 2:
            value = values[random.integers(len(values))]
            changed[position : position + len(value)] = value
        elif kind == 2:
            del changed[position : position + length]
        elif kind == 3:
            changed[position:position] = random.bytes(length)
        else:
            changed = changed[:position] if random.random() < 0.5 else changed + changed[position:]
    return bytes(changed)


def test_damaged_audio_is_an_audio_error_or_read(tmp_path: Path, samples: np.ndarray) -> None:
    random = np.random.default_rng(5)
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
             ("AU", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("NIST", "PCM_16")]
    path = tmp_path / "x"
    read = 0
    for number in range(300):
        kind, subtype = kinds[number % len(kinds)]
        soundfile.write(path, samples[:4000], RATE, format=kind, subtype=subtype)
        path.write_bytes(damage(path.read_bytes(), random))
        for options in ({}, {"start": 0.05, "duration": 0.1}):
            try:
                found, _ = read_audio(path, mix_down=True, **options)
                read += 1
                assert found.dtype == np.float32 and np.isfinite(found).all()
            except AudioError as error:
                assert "\n" not in str(error)
    assert 30 < read < 570
