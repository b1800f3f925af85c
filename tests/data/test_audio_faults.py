"""Silence and clipping are found, and speech is left alone."""

import numpy as np
import pytest

from asr_kd.data.audio_faults import audio_fault, clipped_share


def speech(seconds: float = 2.0) -> np.ndarray:
    """Noise whose loudness rises and falls as that of syllables, on the scale of 16 bits."""
    times = np.arange(int(16000 * seconds)) / 16000
    noise = np.random.default_rng(0).normal(size=len(times))
    return (1500 * noise * (1.1 + np.sin(2 * np.pi * 4 * times))).astype(np.float32)


def test_speech_has_no_fault() -> None:
    assert audio_fault(speech()) is None and clipped_share(speech()) == 0


@pytest.mark.parametrize("samples", [np.zeros(16000, np.float32), np.zeros(0, np.float32), 0.001 * speech()])
def test_silence_is_found(samples: np.ndarray) -> None:
    assert audio_fault(samples) == "silence"


def test_clipped_speech_is_found_at_any_level() -> None:
    samples = speech()
    clipped = np.clip(samples, -1500, 1500)
    assert str(audio_fault(clipped)).startswith("clipped")
    assert str(audio_fault(0.2 * clipped)).startswith("clipped")
