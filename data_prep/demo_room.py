"""The effect of a room and its noises on clean speech."""

from collections.abc import Mapping

import numpy as np

_EARLY_SECONDS = 0.004  # sound comes back no sooner: reflections travel 1.4 m farther


def make_room_response(
    generator: np.random.Generator, reverberation_time: float, direct_to_reverberant: float, sampling_rate: int
) -> np.ndarray:
    """Impulse response `(samples,)` float32: the direct sound, then exponentially decaying Gaussian noise.

    `reverberation_time` is T60 in seconds, `direct_to_reverberant` in dB. Polack 1988; Habets 2007, section 2.3.
    """
    time = np.arange(round(reverberation_time * sampling_rate)) / sampling_rate
    tail = generator.standard_normal(len(time)) * np.exp(-3 * np.log(10) * time / max(reverberation_time, 1e-3))
    tail[time < _EARLY_SECONDS] = 0
    energy = np.sum(tail**2)
    if energy > 0:
        tail *= np.sqrt(10 ** (-direct_to_reverberant / 10) / energy)
    return np.concatenate([[1.0], tail]).astype(np.float32)


def make_noises(
    generator: np.random.Generator, babble: list[np.ndarray], sampling_rate: int, seconds: float = 20.0
) -> dict[str, np.ndarray]:
    """Kind -> noise `(samples,)` float32 of root mean square 1: white, pink, and babble of the given voices."""
    length = round(seconds * sampling_rate)
    white = generator.standard_normal(length)
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), length)
    voices = np.zeros(length)
    for samples in babble:
        voices += np.roll(np.resize(samples, length), generator.integers(length))
    noises = {"white": white, "pink": pink}
    if babble:
        noises["babble"] = voices
    return {kind: (noise / np.sqrt(np.mean(noise**2))).astype(np.float32) for kind, noise in noises.items()}


def put_into_room(
    speech: np.ndarray,
    generator: np.random.Generator,
    response: np.ndarray,
    noises: Mapping[str, np.ndarray],
    snr_db: float,
    level_db: float,
) -> np.ndarray:
    """Reverberant, noisy speech `(samples,)` int16 out of clean `speech` `(samples,)`.

    `snr_db` over the whole utterance, `level_db` of the speech relative to full scale.
    """
    from scipy.signal import oaconvolve  # slow to import

    wet = oaconvolve(speech.astype(np.float32), response)[: len(speech)]
    loudness = np.sqrt(np.mean(wet**2)) + 1e-9
    noise = noises[str(generator.choice(sorted(noises)))]
    start = generator.integers(len(noise))
    noise = np.take(noise, np.arange(start, start + len(wet)), mode="wrap")
    mixed = wet / loudness + 10 ** (-snr_db / 20) * noise
    return np.clip(np.rint(mixed * 32768 * 10 ** (level_db / 20)), -32768, 32767).astype(np.int16)
