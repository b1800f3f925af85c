"""Forced alignment of transcripts with GMMs or with any log-likelihoods, utterance by utterance."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from asr_kd.alignment.alignment_store import AlignmentStore, AlignmentWriter
from asr_kd.alignment.training_graph import TrainingGraph, TrainingGraphBuilder, TrainingGraphs
from asr_kd.alignment.viterbi import BestPath, FrameScores, best_path, fewest_frames
from asr_kd.core.bounds import AcousticScale, Beam, LikelihoodFactor, TransitionScale
from asr_kd.core.config import Config
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import FeatureSource, gmm_for, gmm_inputs
from asr_kd.hmm.model import HmmModel

logger = get_logger(__name__)

Alignments = dict[str, np.ndarray]
# Utterance id -> its scores; KeyError where there are none, UnusableUtterance (or another WorkError) says why.
ScoreSource = Callable[[str], FrameScores]

MISSING = "no features"
NO_TRANSCRIPT = "no transcript"
NO_SCORES = "no log-likelihoods"
TOO_SHORT = "fewer frames than its phones need"
NO_PATH = "no path within the retry beam"
NOT_FINITE = "scores that are not finite"


class UnusableUtterance(WorkError):
    """The error by which a ScoreSource drops an utterance; `reason` is a short fixed phrase."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class AlignConfig(Config):
    """Kaldi's `gmm-align-compiled` settings (those of `steps/align_si.sh`).

    `boost_silence` multiplies the likelihood of the optional-silence phone's pdfs; `map_unknown` aligns words without
    pronunciation as the unknown word instead of refusing them.
    """

    beam: Beam = 10.0
    retry_beam: Beam = 40.0
    acoustic_scale: AcousticScale = 0.1
    transition_scale: TransitionScale = 1.0
    self_loop_scale: TransitionScale = 0.1
    boost_silence: LikelihoodFactor = 1.0
    map_unknown: bool = False
    max_dropped: float = Field(default=0.05, ge=0, le=1)


@dataclass(frozen=True)
class UtteranceAlignment:
    """One utterance's transition-ids int32 `(frames,)`, or None and why there are none.

    `log_likelihood` is per frame, of frames and graph, unscaled (as `gmm-align-compiled` logs it); NaN where no frame
    was scored. `reason` is one of this module's fixed phrases, `detail` says more of this utterance.
    """

    utterance: str
    transition_ids: np.ndarray | None
    log_likelihood: float = float("nan")
    reason: str = ""
    detail: str = ""


def align(
    model: HmmModel,
    features: FeatureSource,
    transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig | None = None,
    workers: int | None = None,
    transforms: SpeakerTransforms | None = None,
    speakers: Mapping[str, str] | None = None,
) -> tuple[Alignments, Drops]:
    """Transition-ids int32 `(frames,)` of each utterance, and what was dropped, by reason.

    `features`: id -> normalised cepstra `(frames, dim)`, the model's front end is applied here, and `transforms` where
    given (`speakers` as for `gmm_scorer`). `transcripts`: id -> words. Words without pronunciation raise InputError
    (unless mapped); more drops than `max_dropped` raise WorkError.
    """
    config = config or AlignConfig()
    source = gmm_score_source(model, features, config, transforms, speakers)
    return _collect(model, source, utterance_ids(features), transcripts, config, workers)


