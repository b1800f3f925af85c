from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import Utterance, write_manifest
from asr_kd.data.resampling import resample
from asr_kd.features.cmvn import normalise_running
from asr_kd.features.config import LOG_MEL_MEAN, LOG_MEL_VARIANCE, FeatureConfig, mfcc_config
from asr_kd.features.deltas import add_deltas
from asr_kd.features.extract import extract_features, with_running_prior
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.spectral import FeatureExtractor
from asr_kd.stages.features import FeaturesConfig, extract

NORMALISED = FeatureConfig(store_dtype="float32")
RAW = FeatureConfig(normalisation="none", store_dtype="float32")


def make_utterance(
    folder: Path, name: str, speaker: str, samples: int = 4000, rate: int = 16000, channels: int = 1
) -> Utterance:
    noise = np.random.default_rng(len(name) + sum(map(ord, name))).standard_normal((samples, channels))
    path = folder / f"{name}.wav"
    soundfile.write(path, (3000 * noise).clip(-32768, 32767).astype(np.int16), rate, subtype="PCM_16")
    return Utterance(name, speaker, "", path, 0.0, samples / rate, rate, None if channels > 1 else 0, channels)


@pytest.fixture
def corpus(tmp_path: Path) -> list[Utterance]:
    """Speakers by turns, so that their order is not that of the ids."""
    (tmp_path / "audio").mkdir()
    return [make_utterance(tmp_path / "audio", f"u{i:02d}", f"s{i % 3}", 3000 + 300 * i) for i in range(20)]


@pytest.mark.parametrize("normalisation", ["none", "speaker", "utterance", "running"])
def test_the_store_is_the_same_for_any_number_of_workers(
    tmp_path: Path, corpus: list[Utterance], normalisation: str
) -> None:
    config = FeatureConfig(normalisation=normalisation, dither=0.5)
    contents = set()
    for workers in (1, 2, 5):
        drops = extract_features(corpus, config, tmp_path / "store", workers=workers)
        assert (drops.kept, drops.by_reason) == (20, {})
        contents.add(b"".join((tmp_path / "store" / name).read_bytes() for name in ("frames.bin", "index.json")))
    assert len(contents) == 1


def test_features_are_normalised_over_a_speakers_utterances(tmp_path: Path, corpus: list[Utterance]) -> None:
    extract_features(corpus, NORMALISED, tmp_path / "store")
    store = FrameStore.open(tmp_path / "store")
    assert store.recipe == NORMALISED.recipe() and store.dim == 40
    assert sorted(store.ids) == [u.id for u in corpus]
    assert [store.speakers[i] for i in store.ids] == sorted(u.speaker for u in corpus)
    for speaker in ("s0", "s1", "s2"):
        frames = np.concatenate([store[i] for i in store.ids if store.speakers[i] == speaker])
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-5)
        assert np.abs(store[next(i for i in store.ids if store.speakers[i] == speaker)].mean(axis=0)).max() > 1e-3


