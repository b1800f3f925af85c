"""Expectation-maximisation of an HMM-GMM: passes of realignment, new transforms, statistics, update and splitting."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from asr_kd.alignment.align import (
    TOO_SHORT,
    AlignConfig,
    Alignments,
    GmmFrameScores,
    align_each,
    build_graphs,
    silence_boost,
)
from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.bootstrap.gmm_training import GmmConfig, accumulate, split, update
from asr_kd.bootstrap.sorted_frames import SortedFrames
from asr_kd.core.config import Config
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.core.progress import progress
from asr_kd.features.affine import apply_affine
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import FeatureSource
from asr_kd.hmm.model import HmmModel

logger = get_logger(__name__)


class TrainingConfig(Config):
    """The settings of all trainings; `beam` and the like as in AlignConfig.

    `max_dropped`: the share of utterances that may fail to align in the last realignment; models of earlier passes are
    still poor, what they fail to align is only logged.
    """

    num_passes: int = Field(default=35, gt=0)
    realign_passes: list[int] = [10, 20, 30]
    num_gaussians: int = Field(default=9000, gt=0)
    last_split_pass: int = Field(default=25, ge=0)
    beam: float = Field(default=10.0, gt=0)
    retry_beam: float = Field(default=40.0, gt=0)
    boost_silence: float = Field(default=1.0, gt=0)
    acoustic_scale: float = Field(default=0.1, gt=0)
    transition_scale: float = Field(default=1.0, ge=0)
    self_loop_scale: float = Field(default=0.1, ge=0)
    map_unknown: bool = False
    max_dropped: float = Field(default=0.05, ge=0, le=1)
    gmm: GmmConfig = GmmConfig()
    seed: int = 0


class Trainer:
    """Trains `model` on the utterances of `transcripts`, which all have features.

    What is kept of an utterance are its words and its alignment: features are read, and graphs built, when they are
    needed. `transforms`: speaker -> matrix, applied behind the model's front end where there are any. `alignments` are
    the first ones, transition-ids of `model`; an utterance without one waits for the next realignment.
    """

    def __init__(self, model: HmmModel, features: FeatureSource, transcripts: Mapping[str, Sequence[str]],
                 alignments: Alignments, config: TrainingConfig, name: str, workers: int | None = None,
                 generator: np.random.Generator | None = None) -> None:
        self.model = model
        self.config = config
        self.workers = workers
        self.transforms: dict[str, np.ndarray] | None = None
        self.speakers: Mapping[str, str] = {}
        self.alignments = alignments
        self._features = features
        self._graphs = build_graphs(model, transcripts, config.map_unknown)
        self._generator = generator or np.random.default_rng(config.seed)
        self._name = name
        self._frames: SortedFrames | None = None
        self._count_failures(0, {u: TOO_SHORT for u in transcripts if u not in alignments})
        self._update_transitions()

    def passes(self, initial: int, beams: Mapping[int, tuple[float, float]] | None = None) -> None:
        """Passes 1 to `num_passes` - 1; Gaussians grow evenly from `initial` on until `last_split_pass`.

        WorkError where too many utterances do not align.
        """
        config = self.config
        increment = max(0, config.num_gaussians - initial) // max(1, config.last_split_pass)
        try:
            for number in progress(range(1, config.num_passes), config.num_passes - 1, self._name, "pass"):
                if number in config.realign_passes:
                    self._realign(number, *(beams or {}).get(number, (config.beam, config.retry_beam)))
                self.before_statistics(number)
                target = initial + increment * min(number - 1, config.last_split_pass)
                log_likelihood = self.one_pass(target, config.gmm)
                logger.info("%s pass %d: %d Gaussians, log-likelihood %.4f per frame, %d utterances", self._name,
                            number, self.gmm.num_gaussians, log_likelihood, len(self.alignments))
            self.after_passes()
        finally:
            self.forget_frames()

    def before_statistics(self, number: int) -> None:
        """Do what a kind of training adds in pass `number`, between realignment and statistics."""

    def after_passes(self) -> None:
        """Do what a kind of training adds at its end."""

    def one_pass(self, num_gaussians: int, config: GmmConfig) -> float:
        """One update; returns the log-likelihood per frame before it."""
        frames = self.frames()
        statistics = accumulate(self.gmm, frames, self.workers)
        gmm = split(update(self.gmm, statistics, config), frames.occupancy, num_gaussians, config, self._generator)
        self.model = replace(self.model, gmm=gmm)
        return statistics.log_likelihood / max(1, statistics.num_frames)

    @property
    def gmm(self) -> DiagonalGmms:
        assert self.model.gmm is not None
        return self.model.gmm

    def inputs(self, utterance: str) -> np.ndarray:
        """Return the inputs of the Gaussians for an utterance, `(frames, dim)`."""
        matrix = self.unadapted(utterance)
        return matrix if self.transforms is None else apply_affine(matrix, self.transforms[self.speakers[utterance]])

    def unadapted(self, utterance: str) -> np.ndarray:
        """Return the output of the model's front end, `(frames, dim)`."""
        return self.model.front_end(self._features[utterance])

    def frames(self) -> SortedFrames:
        """All frames by pdf, sorted anew where alignments or transforms have changed."""
        if self._frames is None:
            self._frames = SortedFrames(self.inputs, self.pdf_ids(), self.model.tree.num_pdfs, self.workers)
        return self._frames

    def pdf_ids(self) -> Mapping[str, np.ndarray]:
        """Utterance -> pdf of each frame."""
        return _Looked(self.alignments, self.model.transitions.pdf_ids)

    def forget_frames(self) -> None:
        """Say that alignments or transforms have changed (or that nobody needs the frames any more)."""
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    def _realign(self, number: int, beam: float, retry_beam: float) -> None:
        c = self.config
        config = AlignConfig(beam=beam, retry_beam=retry_beam, acoustic_scale=c.acoustic_scale,
                             transition_scale=c.transition_scale, self_loop_scale=c.self_loop_scale,
                             boost_silence=c.boost_silence)
        gmm, boost = self.gmm, silence_boost(self.model, config)
        self.forget_frames()
        alignments: Alignments = {}
        failures: dict[str, str] = {}
        for one in align_each(self.model, lambda u: GmmFrameScores(gmm, self.inputs(u), boost), self._graphs, config,
                              self.workers):
            if one.transition_ids is None:
                failures[one.utterance] = one.reason
            else:
                alignments[one.utterance] = one.transition_ids
        self._count_failures(number, failures)
        self.alignments = alignments
        self._update_transitions()

    def _count_failures(self, number: int, failures: Mapping[str, str]) -> None:
        """Failures of the realignment of pass `number` (0: of the first alignments)."""
        last = max((n for n in self.config.realign_passes if 0 < n < self.config.num_passes), default=0)
        drops = Drops(len(self._graphs), cap=self.config.max_dropped)
        for utterance, reason in failures.items():
            drops.drop(utterance, reason)
        if failures:
            logger.info("%s pass %d: %d of %d utterances not aligned: %s", self._name, number, len(failures),
                        drops.total, drops.by_reason)
        if number == last or drops.kept == 0:
            drops.check()

    def _update_transitions(self) -> None:
        transitions = self.model.transitions
        counts = np.zeros(transitions.num_transition_ids + 1, dtype=np.int64)
        for alignment in self.alignments.values():
            counts += np.bincount(alignment, minlength=len(counts))
        self.model = replace(self.model, transitions=transitions.reestimated(counts))