def align_log_likelihoods(
    model: HmmModel,
    log_likelihoods: Callable[[str], np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig | None = None,
    workers: int | None = None,
) -> tuple[Alignments, Drops]:
    """As `align`, by log-likelihoods from any source: `log_likelihoods(id)` is `(frames, pdfs)`, unscaled.

    A network's are log posteriors less log priors, as in decoding. KeyError of that function means that the utterance
    has none, WorkError that they could not be made: dropped, counted. Another number of pdfs raises InputError.
    """
    config = config or AlignConfig()
    source = matrix_score_source(model, log_likelihoods, config)
    return _collect(model, source, list(transcripts), transcripts, config, workers)


def align_to_folder(
    folder: Path,
    model: HmmModel,
    source: ScoreSource,
    utterances: Sequence[str],
    transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig | None = None,
    workers: int | None = None,
    say: Callable[[UtteranceAlignment], None] | None = None,
) -> tuple[AlignmentStore, Drops]:
    """Align and write an AlignmentStore as it goes: no more is kept in memory than the utterances in work.

    `source` is `gmm_score_source` or `matrix_score_source`, `utterances` are those that it has (one without a
    transcript is dropped, counted), `say` is told of each one aligned or not. The folder is whole or absent; errors as
    of `align`.
    """
    config = config or AlignConfig()
    with AlignmentWriter(folder, model) as writer:
        drops, found = _with_drops(model, source, utterances, transcripts, config, workers)
        for one in found:
            if one.transition_ids is not None:
                writer.add(one.utterance, one.transition_ids)
            if say is not None:
                say(one)
        drops.check()
        writer.drops = drops.as_dict()
    return AlignmentStore.open(folder, model), drops


def align_each(
    model: HmmModel,
    source: ScoreSource,
    graphs: Mapping[str, TrainingGraph],
    config: AlignConfig,
    workers: int | None = None,
    description: str = "align",
) -> Iterator[UtteranceAlignment]:
    """Align the utterances of `graphs`, in their order, over all cores; few of them are in memory at a time."""
    logs = model.transitions.scaled_log_probs(config.transition_scale, config.self_loop_scale)

    def one(utterance: str) -> UtteranceAlignment:
        try:
            scores = source(utterance)
        except KeyError:
            return UtteranceAlignment(utterance, None, reason=MISSING)
        except WorkError as error:
            return UtteranceAlignment(utterance, None, reason=getattr(error, "reason", NO_SCORES), detail=str(error))
        graph = graphs[utterance]
        if scores.num_frames < graph.num_states and scores.num_frames < (needed := fewest_frames(graph)):
            detail = f"{scores.num_frames} frames, at least {needed} needed"
            return UtteranceAlignment(utterance, None, reason=TOO_SHORT, detail=detail)
        for beam in sorted({config.beam, max(config.beam, config.retry_beam)}):
            found = best_path(graph, scores, logs, beam, config.acoustic_scale)
            if found.transition_ids is not None or not found.finite:
                break
        return _judged(utterance, found, beam, config.acoustic_scale)

    return map_threads(one, graphs, workers, description)


def build_graphs(model: HmmModel, transcripts: Mapping[str, Sequence[str]], map_unknown: bool = False
                 ) -> TrainingGraphs:
    """The training graph of each transcript; words without pronunciation raise InputError unless mapped."""
    ids, mapped = model.lexicon.word_ids(transcripts, map_unknown)
    if mapped:
        logger.warning("%d words without pronunciation mapped to %s", mapped, model.lexicon.unknown_word)
        model.lexicon.warn_of_other_forms(transcripts)
    builder = TrainingGraphBuilder(model.lexicon, model.topology, model.tree, model.transitions)
    return TrainingGraphs(builder, ids)


@dataclass(frozen=True)
class GmmFrameScores:
    """FrameScores of `inputs` `(frames, dim)`, what the Gaussians are given; `boost` `(pdfs,)` is added."""

    gmm: DiagonalGmms
    inputs: np.ndarray
    boost: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.inputs)

    def __call__(self, pdfs: np.ndarray, begin: int, end: int) -> np.ndarray:
        return self.gmm.log_likelihoods(self.inputs[begin:end], pdfs) + self.boost[pdfs]


@dataclass(frozen=True)
class MatrixFrameScores:
    """FrameScores of log-likelihoods `(frames, pdfs)`; `boost` `(pdfs,)` is added."""

    matrix: np.ndarray
    boost: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.matrix)

    def __call__(self, pdfs: np.ndarray, begin: int, end: int) -> np.ndarray:
        return self.matrix[begin:end, pdfs] + self.boost[pdfs]


def gmm_score_source(
    model: HmmModel,
    features: FeatureSource,
    config: AlignConfig,
    transforms: SpeakerTransforms | None = None,
    speakers: Mapping[str, str] | None = None,
) -> ScoreSource:
    """Scores by the model's Gaussians, silence boosted; errors and arguments as of `gmm_scorer`."""
    gmm = gmm_for(model, transforms)
    inputs = gmm_inputs(model, features, transforms, speakers)
    boost = silence_boost(model, config)
    return lambda utterance: GmmFrameScores(gmm, inputs(utterance), boost)


