"""Monophone and triphone GMM training from a flat start (Kaldi's `train_mono.sh` and `train_deltas.sh`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from asr_kd.bootstrap.gmm_training import AlignedFrames, GmmConfig, accumulate, split, update
from asr_kd.bootstrap.questions import phone_questions
from asr_kd.bootstrap.tree_growing import TreeConfig, TreeReport, grow_tree
from asr_kd.bootstrap.tree_statistics import accumulate_tree_statistics
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.log import get_logger
from asr_kd.core.progress import progress
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.align import (
    AlignConfig,
    Alignments,
    align_graphs,
    build_graphs,
    silence_boost,
    utterance_ids,
)
from asr_kd.hmm.alignment_store import AlignmentStore
from asr_kd.hmm.boundaries import AlignmentConverter
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import FeatureSource
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.topology import standard_topology
from asr_kd.hmm.training_graph import TrainingGraph
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import monophone_tree
from asr_kd.hmm.viterbi import equal_alignment
from asr_kd.lexicon.lexicon import Lexicon

logger = get_logger(__name__)


class TrainingConfig(Config):
    """What both trainings share; `beam` and the like as in AlignConfig. `deltas`: whether to add them here."""

    deltas: bool = True
    last_split_pass: int = Field(default=30, ge=0)
    beam: float = Field(default=10.0, gt=0)
    retry_beam: float = Field(default=40.0, gt=0)
    boost_silence: float = Field(default=1.25, gt=0)
    acoustic_scale: float = Field(default=0.1, gt=0)
    transition_scale: float = Field(default=1.0, ge=0)
    self_loop_scale: float = Field(default=0.1, ge=0)
    map_unknown: bool = False
    gmm: GmmConfig = GmmConfig()
    seed: int = 0


class MonophoneConfig(TrainingConfig):
    """`train_mono.sh`; `num_utterances` is the number of shortest utterances to train on (0: all)."""

    num_utterances: int = Field(default=1000, ge=0)
    num_passes: int = Field(default=40, gt=0)
    realign_passes: list[int] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38]
    num_gaussians: int = Field(default=1000, gt=0)
    initial_beam: float = Field(default=6.0, gt=0)
    initial_retry_beam: float = Field(default=24.0, gt=0)
    initial_min_gaussian_occupancy: float = Field(default=3.0, ge=0)


class TriphoneConfig(TrainingConfig):
    """`train_deltas.sh`."""

    num_passes: int = Field(default=35, gt=0)
    realign_passes: list[int] = [10, 20, 30]
    num_gaussians: int = Field(default=9000, gt=0)
    last_split_pass: int = Field(default=25, ge=0)
    tree: TreeConfig = TreeConfig()


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
    without pronunciation raise InputError unless `map_unknown`. `feature_recipe` is kept in the model.
    """
    config = config or MonophoneConfig()
    generator = np.random.default_rng(config.seed)
    ids = [u for u in utterance_ids(features) if u in transcripts]
    if not ids:
        raise InputError("no utterance has both features and a transcript")
    lexicon.word_ids({u: transcripts[u] for u in ids}, config.map_unknown)
    if config.num_utterances:
        ids = sorted(sorted(ids, key=lambda u: (len(features[u]), u))[: config.num_utterances])
    front_end = FrontEnd.deltas() if config.deltas else FrontEnd.identity()
    data = _Frames(features, ids, front_end)
    topology = standard_topology(lexicon.phones)
    tree = monophone_tree(lexicon.phones, topology)
    transitions = TransitionModel.from_tree(topology, tree)
    model = HmmModel(lexicon, topology, tree, transitions, _flat_gmm(data, tree.num_pdfs), feature_recipe, front_end)
    graphs = build_graphs(model, {u: transcripts[u] for u in ids}, config.map_unknown)
    alignments = {}
    for utterance, graph in graphs.items():
        alignment = equal_alignment(graph, len(data.features[utterance]), generator)
        if alignment is not None:
            alignments[utterance] = alignment
    trainer = _Trainer(model, data, graphs, alignments, config, generator, workers)
    trainer.one_pass(tree.num_pdfs, config.gmm.model_copy(
        update={"min_gaussian_occupancy": config.initial_min_gaussian_occupancy}))
    beams = {1: (config.initial_beam, config.initial_retry_beam)}
    trainer.passes(config.num_passes, config.realign_passes, tree.num_pdfs, config.num_gaussians, "monophone", beams)
    return trainer.model