def test_other_normalisations_are_what_they_say(tmp_path: Path, corpus: list[Utterance]) -> None:
    stores = {}
    for normalisation in ("none", "utterance", "running"):
        config = FeatureConfig(normalisation=normalisation, store_dtype="float32")
        extract_features(corpus, config, tmp_path / normalisation)
        stores[normalisation] = FrameStore.open(tmp_path / normalisation)
    for utterance in corpus:
        samples = soundfile.read(utterance.audio, dtype="int16")[0].astype(np.float32)
        raw = FeatureExtractor(RAW)(samples)
        np.testing.assert_array_equal(stores["none"][utterance.id], raw)
        assert np.abs(stores["utterance"][utterance.id].mean(axis=0)).max() < 1e-5
        expected = normalise_running(raw, np.full(40, LOG_MEL_MEAN), np.full(40, LOG_MEL_VARIANCE))
        np.testing.assert_allclose(stores["running"][utterance.id], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
def test_a_running_prior_is_that_of_all_frames(tmp_path: Path, corpus: list[Utterance], kind: Literal["fbank", "mfcc"]
                                               ) -> None:
    config = FeatureConfig(kind=kind, normalisation="running", store_dtype="float32")
    extract_features(corpus, config.model_copy(update={"normalisation": "none"}), tmp_path / "raw")
    raw = FrameStore.open(tmp_path / "raw")
    frames = np.concatenate([raw[utterance.id] for utterance in corpus])
    found = with_running_prior(corpus, config, workers=2)
    np.testing.assert_allclose(found.running_prior_mean, frames.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(found.running_prior_variance, frames.var(axis=0), rtol=1e-3)
    assert found == with_running_prior(corpus, config, workers=1)
    assert found.recipe() == config.recipe() | {
        "running_prior_mean": found.running_prior_mean, "running_prior_variance": found.running_prior_variance}


def test_a_running_prior_leaves_faulty_audio_out(corpus: list[Utterance]) -> None:
    config = FeatureConfig(normalisation="running")
    without_first = with_running_prior(corpus[1:], config)
    corpus[0].audio.unlink()
    assert with_running_prior(corpus, config) == without_first
    with pytest.raises(InputError, match="no utterance has a frame"):
        with_running_prior(corpus[:1], config)


def test_a_features_stage_computes_the_prior_of_its_split(tmp_path: Path, corpus: list[Utterance]) -> None:
    for split, utterances in (("train", corpus), ("dev", corpus[:2])):
        write_manifest(tmp_path / "manifests", split, utterances)
    running = FeatureConfig(normalisation="running")
    context = StageContext("fbank", 0, None, tmp_path / "work", "run", "asr-kd run")
    for prior_split, utterances in (("train", corpus), ("dev", corpus[:2])):
        output = tmp_path / f"prior-of-{prior_split}"
        extract({"manifests": tmp_path / "manifests"}, FeaturesConfig(features=running, prior_split=prior_split),
                output, context)
        expected = with_running_prior(utterances, running).recipe()
        assert FrameStore.open(output / "train").recipe == FrameStore.open(output / "dev").recipe == expected


def test_running_cepstra_without_a_prior_are_refused(tmp_path: Path, corpus: list[Utterance]) -> None:
    with pytest.raises(InputError, match="needs running_prior_mean"):
        extract_features(corpus, FeatureConfig(kind="mfcc", normalisation="running"), tmp_path / "store")


def test_deltas_follow_normalisation(tmp_path: Path, corpus: list[Utterance]) -> None:
    extract_features(corpus, mfcc_config(), tmp_path / "static")
    extract_features(corpus, mfcc_config(deltas=2), tmp_path / "deltas")
    static, deltas = FrameStore.open(tmp_path / "static"), FrameStore.open(tmp_path / "deltas")
    assert (static.dim, deltas.dim) == (13, 39)
    for utterance in corpus:
        np.testing.assert_array_equal(deltas[utterance.id], add_deltas(static[utterance.id]))


FAULTS: dict[str, Callable[[Utterance], object]] = {
    "missing file": lambda utterance: utterance.audio.unlink(),
    "empty file": lambda utterance: utterance.audio.write_bytes(b""),
    "not audio": lambda utterance: utterance.audio.write_text("this is no audio at all, it only has the name"),
    "truncated": lambda utterance: utterance.audio.write_bytes(utterance.audio.read_bytes()[:-2000]),
    "too short": lambda utterance: make_utterance(utterance.audio.parent, utterance.id, "s", 399),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_faulty_utterance_is_dropped_counted_and_named(
    tmp_path: Path, corpus: list[Utterance], reason: str
) -> None:
    FAULTS[reason](corpus[3])
    if reason == "too short":
        corpus[3] = Utterance("u03", "s0", "", corpus[3].audio, 0.0, 399 / 16000, 16000)
    drops = extract_features(corpus, NORMALISED, tmp_path / "store")
    assert (drops.total, drops.kept, drops.by_reason) == (20, 19, {reason: 1})
    assert drops.reasons[reason][0][0] == "u03"
    assert "u03" not in FrameStore.open(tmp_path / "store")


def test_audio_that_is_not_a_number_is_dropped(tmp_path: Path, corpus: list[Utterance]) -> None:
    samples = np.zeros(4000, np.float32)
    samples[2000] = np.nan
    soundfile.write(corpus[0].audio, samples, 16000, subtype="FLOAT")
    corpus[0] = Utterance("u00", "s0", "", corpus[0].audio, 0.0, 0.25, 16000)
    assert extract_features(corpus, NORMALISED, tmp_path / "store").by_reason == {"not finite": 1}


def test_above_the_cap_nothing_is_written_and_the_dominant_reason_is_named(
    tmp_path: Path, corpus: list[Utterance]
) -> None:
    for utterance in corpus[:2]:
        utterance.audio.unlink()
    with pytest.raises(WorkError, match="2 of 20 utterances dropped.*missing file, for example u00"):
        extract_features(corpus, NORMALISED, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["audio"]
    assert extract_features(corpus, NORMALISED, tmp_path / "store", max_dropped=0.1).kept == 18


def test_stereo_and_other_sampling_rates_are_used_only_when_asked_for(tmp_path: Path) -> None:
    stereo = [make_utterance(tmp_path, f"u{i}", "s", 22050, 44100, 2) for i in range(2)]
    for options, reason in [({}, "sampling rate"), ({"resample": True}, "channels")]:
        with pytest.raises(WorkError, match=reason):
            extract_features(stereo, RAW, tmp_path / "store", **options)
    extract_features(stereo, RAW, tmp_path / "store", mix_down=True, resample=True)
    samples = soundfile.read(stereo[0].audio, dtype="int16")[0].astype(np.float32).mean(axis=1)
    expected = FeatureExtractor(RAW)(resample(samples, 44100, 16000))
    np.testing.assert_array_equal(FrameStore.open(tmp_path / "store")["u0"], expected)


def test_no_utterances_and_ids_given_twice_are_refused_before_any_work(
    tmp_path: Path, corpus: list[Utterance]
) -> None:
    with pytest.raises(InputError, match="no utterances"):
        extract_features([], NORMALISED, tmp_path / "store")
    with pytest.raises(InputError, match="utterance u00 occurs twice"):
        extract_features([*corpus, corpus[0]], NORMALISED, tmp_path / "store")
    assert not (tmp_path / "store").exists()
