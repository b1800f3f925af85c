"""Monophone GMM training from a flat start (Kaldi's `train_mono.sh`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from asr_kd.alignment.align import build_graphs, utterance_ids
from asr_kd.alignment.viterbi import equal_alignment
from asr_kd.bootstrap.trainer import Trainer, TrainingConfig, num_frames
from asr_kd.core.errors import InputError
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import FeatureSource
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.lexicon.lexicon import Lexicon

# Where the flat start takes mean and variance from.
_SAMPLE = 10


class MonophoneConfig(TrainingConfig):
    """`train_mono.sh`; `num_utterances` is the number of shortest utterances to train on (0: all)."""

    deltas: bool = True
    num_utterances: int = Field(default=1000, ge=0)
    num_passes: int = Field(default=40, gt=0)
    realign_passes: list[int] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38]
    num_gaussians: int = Field(default=1000, gt=0)
    last_split_pass: int = Field(default=30, ge=0)
    boost_silence: float = Field(default=1.25, gt=0)
    initial_beam: float = Field(default=6.0, gt=0)
    initial_retry_beam: float = Field(default=24.0, gt=0)
    initial_min_gaussian_occupancy: float = Field(default=3.0, ge=0)


def train_monophone(
    features: FeatureSource,
    transcripts: Mapping[str, Sequence[str]],
    lexicon: Lexicon,
    config: MonophoneConfig | None = None,
    workers: int | None = None,
    feature_recipe: dict[str, Any] | None = None,
) -> HmmModel:
    """A monophone GMM from a flat start on the shortest utterances.

    `features`: id -> normalised cepstra `(frames, dim)`, deltas are added here; `transcripts`: id -> words. Words
    without pronunciation raise InputError unless `map_unknown`; too many utterances that do not align raise WorkError.
    `feature_recipe` is kept in the model.
    """
    config = config or MonophoneConfig()
    generator = np.random.default_rng(config.seed)
    ids = [u for u in utterance_ids(features) if u in transcripts]
    if not ids:
        raise InputError("no utterance has both features and a transcript")
    lexicon.word_ids({u: transcripts[u] for u in ids}, config.map_unknown)
    if config.num_utterances:
        ids = sorted(sorted(ids, key=lambda u: (num_frames(features, u), u))[: config.num_utterances])
    front_end = FrontEnd.deltas() if config.deltas else FrontEnd.identity()
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    transitions = TransitionModel.from_tree(topology, tree)
    gmm = _flat_gmm([front_end(features[u]) for u in ids[:_SAMPLE]], tree.num_pdfs)
    model = HmmModel(lexicon, topology, tree, transitions, gmm, feature_recipe, front_end)
    chosen = {u: transcripts[u] for u in ids}
    alignments = {}
    for utterance, graph in build_graphs(model, chosen, config.map_unknown).items():
        alignment = equal_alignment(graph, num_frames(features, utterance), generator)
        if alignment is not None:
            alignments[utterance] = alignment
    trainer = Trainer(model, features, chosen, alignments, config, "monophone", workers, generator)
    trainer.one_pass(tree.num_pdfs, config.gmm.model_copy(
        update={"min_gaussian_occupancy": config.initial_min_gaussian_occupancy}))
    trainer.passes(tree.num_pdfs, {1: (config.initial_beam, config.initial_retry_beam)})
    return trainer.model


def _flat_gmm(matrices: Sequence[np.ndarray], num_pdfs: int) -> DiagonalGmms:
    """Every pdf with the mean and variance of all these frames (`gmm-init-mono`)."""
    sample = np.concatenate(matrices).astype(np.float64)
    if len(sample) < 2:
        raise InputError(f"the first {_SAMPLE} utterances have less than two frames")
    return DiagonalGmms(np.arange(num_pdfs + 1), np.ones(num_pdfs), np.tile(sample.mean(0), (num_pdfs, 1)),
                        np.tile(np.maximum(sample.var(0), 1e-3), (num_pdfs, 1)))
