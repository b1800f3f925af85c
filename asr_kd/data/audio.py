"""Audio files as Kaldi sees them: one channel, float32 in the scale of 16-bit samples."""

import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from pydantic import Field

from asr_kd.core.config import Config, Settings, build_config
from asr_kd.core.errors import WorkError
from asr_kd.data.containers import ContainerFault, Layout, examine
from asr_kd.data.file_views import ViewReader
from asr_kd.data.manifest import Utterance

_SIXTEEN_BIT_OR_LESS = {"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"}
_LOSSY = re.compile("VORBIS|OPUS|MPEG")
_FLOATS = {"FLOAT", "DOUBLE"}
_BLOCK, _LARGE_BLOCK = 1 << 18, 1 << 26
_MOST_SAMPLES_A_BYTE = 8192  # more than any of these formats packs into one


class AudioError(WorkError):
    """Audio that cannot be used; `reason` is a short fixed phrase, `detail` says more.

    Reasons: "missing file", "no permission", "empty file", "not audio", "truncated" (fewer samples than its header
    says), "wrong length" (more), "changes within" (its rate or channels), "not finite" (NaN or infinite samples),
    "sampling rate", "channels".
    """

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {reason}: {detail}")
        self.path = path
        self.reason = reason
        self.detail = detail


class AudioOptions(Config):
    """Permitted conversions of audio that is not as expected; by default it is refused.

    resample: convert other sampling rates (as Kaldi does); mix_down: take the mean of several channels where none is
    chosen; sampling_rate: the expected rate in Hz, None for that of each file or of the features.
    """

    resample: bool = False
    mix_down: bool = False
    sampling_rate: int | None = Field(None, ge=1, le=10_000_000)

    def check(self, path: Path, sampling_rate: int, channels: int, channel: int | None = None) -> None:
        """Raise AudioError ("sampling rate", "channels") for a file that these options refuse."""
        expected = self.sampling_rate
        if expected is not None and sampling_rate != expected and not self.resample:
            raise AudioError(path, "sampling rate", f"{sampling_rate} Hz, expected {expected}; resampling is off")
        if channel is not None and not 0 <= channel < channels:
            raise AudioError(path, "channels", f"channel {channel} asked for, there are {channels} (from 0)")
        if channel is None and channels > 1 and not self.mix_down:
            raise AudioError(path, "channels", f"{channels} channels, expected 1; mixing down is off")


def audio_options(resample: bool, mix_down: bool, sampling_rate: int | None) -> AudioOptions:
    """The options as given to a command; InputError for a sampling rate out of range."""
    return build_config(AudioOptions, Settings(
        {"resample": resample, "mix_down": mix_down, "sampling_rate": sampling_rate}, {}))


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """Sampling rate, channels and length of an audio file; `samples` per channel."""

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
        rate, channels = file.sampling_rate, file.channels
        options = AudioOptions(resample=resample, mix_down=mix_down, sampling_rate=sampling_rate)
        options.check(path, rate, channels, channel)
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
    """Read sampling rate, channels and length of an audio file, in a fraction of the time that decoding takes.

    Only where nothing in the file tells its length all of it is decoded. The last samples are decoded, so that most
    truncated files are found. Raises AudioError.
    """
    path = Path(path)
    with _open(path) as file:
        if file.samples == 0:
            raise AudioError(path, "empty file", "there is no sample in it")
        if not file.is_whole and not file.is_sequential:
            last = min(2, file.samples)
            _read(path, file, file.samples - last, last)
        return AudioHeader(file.sampling_rate, file.channels, file.samples)