def train_triphone(
    features: FeatureSource,
    alignments: Mapping[str, np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    model: HmmModel,
    config: TriphoneConfig | None = None,
    workers: int | None = None,
) -> tuple[HmmModel, TreeReport]:
    """A triphone GMM with a tree grown from `alignments` (transition-ids of `model`), and how the tree grew.

    `features` as for `train_monophone`; utterances without alignment are left out. InputError where an alignment
    store is of another model, or where lengths differ.
    """
    config = config or TriphoneConfig()
    if isinstance(alignments, AlignmentStore) and alignments.model_digest != model.digest:
        raise InputError(f"{alignments.folder}: aligned with the model {alignments.model_digest[:8]}, not with "
                         f"{model.name}; align again with this one")
    generator = np.random.default_rng(config.seed)
    ids = [u for u in utterance_ids(features) if u in alignments and u in transcripts]
    if not ids:
        raise InputError("no utterance has features, a transcript and an alignment")
    front_end = FrontEnd.deltas() if config.deltas else FrontEnd.identity()
    data = _Frames(features, ids, front_end)
    for utterance in ids:
        if len(alignments[utterance]) != len(data.features[utterance]):
            raise InputError(f"{utterance}: {len(alignments[utterance])} frames aligned, "
                             f"{len(data.features[utterance])} frames of features; align these features again")
    phones, topology = model.phones, model.topology
    statistics = accumulate_tree_statistics(data.features, {u: alignments[u] for u in ids}, model.transitions, phones)
    questions = phone_questions(phones, statistics, config.tree.variance_floor, generator)
    tree, sums, report = grow_tree(statistics, phones, topology, questions, config.tree)
    logger.info("tree: %d leaves, gain %.4f per frame; clustering %+.4f; %d pdfs, %d seen", report.leaves_split,
                report.gain_per_frame, report.clustering_change_per_frame, report.num_pdfs, report.num_seen_pdfs)
    transitions = TransitionModel.from_tree(topology, tree)
    gmm = _gmm_of_statistics(sums, config.tree.variance_floor)
    initial = max(config.tree.num_leaves, tree.num_pdfs)
    gmm = split(gmm, sums[:, 0], min(initial, config.num_gaussians), config.gmm, generator)
    triphone = replace(model, tree=tree, transitions=transitions, gmm=gmm, front_end=front_end)
    convert = AlignmentConverter(model.transitions, tree, transitions)
    graphs = build_graphs(triphone, {u: transcripts[u] for u in ids}, config.map_unknown)
    trainer = _Trainer(triphone, data, graphs, {u: convert(alignments[u]) for u in ids}, config, generator, workers)
    trainer.passes(config.num_passes, config.realign_passes, initial, config.num_gaussians, "triphone")
    return trainer.model, report


@dataclass
class _Frames:
    """All frames, with deltas, in one matrix; `features` are views of it."""

    frames: np.ndarray
    features: dict[str, np.ndarray]

    def __init__(self, features: FeatureSource, ids: Sequence[str], front_end: FrontEnd) -> None:
        dim = front_end.out_dim(features[ids[0]].shape[1])
        self.frames = np.empty((sum(len(features[u]) for u in ids), dim), dtype=np.float32)
        self.features = {}
        begin = 0
        for utterance in ids:
            matrix = features[utterance]
            if not np.isfinite(matrix).all():
                raise InputError(f"{utterance}: features that are not finite; extract them again")
            self.features[utterance] = self.frames[begin : begin + len(matrix)]
            self.features[utterance][:] = front_end(matrix)
            begin += len(matrix)


class _Trainer:
    """Passes of realignment, accumulation, update and splitting."""

    def __init__(self, model: HmmModel, data: _Frames, graphs: Mapping[str, TrainingGraph], alignments: Alignments,
                 config: TrainingConfig, generator: np.random.Generator, workers: int | None) -> None:
        self.model = model
        self._data = data
        self._graphs = graphs
        self._config = config
        self._generator = generator
        self._workers = workers
        self._set_alignments(alignments)

    def passes(self, num_passes: int, realign: Sequence[int], initial: int, final: int, name: str,
               beams: Mapping[int, tuple[float, float]] | None = None) -> None:
        """Passes 1 to `num_passes` - 1; the number of Gaussians grows evenly until `last_split_pass`."""
        config = self._config
        increment = max(0, final - initial) // max(1, config.last_split_pass)
        for number in progress(range(1, num_passes), num_passes - 1, name, "pass"):
            if number in realign:
                self._realign(*(beams or {}).get(number, (config.beam, config.retry_beam)))
            target = initial + increment * min(number - 1, config.last_split_pass)
            log_likelihood = self.one_pass(target, config.gmm)
            logger.info("%s pass %d: %d Gaussians, log-likelihood %.4f per frame, %d of %d utterances aligned", name,
                        number, self._gmm.num_gaussians, log_likelihood, self._num_aligned, len(self._graphs))

    def one_pass(self, num_gaussians: int, config: GmmConfig) -> float:
        """One update; returns the log-likelihood per frame before it."""
        statistics = accumulate(self._gmm, self._aligned, self._workers)
        gmm = update(self._gmm, statistics, config)
        occupancy = np.diff(self._aligned.bounds).astype(np.float64)
        gmm = split(gmm, occupancy, num_gaussians, config, self._generator)
        self.model = replace(self.model, gmm=gmm)
        return statistics.log_likelihood / max(1, statistics.num_frames)

    @property
    def _gmm(self) -> DiagonalGmms:
        assert self.model.gmm is not None
        return self.model.gmm

    def _realign(self, beam: float, retry_beam: float) -> None:
        c = self._config
        config = AlignConfig(beam=beam, retry_beam=retry_beam, acoustic_scale=c.acoustic_scale,
                             transition_scale=c.transition_scale, self_loop_scale=c.self_loop_scale,
                             boost_silence=c.boost_silence)
        gmm, boost = self._gmm, silence_boost(self.model, config)

        def score(utterance: str, pdfs: np.ndarray) -> np.ndarray:
            return gmm.log_likelihoods(self._data.features[utterance], pdfs) + boost[pdfs]

        # The sorted copy is as large as all frames: it goes before the next one is made.
        del self._aligned
        alignments, _ = align_graphs(self.model, score, self._graphs, config, self._workers)
        self._set_alignments(alignments)

    def _set_alignments(self, alignments: Alignments) -> None:
        """Frames sorted by pdf, and transition probabilities, of new alignments."""
        if not alignments:
            raise WorkError("no utterance could be aligned; are features and transcripts of the same utterances?")
        transitions = self.model.transitions
        ids = [alignments.get(u, np.zeros(len(f), dtype=np.int32)) for u, f in self._data.features.items()]
        joined = np.concatenate(ids)
        self._num_aligned = len(alignments)
        self._aligned = AlignedFrames(self._data.frames, transitions.pdf_ids[joined], self.model.tree.num_pdfs)
        counts = np.bincount(joined, minlength=transitions.num_transition_ids + 1)
        self.model = replace(self.model, transitions=transitions.reestimated(counts))


def _flat_gmm(data: _Frames, num_pdfs: int) -> DiagonalGmms:
    """Every pdf with the mean and variance of the first ten utterances (`gmm-init-mono`)."""
    sample = np.concatenate(list(data.features.values())[:10]).astype(np.float64)
    if len(sample) < 2:
        raise InputError("the first ten utterances have less than two frames")
    return DiagonalGmms(np.arange(num_pdfs + 1), np.ones(num_pdfs), np.tile(sample.mean(0), (num_pdfs, 1)),
                        np.tile(np.maximum(sample.var(0), 1e-3), (num_pdfs, 1)))


def _gmm_of_statistics(sums: np.ndarray, variance_floor: float) -> DiagonalGmms:
    """One Gaussian per pdf; a pdf without data gets the Gaussian of all data (`gmm-init-model`)."""
    filled = np.where(sums[:, :1] > 0, sums, sums.sum(axis=0))
    dim = (sums.shape[1] - 1) // 2
    means = filled[:, 1 : 1 + dim] / filled[:, :1]
    variances = np.maximum(filled[:, 1 + dim :] / filled[:, :1] - means**2, variance_floor)
    return DiagonalGmms(np.arange(len(sums) + 1), np.ones(len(sums)), means, variances)
