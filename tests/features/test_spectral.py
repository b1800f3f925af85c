from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.core.torchaudio_stub import import_torchaudio
from asr_kd.data.resampling import resample
from asr_kd.features.config import FeatureConfig, mfcc_config
from asr_kd.features.spectral import FeatureExtractor, lifted_dct


def speechlike(num_samples: int, seed: int = 0) -> np.ndarray:
    """Coloured noise with bursts, in 16-bit scale."""
    noise = np.random.default_rng(seed).standard_normal(num_samples + 200)
    smooth = np.convolve(noise, np.hanning(9), mode="same")[:num_samples]
    return np.round(1500 * smooth * (1.2 + np.sin(np.arange(num_samples) / 900))).astype(np.float32)


@pytest.mark.parametrize(
    "settings_",
    [
        {},
        {"num_mel_bins": 23, "low_freq": 100.0, "high_freq": 7000.0},
        {"use_energy": True, "snip_edges": False},
        {"window": "hamming", "preemphasis": 0.0, "remove_dc_offset": False},
        {"frame_length": 32.0, "frame_shift": 12.5, "window": "rectangular"},
        {"use_energy": True, "raw_energy": False, "energy_floor": 1e9},
        {"sampling_rate": 8000},
    ],
)
def test_filterbanks_agree_with_torchaudio(settings_: dict[str, object]) -> None:
    import torch

    import_torchaudio()
    from torchaudio.compliance import kaldi

    config = FeatureConfig(**settings_)
    samples = speechlike(12345)
    theirs = kaldi.fbank(
        torch.from_numpy(samples)[None], sample_frequency=config.sampling_rate, dither=0.0,
        frame_length=config.frame_length, frame_shift=config.frame_shift, num_mel_bins=config.num_mel_bins,
        low_freq=config.low_freq, high_freq=config.high_freq, use_energy=config.use_energy,
        raw_energy=config.raw_energy, energy_floor=config.energy_floor, snip_edges=config.snip_edges,
        window_type=config.window, preemphasis_coefficient=config.preemphasis,
        remove_dc_offset=config.remove_dc_offset,
    ).numpy()
    ours = FeatureExtractor(config)(samples)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 2e-3


def test_mfcc_agree_with_torchaudio() -> None:
    import torch

    import_torchaudio()
    from torchaudio.compliance import kaldi

    samples = speechlike(12345)
    theirs = kaldi.mfcc(torch.from_numpy(samples)[None], dither=0.0, num_ceps=13, num_mel_bins=23).numpy()
    assert np.abs(FeatureExtractor(mfcc_config())(samples) - theirs).max() < 5e-3


def test_resampling_agrees_with_torchaudio() -> None:
    import torch

    torchaudio = import_torchaudio()
    samples = speechlike(44100)
    theirs = torchaudio.functional.resample(torch.from_numpy(samples), 44100, 16000).numpy()
    ours = resample(samples, 44100, 16000)
    assert ours.shape == theirs.shape
    # torchaudio rounds the reach of the filter up to whole samples; Kaldi's weights there are next to nothing.
    assert np.abs(ours - theirs).max() < 1.0


def test_resampled_sine_is_the_sine_at_the_new_rate() -> None:
    for old, new in [(16000, 8000), (44100, 16000), (8000, 16000)]:
        ours = resample(np.sin(2 * np.pi * 440 * np.arange(old) / old), old, new)
        assert len(ours) == new
        expected = np.sin(2 * np.pi * 440 * np.arange(new) / new)
        assert np.abs(ours - expected)[50:-50].max() < 1e-3


@given(num_samples=st.integers(0, 3000), snip_edges=st.booleans())
@settings(max_examples=60, deadline=None)
def test_number_of_frames_follows_kaldis_rule(num_samples: int, snip_edges: bool) -> None:
    extractor = FeatureExtractor(FeatureConfig(snip_edges=snip_edges))
    frames = len(extractor(speechlike(num_samples)))
    assert frames == extractor.num_frames(num_samples)
    if snip_edges:
        assert frames == len(range(0, num_samples - 400 + 1, 160))
    else:
        assert frames == int(num_samples / 160 + 0.5)


@given(cut=st.integers(0, 900))
@settings(max_examples=30, deadline=None)
def test_a_frame_depends_on_its_own_samples_only(cut: int) -> None:
    extractor = FeatureExtractor(FeatureConfig())
    samples = speechlike(160 * 900 + 400)
    whole = extractor(samples)
    # Not to the bit: an FFT library may treat the frames of a block and its last ones differently.
    np.testing.assert_allclose(extractor(samples[160 * cut :]), whole[cut:], atol=1e-3)


def test_threads_may_share_an_extractor() -> None:
    extractor = FeatureExtractor(mfcc_config())
    recordings = [speechlike(16000 + 777 * i, seed=i) for i in range(12)]
    alone = [extractor(samples) for samples in recordings]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(extractor, recordings), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_dither_changes_the_features_but_the_same_audio_gives_the_same() -> None:
    samples = speechlike(8000)
    extractor = FeatureExtractor(FeatureConfig(dither=1.0))
    dithered = extractor(samples)
    assert np.abs(dithered - FeatureExtractor(FeatureConfig())(samples)).max() > 1e-4
    np.testing.assert_array_equal(extractor(samples), dithered)
    assert extractor(np.zeros(400, np.float32)).min() > -15


def test_dct_without_lifter_is_orthonormal() -> None:
    dct = lifted_dct(23, 23, 0.0).astype(np.float64)
    np.testing.assert_allclose(dct.T @ dct, np.eye(23), atol=1e-6)


def test_more_bins_than_the_spectrum_can_feed_are_refused() -> None:
    with pytest.raises(InputError, match="num_mel_bins 200: no FFT bin"):
        FeatureExtractor(FeatureConfig(num_mel_bins=200))
