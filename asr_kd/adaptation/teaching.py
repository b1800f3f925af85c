"""Where the posteriors come from that an adapted network learns: transcripts, its own first pass, a teacher."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from asr_kd.adaptation.posteriors import FramePosteriors
from asr_kd.adaptation.recognition import Recognition
from asr_kd.core.config import Config
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig, decode
from asr_kd.distillation.soft_targets import sparse_posteriors
from asr_kd.lattices.posteriors import frame_posteriors
from asr_kd.models.bundle import ModelCard
from asr_kd.models.log_likelihoods import forward_logits

Scores = Callable[[str], NDArray[np.float32]]
"""Utterance id -> log-likelihoods (frames, pdfs)."""


class FirstPassTeaching(Config):
    """How a first pass teaches.

    targets: the best path alone, or the posteriors of all paths of the lattice. confidence: how a frame is weighted:
    by the posterior of its likeliest pdf in the lattice to this power; 0 weights all frames alike. least_confidence: a
    frame of less teaches nothing.
    """

    targets: Literal["best-path", "posteriors"] = "posteriors"
    acoustic_scale: float = Field(0.1, gt=0, description="of the lattice's posteriors; graph costs have scale 1")
    confidence: float = Field(1.0, ge=0)
    least_confidence: float = Field(0.0, ge=0, lt=1)
    search: SearchConfig = SearchConfig()


def first_pass_posteriors(
    graph: DecodingGraph, transition_pdfs: NDArray[np.int32], scores: NDArray[np.float32], config: FirstPassTeaching
) -> FramePosteriors:
    """What a search of one utterance says of its frames; scores (frames, pdfs) are log-likelihoods.

    transition_pdfs: the pdf of each transition-id. Frames after an early end of the search teach nothing.
    Errors as of `asr_kd.decoding.search.decode`.
    """
    found = decode(graph, scores, config.search)
    frames, transition_ids, values = frame_posteriors(found.lattice, config.acoustic_scale)
    of_lattice = FramePosteriors.of_entries(frames, transition_pdfs[transition_ids], values, *scores.shape)
    confidences = np.exp(of_lattice.log_probs.max(1))
    weights = np.where(confidences >= config.least_confidence, confidences ** config.confidence, 0.0)
    if config.targets == "posteriors":
        return of_lattice.weighted(weights)
    best = transition_pdfs[found.best.transition_ids]
    aligned = np.zeros(len(scores), np.int64)
    aligned[:len(best)] = best
    is_searched = np.arange(len(scores)) < len(best)
    return FramePosteriors.of_alignment(aligned).weighted(weights * of_lattice.weights * is_searched)


def teacher_posteriors(
    network: nn.Module, card: ModelCard, features: NDArray[np.float32], *, top_k: int = 32, temperature: float = 1.0
) -> FramePosteriors:
    """A teacher's soft targets of one utterance, features (frames, dim) being those that the teacher hears."""
    return best_posteriors(forward_logits(network, card, features) / np.float32(temperature), top_k)


def best_posteriors(logits: NDArray[np.float32], top_k: int) -> FramePosteriors:
    """The `top_k` likeliest pdfs of each frame by logits, or log-posteriors, (frames, pdfs)."""
    pdf_ids, log_probs, log_tail = sparse_posteriors(torch.from_numpy(logits), top_k)
    return FramePosteriors(pdf_ids.numpy(), log_probs.numpy(), log_tail.numpy(), np.ones(len(logits), np.float32))


def transcript_misfits(
    scores: Scores, posteriors: Mapping[str, FramePosteriors], recognised: Recognition
) -> dict[str, float]:
    """How much the acoustic log-likelihood of each forced alignment lacks of the best path's, a frame.

    posteriors: of forced alignments; recognised: the same utterances by the same scores. Small where what was said is
    what the transcript has, and large where it is something else.
    """
    misfits = {}
    for name, aligned in posteriors.items():
        frames = np.arange(len(aligned))
        own = scores(name)[frames, aligned.pdf_ids[:, 0]].mean(dtype=np.float64)
        misfits[name] = float(recognised.utterances[name].log_likelihood - own)
    return misfits
