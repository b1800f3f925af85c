"""Stages that estimate speaker transforms without transcripts, and that write adapted features for networks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from asr_kd.bootstrap.fmllr import FmllrConfig, PdfPosteriors, estimate_fmllr
from asr_kd.core.config import AddedLater, Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import available_cores, map_threads, one_blas_thread
from asr_kd.core.stages import StageContext
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.features.adapted import AdaptedFeaturesConfig, write_adapted_features
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm_scores import gmm_inputs, gmm_scorer
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.posteriors import frame_posteriors
from asr_kd.stages.hmm import TRANSFORMS


class FirstPassConfig(Config):
    """A narrow search with the speaker-independent Gaussians, then `passes` - 1 more with the transforms so far."""

    splits: list[Name] = Field(["dev", "test"], min_length=1)
    search: SearchConfig = SearchConfig(beam=10.0, max_active=1500, lattice_beam=4.0)
    passes: int = Field(2, ge=1, le=5)
    fmllr: FmllrConfig = FmllrConfig()


class AdaptedStageConfig(Config):
    """The making and storing of adapted features.

    transforms_of: split -> the split that its speakers' transforms were estimated on, where that is another one; then
    only these splits are made.
    """

    features: AdaptedFeaturesConfig = AdaptedFeaturesConfig()
    transforms_of: Annotated[dict[Name, Name], AddedLater()] = {}


def first_pass(
    inputs: Mapping[str, Path], config: FirstPassConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """fMLLR transforms of each split's speakers from our own decoding (Kaldi's `decode_fmllr.sh`); no transcripts."""
    hmm = HmmModel.load(inputs["hmm"])
    graph = DecodingGraph.load(inputs["graph"], hmm.digest)
    summary: dict[str, Any] = {}
    for split in config.splits:
        store = FrameStore.open(inputs["features"] / split)
        transforms = first_pass_transforms(hmm, graph, store, config)
        transforms.save(output / TRANSFORMS / split)
        summary[split] = {"speakers": len(transforms.facts), "fallbacks": transforms.fallbacks}
    return summary


def first_pass_transforms(
    hmm: HmmModel, graph: DecodingGraph, store: FrameStore, config: FirstPassConfig, workers: int | None = None
) -> SpeakerTransforms:
    """One transform for each speaker of `store`, from lattice posteriors of the model's own decoding.

    Speakers are taken side by side; where they are fewer than `workers`, their utterances.
    """
    pdf_ids = hmm.transitions.pdf_ids
    few_speakers = len(set(store.speakers.values())) < (available_cores() if workers is None else workers)
    transforms: SpeakerTransforms | None = None
    for _ in range(config.passes):
        score = gmm_scorer(hmm, store, transforms)

        def posteriors(utterance: str) -> PdfPosteriors:
            lattice = decode(graph, score(utterance), config.search).lattice  # noqa: B023
            frames, transition_ids, values = frame_posteriors(lattice, config.search.acoustic_scale)
            return frames.astype(np.int64), pdf_ids[transition_ids], values

        of_utterance: Callable[[str], PdfPosteriors] = posteriors
        if few_speakers:
            with one_blas_thread():
                found = map_threads(posteriors, store.ids, workers, "first pass")
            of_utterance = dict(zip(store.ids, found, strict=True)).__getitem__
        transforms = estimate_fmllr(hmm, store, of_utterance, store.ids, config.fmllr, initial=transforms,
                                    supervision="first-pass", workers=workers)
    assert transforms is not None
    return transforms


def adapt_features(
    inputs: Mapping[str, Path], config: AdaptedStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A frame store for each split that one of the inputs has transforms of.

    Those of `train_transforms` may know transcripts; every other split's come from `transforms`.
    """
    hmm = HmmModel.load(inputs["hmm"])
    found: dict[str, Path] = {}
    for name in ("train_transforms", "transforms"):
        for folder in sorted((inputs[name] / TRANSFORMS).iterdir()) if name in inputs else []:
            if folder.name in found:
                raise InputError(f"{folder} and {found[folder.name]}: transforms of the same split; give one of them")
            found[folder.name] = folder
    unknown = sorted(set(config.transforms_of.values()) - set(found))
    if unknown:
        raise InputError(f"transforms_of: there are no transforms of {', '.join(unknown)}; there are those of "
                         f"{', '.join(found)}")
    if config.transforms_of:
        found = {split: found[source] for split, source in config.transforms_of.items()}
    summary: dict[str, Any] = {}
    for split, folder in found.items():
        transforms = SpeakerTransforms.load(folder, hmm.gmm_digest)
        store = FrameStore.open(inputs["features"] / split)
        adapted = write_adapted_features(store, gmm_inputs(hmm, store, transforms), hmm.gmm_digest,
                                         transforms.supervision, output / split, config.features)
        summary[split] = {"frames": adapted.num_frames, "supervision": adapted.supervision}
    return summary
