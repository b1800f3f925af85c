"""From utterances to a frame store, over all cores."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.data.audio import AudioError, read_utterance
from asr_kd.data.manifest import Utterance
from asr_kd.features.cmvn import CmvnStatistics, normalise_running
from asr_kd.features.config import LOG_MEL_MEAN, LOG_MEL_VARIANCE, FeatureConfig
from asr_kd.features.deltas import add_deltas
from asr_kd.features.frame_store import FrameStoreWriter
from asr_kd.features.spectral import FeatureExtractor

logger = get_logger(__name__)


def extract_features(
    utterances: Sequence[Utterance], config: FeatureConfig, folder: Path, *, workers: int | None = None,
    mix_down: bool = False, resample: bool = False, max_dropped: float = 0.05,
) -> Drops:
    """Compute the features of `utterances` as `config` says and write them as a frame store to `folder`.

    Utterances stand in the store by speaker, a speaker's in the order given; per-speaker statistics are over
    all of them. `mix_down` averages several channels, `resample` converts other sampling rates (as Kaldi does).
    An utterance with faulty audio, or shorter than a frame, is dropped, and counted by reason; more than the share
    `max_dropped` raises WorkError, no utterances or an id that occurs twice InputError.

    `workers` threads (default: all cores): decoding and every kernel release the interpreter lock, which
    scales as processes do and needs no copying. The bytes of the store do not depend on their number.
    """
    ordered = sorted(utterances, key=lambda utterance: utterance.speaker)
    _check_ids(ordered)
    if config.normalisation == "running" and config.kind == "mfcc" and not config.running_prior_mean:
        raise InputError("running normalisation of mfcc needs running_prior_mean and running_prior_variance; a "
                         "features stage computes them from its prior_split")
    extractor = FeatureExtractor(config)
    drops = Drops(len(ordered), cap=max_dropped)

    def compute(utterance: Utterance) -> np.ndarray | tuple[str, str]:
        try:
            return _features_of(utterance, extractor, mix_down, resample)
        except AudioError as error:
            return error.reason, error.detail

    results = map_threads(compute, ordered, workers, "features")
    with FrameStoreWriter(folder, config.dim, config.store_dtype, config.recipe()) as writer:
        pairs = zip(ordered, results, strict=True)
        # Only per-speaker statistics need a speaker's utterances together in memory.
        together = attrgetter("speaker" if config.normalisation == "speaker" else "id")
        for _, group in groupby(pairs, key=lambda pair: together(pair[0])):
            kept = []
            for utterance, result in group:
                if isinstance(result, tuple):
                    drops.drop(utterance.id, *result)
                    logger.info("utterance %s dropped: %s (%s)", utterance.id, *result)
                else:
                    kept.append((utterance, result))
            for utterance, matrix in _normalised(kept, config):
                writer.add(utterance.id, utterance.speaker, matrix, utterance.source, utterance.speed)
        drops.check()
    return drops


def with_running_prior(
    utterances: Sequence[Utterance], config: FeatureConfig, *, workers: int | None = None,
    mix_down: bool = False, resample: bool = False,
) -> FeatureConfig:
    """Return `config` with the mean and variance over all frames of `utterances` as running normalisation's prior.

    Both are rounded to four decimals. Utterances of faulty audio or without a frame do not count; InputError where
    none is left. The prior does not depend on the number of `workers`.
    """
    extractor = FeatureExtractor(config.model_copy(update={"normalisation": "none"}))

    def statistics_of(utterance: Utterance) -> CmvnStatistics | None:
        try:
            features = _features_of(utterance, extractor, mix_down, resample)
        except AudioError:
            return None
        return None if isinstance(features, tuple) else CmvnStatistics.of(features)

    total = CmvnStatistics.zero(config.static_dim)
    for statistics in map_threads(statistics_of, utterances, workers, "prior of the running mean"):
        total = total if statistics is None else total + statistics
    if total.count == 0:
        raise InputError("no utterance has a frame to compute the running normalisation's prior from")
    # A column that does not vary keeps a variance that settings may hold.
    prior = {"running_prior_mean": total.mean, "running_prior_variance": np.maximum(total.variance, 1e-4)}
    return config.model_copy(update={name: [round(float(v), 4) for v in values] for name, values in prior.items()})


def normalise_utterance(features: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Normalise by this utterance's `(frames, dim)` alone, as `config` asks: per utterance or running."""
    if config.normalisation == "utterance":
        return CmvnStatistics.of(features).normalise(features, config.normalise_variance)
    if config.normalisation == "running":
        mean, variance, window, prior_frames, with_variance = running_settings(config)
        return normalise_running(features, mean, variance, window=window, prior_frames=prior_frames,
                                 variance=with_variance)
    return features


def running_settings(config: FeatureConfig) -> tuple[np.ndarray, np.ndarray, int, int, bool]:
    """Prior mean and variance `(static_dim,)`, window, frames of the prior, and whether the variance is normalised."""
    return (np.array(config.running_prior_mean or [LOG_MEL_MEAN] * config.static_dim),
            np.array(config.running_prior_variance or [LOG_MEL_VARIANCE] * config.static_dim),
            config.running_window, config.running_prior_frames, config.normalise_variance)


def _features_of(
    utterance: Utterance, extractor: FeatureExtractor, mix_down: bool, resample: bool
) -> np.ndarray | tuple[str, str]:
    config = extractor.config
    samples, _ = read_utterance(
        utterance, sampling_rate=config.sampling_rate, mix_down=mix_down, resample=resample
    )
    features = extractor(samples)
    if len(features) == 0:
        return "too short", f"{len(samples)} samples, a frame has {config.window_size}"
    if not np.isfinite(features).all():
        return "not finite", "the audio holds values that are not numbers"
    return normalise_utterance(features, config)


def _normalised(
    kept: list[tuple[Utterance, np.ndarray]], config: FeatureConfig
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """One speaker's utterances, normalised over all of them where the config says so, with deltas."""
    statistics = CmvnStatistics.zero(config.static_dim)
    if config.normalisation == "speaker":
        for _, matrix in kept:
            statistics += CmvnStatistics.of(matrix)
    for utterance, matrix in kept:
        if config.normalisation == "speaker":
            matrix = statistics.normalise(matrix, config.normalise_variance)
        yield utterance, add_deltas(matrix, config.deltas) if config.deltas else matrix


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise InputError("no utterances to compute features of")
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise InputError(f"utterance {utterance.id} occurs twice; ids must be unique")
        seen.add(utterance.id)