class _Decoder:
    """An audio file as one run of samples, whatever streams it is made of.

    samples: per channel; where a header does not say how many there are, all were decoded to count them.
    is_whole: whether all of them are known to be there.
    is_sequential: lossy formats, which are only read forward. After a jump their samples are not those of decoding
    from the start: MPEG and Opus decoders hear what came before, and libsndfile 1.2 misses by 128 samples in the last
    page of some Vorbis files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._layout = _examine(path)
        self.is_whole = self._layout.is_whole
        self._parts: list[soundfile.SoundFile] = []
        self._position = 0
        self._open()
        first = self._parts[0]
        self.sampling_rate, self.channels = first.samplerate, first.channels
        self.subtype: str = first.subtype
        self.is_sequential = bool(_LOSSY.search(self.subtype))
        for part in self._parts[1:]:
            if (part.samplerate, part.channels) != (self.sampling_rate, self.channels):
                detail = (f"begins with {self.sampling_rate} Hz and {self.channels} channels, goes on with "
                          f"{part.samplerate} Hz and {part.channels}")
                raise AudioError(path, "changes within", detail)
        self._lengths = [part.frames for part in self._parts]
        if not self._layout.is_counted:
            self._lengths = [sum(len(block) for block in _blocks(part)) for part in self._parts]
            self._open()
        self.samples = sum(self._lengths)
        size = path.stat().st_size
        if self.samples > _MOST_SAMPLES_A_BYTE * size:
            detail = f"{size} bytes cannot hold the {self.samples} samples that its header says"
            raise AudioError(path, "truncated", detail)

    def read(self, start: int, count: int) -> np.ndarray:
        """`(samples,)` or `(samples, channels)` in the file's scale, fewer than `count` where it ends before."""
        dtype = "int16" if self.subtype in _SIXTEEN_BIT_OR_LESS else "float32"
        pieces: list[np.ndarray] = []
        if self.is_sequential and not self._advance_to(start):
            count = 0
        begin = 0
        for part, length in zip(self._parts, self._lengths, strict=True):
            first, last = max(start, begin), min(start + count, begin + length)
            if first < last:
                if not self.is_sequential and (self._position or first != begin):
                    part.seek(first - begin)
                pieces += _read_blocks(part, last - first, dtype)
            begin += length
        self._position = start + sum(map(len, pieces))
        if not pieces:
            return np.zeros((0, self.channels) if self.channels > 1 else 0, dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []

    def _open(self) -> None:
        self.close()
        self._position = 0
        views = self._layout.views
        sources = [ViewReader(self.path, view) for view in views] if views else [str(self.path)]
        try:
            for source in sources:
                part = soundfile.SoundFile(source)
                self._parts.append(part)
                if _LOSSY.search(part.subtype):
                    # Else soundfile seeks after each read, and what is read next is as after a jump.
                    part._info.seekable = 0
        except (soundfile.SoundFileError, TypeError, ValueError, OSError) as error:
            self.close()
            raise AudioError(self.path, "not audio", "libsndfile cannot read it") from error

    def _advance_to(self, start: int) -> bool:
        """Decode up to `start`, from where the last read ended if that is before it; False where that fails."""
        if start < self._position:
            self._open()
        begin = 0
        for part, length in zip(self._parts, self._lengths, strict=True):
            last = min(start, begin + length)
            while self._position < last:
                block = part.read(min(_BLOCK, last - self._position))
                if not len(block):
                    return False
                self._position += len(block)
            begin += length
        return self._position == start


class _Kept(threading.local):
    """The decoder that a thread used last, where going on with it saves decoding a long file from its start."""

    decoder: _Decoder | None = None
    identity: tuple[object, ...] = ()


_kept = _Kept()


@contextmanager
def _open(path: Path) -> Iterator[_Decoder]:
    try:
        state = os.stat(path)
    except (OSError, ValueError) as error:
        raise AudioError(path, "missing file", "no such file") from error
    if not stat.S_ISREG(state.st_mode):
        raise AudioError(path, "missing file", "not a file")
    if not os.access(path, os.R_OK):
        raise AudioError(path, "no permission", "the file may not be read")
    if state.st_size == 0:
        raise AudioError(path, "empty file", "0 bytes")
    identity = (path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    decoder = _kept.decoder if _kept.identity == identity else None
    if decoder is None:
        decoder = _Decoder(path)
    is_kept = False
    try:
        yield decoder
        is_kept = decoder.is_sequential
    finally:
        if _kept.decoder is not None and (_kept.decoder is not decoder or not is_kept):
            _kept.decoder.close()
            _kept.decoder, _kept.identity = None, ()
        if is_kept:
            _kept.decoder, _kept.identity = decoder, identity
        else:
            decoder.close()


def _examine(path: Path) -> Layout:
    try:
        return examine(path)
    except ContainerFault as fault:
        raise AudioError(path, fault.reason, fault.detail) from fault
    except OSError as error:
        raise AudioError(path, "not audio", f"cannot be read ({error.strerror})") from error


def _read_blocks(part: soundfile.SoundFile, count: int, dtype: str) -> list[np.ndarray]:
    """Read `count` samples, in one block or, where they are very many, in several: a header's claim takes no memory."""
    if count <= _LARGE_BLOCK:
        return [part.read(count, dtype=dtype)]
    blocks = []
    while count > 0:
        blocks.append(part.read(min(_LARGE_BLOCK, count), dtype=dtype))
        count -= len(blocks[-1])
        if not len(blocks[-1]):
            break
    return blocks


def _blocks(part: soundfile.SoundFile) -> Iterator[np.ndarray]:
    try:
        while len(block := part.read(_BLOCK, dtype="float32")):
            yield block
    except soundfile.SoundFileError:
        return


def _read(path: Path, decoder: _Decoder, start: int, count: int | None) -> np.ndarray:
    """`(samples,)` or `(samples, channels)` in the scale of 16-bit samples."""
    expected = count if count is not None else decoder.samples - start
    try:
        samples = decoder.read(start, max(0, expected))
    except (soundfile.SoundFileError, ValueError) as error:
        detail = f"decoding fails at or after sample {start} of {decoder.samples}"
        raise AudioError(path, "truncated", detail) from error
    if expected - len(samples) > 1:  # one sample is what rounding seconds may cost
        detail = f"{len(samples)} samples from sample {start} on, expected {expected}"
        raise AudioError(path, "truncated", detail)
    is_exact = samples.dtype == np.int16
    samples = samples.astype(np.float32, copy=False)
    if is_exact:
        return samples
    if decoder.subtype in _FLOATS and not np.isfinite(samples).all():
        faults = np.flatnonzero(~np.isfinite(samples.reshape(len(samples), -1)).all(axis=1))
        detail = f"{len(faults)} samples are NaN or infinite, the first at {start + faults[0]}"
        raise AudioError(path, "not finite", detail)
    if _LOSSY.search(decoder.subtype):
        # Read as int16, Vorbis wraps around where it should clip.
        return np.clip(np.rint(samples * 32767.0), -32768.0, 32767.0)
    return np.clip(samples * 32768.0, -32768.0, 32767.0)
