"""Stages that make targets: monophone, triphone and speaker-adapted models, alignments."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr_kd.adaptation.network_scores import NetworkScores
from asr_kd.alignment.align import AlignConfig, ScoreSource, align_to_folder, gmm_score_source, matrix_score_source
from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.bootstrap.adapted_alignment import adapted_score_source
from asr_kd.bootstrap.lda_mllt import LdaMlltConfig, train_lda_mllt
from asr_kd.bootstrap.monophone import MonophoneConfig, train_monophone
from asr_kd.bootstrap.speaker_adaptive import SpeakerAdaptiveConfig, train_sat
from asr_kd.bootstrap.triphone import TriphoneConfig, train_triphone
from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import remove
from asr_kd.core.stages import StageContext
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import read_manifest
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.stages.networks import BUNDLE
from asr_kd.stages.prepare import LEXICON

TRANSFORMS = "transforms"


class MonophoneStageConfig(Config):
    """Lexicon and monophone training on one split."""

    split: Name = "train"
    lexicon: LexiconConfig = LexiconConfig()
    training: MonophoneConfig = MonophoneConfig()


class TriphoneStageConfig(Config):
    """Triphone training on one split."""

    split: Name = "train"
    training: TriphoneConfig = TriphoneConfig()


class LdaMlltStageConfig(Config):
    """Triphone training on spliced frames, LDA and MLLT, on one split."""

    split: Name = "train"
    training: LdaMlltConfig = LdaMlltConfig()


class SpeakerAdaptiveStageConfig(Config):
    """Speaker-adaptive training on one split."""

    split: Name = "train"
    training: SpeakerAdaptiveConfig = SpeakerAdaptiveConfig()


class AlignStageConfig(Config):
    """Forced alignment of one split; adapt: by Gaussians with transforms that a first alignment supervises, which are
    kept in `transforms/SPLIT`."""

    split: Name = "train"
    adapt: bool = False
    alignment: AlignConfig = AlignConfig()


def monophone(
    inputs: Mapping[str, Path], config: MonophoneStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """An HMM model with monophone GMMs."""
    store = FrameStore.open(inputs["features"] / config.split)
    lexicon = Lexicon.read(inputs["manifests"] / LEXICON, config.lexicon)
    transcripts = transcripts_of(inputs["manifests"], config.split, store)
    model = train_monophone(store, transcripts, lexicon, config.training, feature_recipe=store.recipe)
    model.save(output)
    return _size(model)


def triphone(
    inputs: Mapping[str, Path], config: TriphoneStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """An HMM model with a tied-state tree and triphone GMMs."""
    model, tree = train_triphone(*_aligned(inputs, config.split), config.training)
    model.save(output)
    return {**_size(model), "tree": asdict(tree)}


def lda_mllt(
    inputs: Mapping[str, Path], config: LdaMlltStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """An HMM model with triphone GMMs on spliced frames, LDA and MLLT."""
    model, tree = train_lda_mllt(*_aligned(inputs, config.split), config.training)
    model.save(output)
    return {**_size(model), "tree": asdict(tree)}


def speaker_adaptive(
    inputs: Mapping[str, Path], config: SpeakerAdaptiveStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A speaker-adapted HMM model and, in `transforms/SPLIT`, the transforms of the speakers that it was trained on."""
    model, transforms, tree = train_sat(*_aligned(inputs, config.split), config.training)
    model.save(output)
    transforms.save(output / TRANSFORMS / config.split)
    return {**_size(model), "tree": asdict(tree), "transforms": transforms.summary}


def align_split(
    inputs: Mapping[str, Path], config: AlignStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Transition-ids of every frame of a split, by a network's scores where there is one, else by the GMMs'.

    What does not align is counted and named with its score.
    """
    store = FrameStore.open(inputs["features"] / config.split)
    model = HmmModel.load(inputs["hmm"])
    transcripts = transcripts_of(inputs["manifests"], config.split, store)
    if config.adapt and ("network" in inputs or "transforms" in inputs):
        raise InputError("adapt is for Gaussians without transforms; leave network and transforms out")
    with one_torch_thread():
        if config.adapt:
            remove(context.work / "first")
            scores, transforms = adapted_score_source(model, store, transcripts, config.alignment,
                                                      context.work / "first")
        else:
            scores = _scores(inputs, config, model, store)
        _, drops = align_to_folder(output, model, scores, store.ids, transcripts, config.alignment)
    if config.adapt:
        transforms.save(output / TRANSFORMS / config.split)
    return drops.as_dict()


def transcripts_of(manifests: Path, split: str, store: FrameStore) -> dict[str, list[str]]:
    """The words of each utterance that has features."""
    present = set(store.ids)
    return {u.id: words_of(u.text) for u in read_manifest(manifests, split) if u.id in present}


def _scores(inputs: Mapping[str, Path], config: AlignStageConfig, model: HmmModel, store: FrameStore) -> ScoreSource:
    if "network" in inputs:
        if "transforms" in inputs:
            raise InputError("transforms are for Gaussians; a network hears features that were adapted before")
        scores = NetworkScores.open(inputs["network"] / BUNDLE, hmm_digest=model.digest, feature_recipe=store.recipe,
                                    adapters=inputs.get("adapters"))
        return matrix_score_source(model, scores.of(store), config.alignment)
    transforms = None
    if "transforms" in inputs:
        transforms = SpeakerTransforms.load(inputs["transforms"] / TRANSFORMS / config.split, model.gmm_digest)
    return gmm_score_source(model, store, config.alignment, transforms)


def _aligned(
    inputs: Mapping[str, Path], split: str
) -> tuple[FrameStore, AlignmentStore, dict[str, list[str]], HmmModel]:
    """Features, their alignments, the words, and the model that aligned them."""
    store = FrameStore.open(inputs["features"] / split)
    model = HmmModel.load(inputs["hmm"])
    alignments = AlignmentStore.open(inputs["alignments"], model)
    return store, alignments, transcripts_of(inputs["manifests"], split, store), model


def _size(model: HmmModel) -> dict[str, Any]:
    assert model.gmm is not None
    return {"pdfs": model.tree.num_pdfs, "transition_ids": model.transitions.num_transition_ids,
            "gaussians": model.gmm.num_gaussians}
