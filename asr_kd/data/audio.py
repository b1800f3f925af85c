"""Audio files as Kaldi sees them: one channel, float32 in the scale of 16-bit samples."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from asr_kd.core.errors import WorkError
from asr_kd.data.manifest import Utterance

_SIXTEEN_BIT_OR_LESS = {"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"}
_LOSSY = re.compile("VORBIS|OPUS|MPEG")
# libsndfile shortens a file whose header promises more than there is, and says so only in its log.
_SHORTER_THAN_HEADER = re.compile(
    r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE
)
_UNKNOWN_LENGTH = 0x7FFF0000  # programs that write to a pipe put a length about this large, or larger


class AudioError(WorkError):
    """Audio that cannot be used; `reason` is a short fixed phrase, `detail` says more.

    Reasons: "missing file", "no permission", "empty file", "not audio", "truncated", "sampling rate",
    "channels".
    """

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {reason}: {detail}")
        self.path = path
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """What the header of an audio file says; `samples` per channel."""

    sampling_rate: int
    channels: int
    samples: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.samples / self.sampling_rate


def read_audio(
    path: Path,
    start: float = 0.0,
    duration: float | None = None,
    *,
    sampling_rate: int | None = None,
    channel: int | None = None,
    mix_down: bool = False,
    resample: bool = False,
    speed: float = 1.0,
) -> tuple[np.ndarray, int]:
    """Read `(samples,)` float32 in -32768..32767 (Kaldi's scale) and the sampling rate.

    `start` and `duration` are seconds, as played at `speed` times the file's (pitch moves with it). 16-bit samples are
    exact; lossy formats are read as floats, times 32767, rounded and clipped. A file with several channels needs
    `channel` or `mix_down` (the mean), a file whose rate is not `sampling_rate` needs `resample` (as Kaldi does it).
    Anything else raises AudioError, which names the file and the reason.
    """
    path = Path(path)
    with _open(path) as file:
        rate, channels = file.samplerate, file.channels
        if sampling_rate is not None and rate != sampling_rate and not resample:
            raise AudioError(path, "sampling rate", f"{rate} Hz, expected {sampling_rate}; resampling is off")
        if channel is not None and not 0 <= channel < channels:
            raise AudioError(path, "channels", f"channel {channel} asked for, there are {channels} (from 0)")
        if channel is None and channels > 1 and not mix_down:
            raise AudioError(path, "channels", f"{channels} channels, expected 1; mixing down is off")
        count = None if duration is None else round(duration * speed * rate)
        samples = _read(path, file, round(start * speed * rate), count)
    if samples.ndim == 2:
        samples = samples.mean(axis=1, dtype=np.float32) if channel is None else samples[:, channel]
    played_rate, rate = round(speed * rate), sampling_rate or rate
    if played_rate != rate:
        from asr_kd.data.resampling import resample as resample_samples  # numba: only where it is needed

        samples = resample_samples(samples, played_rate, rate)
    return np.ascontiguousarray(samples, dtype=np.float32), rate


def read_utterance(
    utterance: Utterance, *, sampling_rate: int | None = None, mix_down: bool = False, resample: bool = False
) -> tuple[np.ndarray, int]:
    """Read the audio of one utterance of a manifest; arguments, result and errors as `read_audio`."""
    return read_audio(
        utterance.audio, utterance.start, utterance.duration, sampling_rate=sampling_rate,
        channel=utterance.channel if utterance.channels > 1 else None, mix_down=mix_down, resample=resample,
        speed=utterance.speed,
    )


def read_header(path: Path) -> AudioHeader:
    """Sampling rate, channels and length of an audio file, in a fraction of the time that decoding takes.

    The last samples are decoded, so that most truncated files are found. Raises AudioError.
    """
    path = Path(path)
    with _open(path) as file:
        if file.frames == 0:
            raise AudioError(path, "empty file", "there is no sample in it")
        if file.seekable():
            last = min(2, file.frames)
            _read(path, file, file.frames - last, last)
        return AudioHeader(file.samplerate, file.channels, file.frames)


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    if not path.is_file():
        raise AudioError(path, "missing file", "no such file" if not path.exists() else "not a file")
    if not os.access(path, os.R_OK):
        raise AudioError(path, "no permission", "the file may not be read")
    if path.stat().st_size == 0:
        raise AudioError(path, "empty file", "0 bytes")
    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        # A cut Opus file cannot even be opened; without a whole last page it is not what it says it is.
        reason = "truncated" if _is_ogg(path) and not _ogg_ends_well(path) else "not audio"
        raise AudioError(path, reason, "libsndfile cannot read it") from error
    with file:
        promised = _SHORTER_THAN_HEADER.search(file.extra_info)
        if promised and int(promised[2]) < int(promised[1]) < _UNKNOWN_LENGTH:
            detail = f"{promised[2]} bytes of samples, its header says {promised[1]}"
            raise AudioError(path, "truncated", detail)
        if file.format == "OGG" and not _ogg_ends_well(path):
            raise AudioError(path, "truncated", "the last page of the Ogg stream is cut or missing")
        yield file


def _read(path: Path, file: soundfile.SoundFile, start: int, count: int | None) -> np.ndarray:
    """`(samples,)` or `(samples, channels)` in the scale of 16-bit samples."""
    expected = count if count is not None else file.frames - start
    exact = file.subtype in _SIXTEEN_BIT_OR_LESS
    try:
        if start:
            file.seek(start)
        samples = file.read(expected, dtype="int16" if exact else "float32")
    except (soundfile.SoundFileError, ValueError) as error:
        detail = f"decoding fails at or after sample {start} of {file.frames}"
        raise AudioError(path, "truncated", detail) from error
    if expected - len(samples) > 1:  # one sample is what rounding seconds may cost
        detail = f"{len(samples)} samples from sample {start} on, expected {expected}"
        raise AudioError(path, "truncated", detail)
    samples = samples.astype(np.float32, copy=False)
    if exact:
        return samples
    if _LOSSY.search(file.subtype):
        # Read as int16, Vorbis wraps around where it should clip.
        return np.clip(np.rint(samples * 32767.0), -32768.0, 32767.0)
    return np.clip(samples * 32768.0, -32768.0, 32767.0)


def _is_ogg(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"OggS"


def _ogg_ends_well(path: Path) -> bool:
    """Whether the last page is whole and marked as the end of its stream (RFC 3533, section 6)."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * 65307))  # 65,307 bytes: the largest page
        tail = file.read()
    begin = tail.rfind(b"OggS")
    if begin < 0 or len(tail) < begin + 27:
        return False
    segments = tail[begin + 26]
    lengths = tail[begin + 27 : begin + 27 + segments]
    whole = len(lengths) == segments and len(tail) >= begin + 27 + segments + sum(lengths)
    return whole and bool(tail[begin + 5] & 4)