class _Looked(Mapping[str, np.ndarray]):
    """Arrays of a mapping looked up in a table, one at a time."""

    def __init__(self, arrays: Mapping[str, np.ndarray], table: np.ndarray) -> None:
        self._arrays = arrays
        self._table = table

    def __getitem__(self, key: str) -> np.ndarray:
        return self._table[self._arrays[key]]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def check_alignments(alignments: Mapping[str, np.ndarray], features: FeatureSource, utterances: Sequence[str],
                     model: HmmModel) -> None:
    """InputError where an alignment store is of another model, or the lengths of an utterance differ."""
    if isinstance(alignments, AlignmentStore) and alignments.model_digest != model.digest:
        raise InputError(f"{alignments.folder}: aligned with the model {alignments.model_digest[:8]}, not with "
                         f"{model.name}; align again with this one")
    for utterance in utterances:
        frames = num_frames(features, utterance)
        if len(alignments[utterance]) != frames:
            raise InputError(f"{utterance}: {len(alignments[utterance])} frames aligned, {frames} frames of features; "
                             "align these features again")


def num_frames(features: FeatureSource, utterance: str) -> int:
    """Frames of an utterance, without reading them where a frame store knows."""
    if isinstance(features, Mapping):
        return len(features[utterance])
    begin, end = features.bounds(utterance)
    return end - begin
