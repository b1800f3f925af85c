"""Equal to Kaldi's programs on every file of golden/kaldi, within the quantiles of its README."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.data.resampling import resample
from asr_kd.features.cmvn import CmvnStatistics
from asr_kd.features.config import FeatureConfig, mfcc_config
from asr_kd.features.deltas import add_deltas
from asr_kd.features.spectral import FeatureExtractor
from asr_kd.features.splice import splice
from tests.features.golden import quantiles, read_matrices, read_wav

# What the README grants: an exact implementation's distance to Kaldi's log-mel values, and to anything else.
LOG_MEL = {"max": 0.1, "99.9 %": 1.3e-3, "99 %": 2.5e-4, "median": 4e-6}
CEPSTRA = {"max": 0.1, "99.9 %": 5e-3, "99 %": 2.5e-3, "median": 3e-5}

# Kaldi squares in float32 before it sums in float64.
STATISTICS_RTOL = 2**-23

SPECTRAL = [
    ("fbank40", FeatureConfig(), LOG_MEL),
    ("fbank80", FeatureConfig(num_mel_bins=80), LOG_MEL),
    ("fbank40_energy", FeatureConfig(use_energy=True), LOG_MEL),
    ("fbank40_nosnip", FeatureConfig(snip_edges=False), LOG_MEL),
    ("fbank40_8k", FeatureConfig(sampling_rate=8000), LOG_MEL),
    ("mfcc13", mfcc_config(), CEPSTRA),
    ("mfcc13_energy", mfcc_config(use_energy=True), CEPSTRA),
    ("mfcc40_hires", mfcc_config(num_mel_bins=40, num_ceps=40, high_freq=-400.0), CEPSTRA),
    ("mfcc13_8k", mfcc_config(sampling_rate=8000), CEPSTRA),
]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "kaldi"


def assert_within(found: dict[str, float], allowed: dict[str, float]) -> None:
    assert all(found[name] <= allowed[name] for name in allowed), found


@pytest.mark.parametrize(("name", "config", "allowed"), SPECTRAL, ids=[case[0] for case in SPECTRAL])
def test_filterbanks_and_mfcc_are_kaldis(
    golden: Path, name: str, config: FeatureConfig, allowed: dict[str, float]
) -> None:
    extractor = FeatureExtractor(config)
    kaldis = read_matrices(golden, name)
    ours = {key: extractor(resample(read_wav(golden, key), 16000, config.sampling_rate)) for key in kaldis}
    assert_within(quantiles(ours, kaldis), allowed)


def test_digital_zeros_are_the_log_of_epsilon(golden: Path) -> None:
    kaldis = read_matrices(golden, "fbank40")["edge_zeros_clip"]
    zeros = np.flatnonzero((kaldis == kaldis.min()).all(axis=1))
    assert len(zeros) > 0
    ours = FeatureExtractor(FeatureConfig())(read_wav(golden, "edge_zeros_clip"))
    np.testing.assert_array_equal(ours[zeros], np.float32(-15.942385))


def test_deltas_are_kaldis(golden: Path) -> None:
    ours = {key: add_deltas(static) for key, static in read_matrices(golden, "mfcc13").items()}
    assert quantiles(ours, read_matrices(golden, "mfcc13_deltas"))["max"] < 2e-5


@pytest.mark.parametrize(("source", "statistics"), [("mfcc13", "mfcc13"), ("fbank40", "fbank40")])
def test_speaker_statistics_are_kaldis(golden: Path, source: str, statistics: str) -> None:
    features = read_matrices(golden, source)
    kaldis = read_matrices(golden, f"cmvn_spk_{statistics}")
    for speaker, ids in speakers_of(golden).items():
        ours = sum((CmvnStatistics.of(features[i]) for i in ids), CmvnStatistics.zero(features[ids[0]].shape[1]))
        np.testing.assert_allclose(ours.to_kaldi(), kaldis[speaker], rtol=STATISTICS_RTOL, atol=1e-6)


def test_utterance_statistics_are_kaldis(golden: Path) -> None:
    kaldis = read_matrices(golden, "cmvn_utt_mfcc13")
    for key, features in read_matrices(golden, "mfcc13").items():
        np.testing.assert_allclose(CmvnStatistics.of(features).to_kaldi(), kaldis[key], rtol=STATISTICS_RTOL, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "statistics", "result", "variance"),
    [
        ("mfcc13", "cmvn_spk_mfcc13", "mfcc13_cmn_spk", False),
        ("mfcc13", "cmvn_utt_mfcc13", "mfcc13_cmn_utt", False),
        ("mfcc13", "cmvn_spk_mfcc13", "mfcc13_cmvn_spk", True),
        ("mfcc13", "cmvn_utt_mfcc13", "mfcc13_cmvn_utt", True),
        ("fbank40", "cmvn_spk_fbank40", "fbank40_cmvn_spk", True),
    ],
)
def test_normalised_features_are_kaldis(
    golden: Path, source: str, statistics: str, result: str, variance: bool
) -> None:
    features, table = read_matrices(golden, source), read_matrices(golden, statistics)
    kaldis = read_matrices(golden, result)
    speaker_of = {i: speaker for speaker, ids in speakers_of(golden).items() for i in ids}
    ours = {}
    for key, matrix in features.items():
        found = CmvnStatistics.from_kaldi(table[key] if "_utt_" in statistics else table[speaker_of[key]])
        ours[key] = found.normalise(matrix, variance)
    if result == "mfcc13_cmvn_utt":  # The README leaves out the variance of a single frame.
        del ours["edge_oneframe"], kaldis["edge_oneframe"]
    # The float32 rounding of Kaldi's intermediate results.
    assert quantiles(ours, kaldis)["max"] < 1e-4


def test_spliced_features_are_kaldis(golden: Path) -> None:
    features = read_matrices(golden, "fbank40")
    kaldis = read_matrices(golden, "fbank40_first60_splice77")
    assert len(kaldis) == 3
    for key, matrix in kaldis.items():
        np.testing.assert_array_equal(splice(features[key][:60], 7, 7), matrix)


def test_the_whole_way_from_wav_to_normalised_cepstra_is_kaldis(golden: Path) -> None:
    kaldis = read_matrices(golden, "mfcc13_cmn_spk")
    extractor = FeatureExtractor(mfcc_config())
    ours = {}
    for ids in speakers_of(golden).values():
        made = {i: extractor(read_wav(golden, i)) for i in ids}
        statistics = sum((CmvnStatistics.of(m) for m in made.values()), CmvnStatistics.zero(13))
        ours.update({i: statistics.normalise(m, variance=False) for i, m in made.items()})
    assert_within(quantiles(ours, {key: kaldis[key] for key in ours}), CEPSTRA)


def speakers_of(golden: Path) -> dict[str, list[str]]:
    lines = (golden / "spk2utt").read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}