def matrix_score_source(
    model: HmmModel, log_likelihoods: Callable[[str], np.ndarray], config: AlignConfig
) -> ScoreSource:
    """Scores by any log-likelihoods, silence boosted. InputError where they are of another number of pdfs."""
    boost = silence_boost(model, config)

    def scores(utterance: str) -> FrameScores:
        matrix = log_likelihoods(utterance)
        if matrix.ndim != 2 or matrix.shape[1] != model.tree.num_pdfs:
            raise InputError(f"{utterance}: log-likelihoods of shape {matrix.shape}, expected (frames, "
                             f"{model.tree.num_pdfs}) for the model {model.name}")
        if not np.isfinite(matrix).all():
            frame, pdf = np.argwhere(~np.isfinite(matrix))[0]
            raise UnusableUtterance(NOT_FINITE, f"{matrix[frame, pdf]} for pdf {pdf} in frame {frame}")
        return MatrixFrameScores(matrix, boost)

    return scores


def silence_boost(model: HmmModel, config: AlignConfig) -> np.ndarray:
    """Return the term to add to each pdf's log-likelihood, float32 `(pdfs,)` (Kaldi's `gmm-boost-silence`)."""
    boost = np.zeros(model.tree.num_pdfs, dtype=np.float32)
    transitions = model.transitions
    pdfs = np.unique(transitions.pdf_ids[transitions.phones == model.phones.optional_silence])
    boost[pdfs] = np.log(config.boost_silence)
    return boost


def utterance_ids(features: FeatureSource) -> list[str]:
    """The ids of a frame store, or of a mapping; sorted."""
    return sorted(features if isinstance(features, Mapping) else features.ids)


def _judged(utterance: str, found: BestPath, beam: float, acoustic_scale: float) -> UtteranceAlignment:
    """The search's result, with what there is to say of a failure."""
    score = found.score / acoustic_scale / found.num_frames if found.num_frames else float("nan")
    if found.transition_ids is not None:
        return UtteranceAlignment(utterance, found.transition_ids, score)
    if not found.finite:
        return UtteranceAlignment(utterance, None, score, NOT_FINITE, f"in the frames from {found.num_frames} on")
    detail = (f"log-likelihood {score:.2f} a frame of the best hypothesis at beam {beam:g}; the last frame reaches "
              f"{100 * found.reached:.0f} % of the transcript")
    return UtteranceAlignment(utterance, None, score, NO_PATH, detail)


def _with_drops(
    model: HmmModel, source: ScoreSource, utterances: Sequence[str], transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig, workers: int | None,
) -> tuple[Drops, Iterator[UtteranceAlignment]]:
    """Alignments as they come, and the drops that they fill."""
    without = sorted(set(utterances) - set(transcripts))
    drops = Drops(len(transcripts) + len(without), cap=config.max_dropped)
    graphs = build_graphs(model, transcripts, config.map_unknown)

    def found() -> Iterator[UtteranceAlignment]:
        frames, total = 0, 0.0
        for utterance in without:
            drops.drop(utterance, NO_TRANSCRIPT)
        for one in align_each(model, source, graphs, config, workers):
            if one.transition_ids is None:
                drops.drop(one.utterance, one.reason, one.detail)
                logger.info("utterance %s not aligned: %s (%s)", one.utterance, one.reason, one.detail)
            else:
                frames += len(one.transition_ids)
                total += one.log_likelihood * len(one.transition_ids)
            yield one
        logger.info("log-likelihood %.4f per frame over %d frames", total / max(1, frames), frames)

    return drops, found()


def _collect(
    model: HmmModel, source: ScoreSource, utterances: Sequence[str], transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig, workers: int | None,
) -> tuple[Alignments, Drops]:
    drops, found = _with_drops(model, source, utterances, transcripts, config, workers)
    alignments = {one.utterance: one.transition_ids for one in found if one.transition_ids is not None}
    drops.check()
    return alignments, drops
