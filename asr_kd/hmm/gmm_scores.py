"""The inputs of a model's Gaussians for an utterance, and their scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.model import HmmModel

if TYPE_CHECKING:
    from asr_kd.features.frame_store import FrameStore

FeatureSource: TypeAlias = "Mapping[str, np.ndarray] | FrameStore"


class Inputs(Protocol):
    """Utterance id -> `(frames, dim)` float32; KeyError where there are no features of it."""

    def __call__(self, utterance: str) -> np.ndarray: ...


class Scorer(Protocol):
    """Utterance id -> log p(frame | pdf), unscaled, `(frames, pdfs)` float32; `pdfs` may choose some pdfs."""

    def __call__(self, utterance: str, pdfs: np.ndarray | None = None) -> np.ndarray: ...


def gmm_inputs(model: HmmModel, features: FeatureSource, transforms: SpeakerTransforms | None = None,
               speakers: Mapping[str, str] | None = None) -> Inputs:
    """The model's front end, then each speaker's transform where `transforms` are given.

    `speakers`: utterance id -> speaker, needed with transforms where `features` is no frame store. InputError where
    the transforms were estimated for other Gaussians, or the dimensions differ.
    """
    gmm = gmm_for(model, transforms)
    front_end = model.front_end
    known = speakers_of(features, speakers) if transforms is not None else {}

    def inputs(utterance: str) -> np.ndarray:
        if utterance not in features:
            raise KeyError(utterance)
        base = features[utterance]
        try:
            matrix = front_end(base)
        except ValueError as error:
            raise InputError(f"{utterance}: {error}; extract the features that the model was trained on") from error
        if matrix.shape[1] != gmm.dim:
            raise InputError(f"{utterance}: features of shape {base.shape} give {matrix.shape[1]} values a frame, the "
                             f"Gaussians of {model.name} have {gmm.dim}; extract what the model was trained on")
        return matrix if transforms is None else transforms.apply(matrix, known[utterance])

    return inputs


def gmm_scorer(model: HmmModel, features: FeatureSource, transforms: SpeakerTransforms | None = None,
               speakers: Mapping[str, str] | None = None) -> Scorer:
    """Scores by the model's Gaussians; a speaker-adapted model without transforms by its speaker-independent ones."""
    gmm = gmm_for(model, transforms)
    inputs = gmm_inputs(model, features, transforms, speakers)

    def score(utterance: str, pdfs: np.ndarray | None = None) -> np.ndarray:
        return gmm.log_likelihoods(inputs(utterance), pdfs)

    return score


def gmm_for(model: HmmModel, transforms: SpeakerTransforms | None) -> DiagonalGmms:
    """The Gaussians that score adapted (with `transforms`) or unadapted features. InputError where there are none."""
    if model.gmm is None:
        raise InputError(f"the model {model.name} has no Gaussians; train some, or give log-likelihoods instead")
    if transforms is not None:
        transforms.check_gmm(model.gmm_digest)
        return model.gmm
    return model.gmm if model.speaker_independent_gmm is None else model.speaker_independent_gmm


def speakers_of(features: FeatureSource, speakers: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Utterance id -> speaker. InputError where nothing says whose the utterances are."""
    if speakers is not None:
        return speakers
    if isinstance(features, Mapping):
        raise InputError("features without speakers; say whose the utterances are")
    return features.speakers
