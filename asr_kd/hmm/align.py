"""Forced alignment of transcripts with GMMs or with any log-likelihoods."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm_scores import FeatureSource, gmm_scorer
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.training_graph import TrainingGraph, TrainingGraphBuilder
from asr_kd.hmm.viterbi import best_path, fewest_frames

logger = get_logger(__name__)

Alignments = dict[str, np.ndarray]

MISSING = "no features"
NO_TRANSCRIPT = "no transcript"
TOO_SHORT = "fewer frames than its phones need"
NO_PATH = "no path within the retry beam"
NOT_FINITE = "scores that are not finite"


class AlignConfig(Config):
    """Kaldi's `gmm-align-compiled` settings (those of `steps/align_si.sh`).

    `boost_silence` multiplies the likelihood of the optional-silence phone's pdfs; `map_unknown` aligns words without
    pronunciation as the unknown word instead of refusing them.
    """

    beam: float = Field(default=10.0, gt=0)
    retry_beam: float = Field(default=40.0, gt=0)
    acoustic_scale: float = Field(default=0.1, gt=0)
    transition_scale: float = Field(default=1.0, ge=0)
    self_loop_scale: float = Field(default=0.1, ge=0)
    boost_silence: float = Field(default=1.0, gt=0)
    map_unknown: bool = False
    max_dropped: float = Field(default=0.05, ge=0, le=1)


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
    scorer = gmm_scorer(model, features, transforms, speakers)
    boost = silence_boost(model, config or AlignConfig())

    def score(utterance: str, pdfs: np.ndarray) -> np.ndarray:
        return scorer(utterance, pdfs) + boost[pdfs]

    return _align(model, score, utterance_ids(features), transcripts, config or AlignConfig(), workers)


def align_log_likelihoods(
    model: HmmModel,
    log_likelihoods: Callable[[str], np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig | None = None,
    workers: int | None = None,
) -> tuple[Alignments, Drops]:
    """As `align`, by log-likelihoods from any source: `log_likelihoods(id)` is `(frames, pdfs)`, unscaled.

    KeyError of that function means that the utterance has none (dropped, counted).
    """
    boost = silence_boost(model, config or AlignConfig())

    def score(utterance: str, pdfs: np.ndarray) -> np.ndarray:
        matrix = log_likelihoods(utterance)
        if matrix.ndim != 2 or matrix.shape[1] != model.tree.num_pdfs:
            raise InputError(f"{utterance}: log-likelihoods of shape {matrix.shape}, the model has {model.name}")
        return matrix[:, pdfs] + boost[pdfs]

    return _align(model, score, list(transcripts), transcripts, config or AlignConfig(), workers)


def align_graphs(
    model: HmmModel,
    score: Callable[[str, np.ndarray], np.ndarray],
    graphs: Mapping[str, TrainingGraph],
    config: AlignConfig,
    workers: int | None = None,
    description: str = "align",
) -> tuple[Alignments, dict[str, str]]:
    """Alignments along ready graphs, and the reason for each utterance that has none.

    `score(id, pdfs)` is `(frames, len(pdfs))`, unscaled; KeyError means that the utterance has no features.
    """
    logs = model.transitions.scaled_log_probs(config.transition_scale, config.self_loop_scale)

    def one(item: tuple[str, TrainingGraph]) -> np.ndarray | str:
        utterance, graph = item
        try:
            scores = score(utterance, graph.pdfs)
        except KeyError:
            return MISSING
        if not np.isfinite(scores).all():
            return NOT_FINITE
        scores = scores * np.float32(config.acoustic_scale)
        for beam in (config.beam, max(config.beam, config.retry_beam)):
            found = best_path(graph, scores, logs, beam)
            if found is not None:
                return found[0]
        return TOO_SHORT if len(scores) < fewest_frames(graph) else NO_PATH

    alignments: Alignments = {}
    failures: dict[str, str] = {}
    for utterance, result in zip(graphs, map_threads(one, graphs.items(), workers, description), strict=True):
        if isinstance(result, str):
            failures[utterance] = result
        else:
            alignments[utterance] = result
    return alignments, failures


def build_graphs(model: HmmModel, transcripts: Mapping[str, Sequence[str]], map_unknown: bool = False
                 ) -> dict[str, TrainingGraph]:
    """A training graph for each transcript; words without pronunciation raise InputError unless mapped."""
    ids, mapped = model.lexicon.word_ids(transcripts, map_unknown)
    if mapped:
        logger.warning("%d words without pronunciation mapped to %s", mapped, model.lexicon.unknown_word)
    builder = TrainingGraphBuilder(model.lexicon, model.topology, model.tree, model.transitions)
    return {utterance: builder.build(words) for utterance, words in sorted(ids.items())}


def silence_boost(model: HmmModel, config: AlignConfig) -> np.ndarray:
    """What is added to each pdf's log-likelihood, float32 `(pdfs,)` (Kaldi's `gmm-boost-silence`)."""
    boost = np.zeros(model.tree.num_pdfs, dtype=np.float32)
    transitions = model.transitions
    pdfs = np.unique(transitions.pdf_ids[transitions.phones == model.phones.optional_silence])
    boost[pdfs] = np.log(config.boost_silence)
    return boost


def utterance_ids(features: FeatureSource) -> list[str]:
    """The ids of a frame store, or of a mapping; sorted."""
    return sorted(features if isinstance(features, Mapping) else features.ids)


def _align(model: HmmModel, score: Callable[[str, np.ndarray], np.ndarray], source_ids: Sequence[str],
           transcripts: Mapping[str, Sequence[str]], config: AlignConfig, workers: int | None
           ) -> tuple[Alignments, Drops]:
    without = sorted(set(source_ids) - set(transcripts))
    drops = Drops(len(transcripts) + len(without), cap=config.max_dropped)
    for utterance in without:
        drops.drop(utterance, NO_TRANSCRIPT)
    graphs = build_graphs(model, transcripts, config.map_unknown)
    alignments, failures = align_graphs(model, score, graphs, config, workers)
    for utterance, reason in failures.items():
        drops.drop(utterance, reason)
    drops.check()
    return alignments, drops
