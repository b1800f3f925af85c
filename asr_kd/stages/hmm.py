"""Stages that make targets: monophone and triphone models, alignments."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr_kd.bootstrap.monophone import MonophoneConfig, train_monophone
from asr_kd.bootstrap.triphone import TriphoneConfig, train_triphone
from asr_kd.core.config import Config, Name
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.align import AlignConfig, align
from asr_kd.hmm.alignment_store import AlignmentStore, write_alignments
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
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


class AlignStageConfig(Config):
    """Forced alignment of one split."""

    split: Name = "train"
    alignment: AlignConfig = AlignConfig()


def monophone(
    inputs: Mapping[str, Path], config: MonophoneStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """An HMM model with monophone GMMs."""
    store = FrameStore.open(inputs["features"] / config.split)
    lexicon = Lexicon.read(inputs["manifests"] / LEXICON, config.lexicon)
    transcripts = _transcripts(inputs["manifests"], config.split, store)
    model = train_monophone(store, transcripts, lexicon, config.training, feature_recipe=store.recipe)
    model.save(output)
    return _size(model)


def triphone(
    inputs: Mapping[str, Path], config: TriphoneStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """An HMM model with a tied-state tree and triphone GMMs."""
    store = FrameStore.open(inputs["features"] / config.split)
    mono = HmmModel.load(inputs["hmm"])
    alignments = AlignmentStore.open(inputs["alignments"], mono)
    transcripts = _transcripts(inputs["manifests"], config.split, store)
    model, tree = train_triphone(store, alignments, transcripts, mono, config.training)
    model.save(output)
    return {**_size(model), "tree": asdict(tree)}


def align_split(
    inputs: Mapping[str, Path], config: AlignStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Transition-ids of every frame of a split; what does not align is counted and named."""
    store = FrameStore.open(inputs["features"] / config.split)
    model = HmmModel.load(inputs["hmm"])
    transcripts = _transcripts(inputs["manifests"], config.split, store)
    alignments, drops = align(model, store, transcripts, config.alignment)
    write_alignments(output, alignments, model, drops.as_dict())
    return drops.as_dict()


def _size(model: HmmModel) -> dict[str, Any]:
    assert model.gmm is not None
    return {"pdfs": model.tree.num_pdfs, "transition_ids": model.transitions.num_transition_ids,
            "gaussians": model.gmm.num_gaussians}


def _transcripts(manifests: Path, split: str, store: FrameStore) -> dict[str, list[str]]:
    """The words of each utterance that has features."""
    present = set(store.ids)
    return {u.id: u.text.split() for u in read_manifest(manifests, split) if u.id in present}
