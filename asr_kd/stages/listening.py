"""Listen to a set of speech before it is learnt from: silence, clipping, two speakers under one name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.data.audio import AudioError, AudioOptions, read_utterance
from asr_kd.data.audio_faults import audio_fault
from asr_kd.data.manifest import Utterance
from asr_kd.features.config import mfcc_config
from asr_kd.features.spectral import FeatureExtractor
from asr_kd.features.two_speakers import compare_one_with_two_speakers
from asr_kd.stages.speech_input import SpeechInput

logger = get_logger(__name__)

_SHOWN = 3


@dataclass(frozen=True)
class _Heard:
    """An utterance's fault, reason and detail, or else the cepstra of its louder half."""

    fault: tuple[str, str] | None
    cepstra: NDArray[np.float32] | None = None


def listen(given: SpeechInput, audio: AudioOptions, workers: int | None = None) -> tuple[SpeechInput, list[str]]:
    """Drop utterances of silence, of clipped samples and of audio that cannot be read; and warnings.

    A warning says which utterances under one name sound like two speakers. InputError where nothing is left.
    """
    heard = list(map_threads(lambda one: _hear(one, audio), given.utterances, workers, "listening"))
    kept: list[Utterance] = []
    cepstra: dict[str, list[tuple[str, NDArray[np.float32]]]] = {}
    for utterance, found in zip(given.utterances, heard, strict=True):
        if found.fault is not None:
            given.drops.drop(utterance.id, *found.fault)
            continue
        kept.append(utterance)
        if found.cepstra is not None:
            cepstra.setdefault(utterance.speaker, []).append((utterance.id, found.cepstra))
    if not kept:
        counts = ", ".join(f"{count} {reason}" for reason, count in given.drops.by_reason.items())
        raise InputError(f"there is no speech to adapt to: all utterances are dropped ({counts})")
    warnings = [warning for speaker, of_speaker in cepstra.items() if (warning := _two_speakers(speaker, of_speaker))]
    for warning in warnings:
        logger.warning(warning)
    return SpeechInput(kept, given.drops), warnings


def _hear(utterance: Utterance, audio: AudioOptions) -> _Heard:
    try:
        samples, rate = read_utterance(utterance, resample=audio.resample, mix_down=audio.mix_down)
    except AudioError as error:
        return _Heard((error.reason, error.detail))
    found = audio_fault(samples)
    if found is not None:
        return _Heard((found.split(" (")[0], found))
    extractor = FeatureExtractor(mfcc_config(sampling_rate=rate, normalisation="none"))
    if extractor.num_frames(len(samples)) < 2:
        return _Heard(None)
    cepstra = extractor(samples)
    return _Heard(None, cepstra[cepstra[:, 0] > np.median(cepstra[:, 0])])


def _two_speakers(speaker: str, utterances: Sequence[tuple[str, NDArray[np.float32]]]) -> str:
    """The warning that they sound like two speakers; an empty one where they do not."""
    found = compare_one_with_two_speakers([cepstra for _, cepstra in utterances])
    if found is None or found.evidence <= 0:
        return ""
    first, second = (_some([utterances[number][0] for number in group]) for group in found.groups)
    return (f"speaker {speaker}: {first} sound like another speaker than {second} (two Gaussians in place of one gain "
            f"{found.evidence:.2f} nats a frame, less the criterion's penalty)")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
