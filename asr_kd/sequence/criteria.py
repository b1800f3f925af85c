"""Sequence criteria as differentiable functions of the log-likelihoods of a batch of utterances.

Each takes log_likelihoods (rows, pdfs), in which the frames of the batch's utterances follow each other, and returns a
value for each utterance. Log-likelihoods need be right only up to a constant a frame: logits minus log priors will do,
and the gradient by them sums to zero over the pdfs of a frame. A path's score is its graph weight + acoustic_scale ·
its frames' log-likelihoods. Gradients are by the unscaled log-likelihoods: acoustic_scale times those of Kaldi's files.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from asr_kd.sequence.forward_backward import (
    arc_log_scores,
    arc_occupancies,
    gains_over_average,
    sum_by_frame_and_pdf,
)
from asr_kd.sequence.lattice_batch import LatticeBatch


@dataclass(frozen=True)
class Numerator:
    """The numerator that is held against all paths: occupancies of pdfs, and a log weight an utterance.

    rows, pdfs: int64 (entries,); occupancies: float32 (entries,), those of a row sum to 1; log_weights: float64
    (utterances,), of the graph. A forced alignment has one entry a row, the lattice of a teacher several.
    """

    rows: Tensor
    pdfs: Tensor
    occupancies: Tensor
    log_weights: Tensor

    def to(self, device: torch.device) -> "Numerator":
        """This numerator on `device`."""
        return Numerator(self.rows.to(device), self.pdfs.to(device), self.occupancies.to(device),
                         self.log_weights.to(device))

    @staticmethod
    def of_alignment(pdf_ids: Tensor, log_weights: Tensor) -> "Numerator":
        """That of forced alignments, pdf_ids (rows,)."""
        return Numerator(torch.arange(len(pdf_ids)), pdf_ids, torch.ones(len(pdf_ids)), log_weights)


def expected_accuracy(
    log_likelihoods: Tensor, batch: LatticeBatch, accuracies: Tensor, acoustic_scale: float,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Expected accuracy of each utterance's paths, in frames, (utterances,): sMBR, or MPE where units are phones.

    accuracies (arcs,), of `frame_accuracies`. The derivative by a log-likelihood is acoustic_scale · the sum over its
    arcs of occupancy · (expected accuracy through the arc - expected accuracy). Povey & Woodland 2002; Gibson & Hain
    2006; arXiv 1608.00892, eq. 12.
    """
    averages: Tensor = _ExpectedAccuracy.apply(log_likelihoods, batch, accuracies, acoustic_scale, dtype)
    return averages


def mutual_information(
    log_likelihoods: Tensor, batch: LatticeBatch, numerator: Numerator, acoustic_scale: float,
    reject_frames: bool = False, dtype: torch.dtype = torch.float64,
) -> Tensor:
    """MMI: log of the numerator's likelihood over that of all paths of the lattice, an utterance, (utterances,).

    The derivative by a log-likelihood is acoustic_scale · (numerator occupancy - lattice occupancy). Where no path has
    a pdf of the numerator in a frame, that frame's derivative can be large without limit: `reject_frames` takes 0 for
    it (Vesely et al. 2013, "frame rejection"). With the occupancies of a teacher's lattice as the numerator this is,
    up to a constant, minus the KL divergence of the student's paths from the teacher's (Wong & Gales 2016).
    """
    values: Tensor = _MutualInformation.apply(
        log_likelihoods, batch, numerator, acoustic_scale, reject_frames, dtype)
    return values


def boosted(batch: LatticeBatch, errors: Tensor, boost: float) -> LatticeBatch:
    """The batch with paths the likelier the more errors they have, for boosted MMI (Povey et al. 2008).

    A path gains `boost` for each of its errors; errors (arcs,), of `phone_errors`.
    """
    return replace(batch, log_weights=batch.log_weights + boost * errors)


class _ExpectedAccuracy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_likelihoods: Tensor, batch: LatticeBatch, accuracies: Tensor, acoustic_scale: float,
                dtype: torch.dtype) -> Tensor:
        scores = arc_log_scores(batch, log_likelihoods, acoustic_scale, dtype)
        occupancies, _ = arc_occupancies(batch, scores)
        gains, averages = gains_over_average(batch, occupancies, accuracies)
        gradient = sum_by_frame_and_pdf(batch, acoustic_scale * occupancies * gains, log_likelihoods.shape[1])
        ctx.save_for_backward(gradient.to(log_likelihoods.dtype), batch.row_begins)
        return averages

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _by_utterance(ctx.saved_tensors, gradient), None, None, None, None


class _MutualInformation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_likelihoods: Tensor, batch: LatticeBatch, numerator: Numerator, acoustic_scale: float,
                reject_frames: bool, dtype: torch.dtype) -> Tensor:
        scores = arc_log_scores(batch, log_likelihoods, acoustic_scale, dtype)
        occupancies, totals = arc_occupancies(batch, scores)
        gradient = -sum_by_frame_and_pdf(batch, occupancies, log_likelihoods.shape[1])
        places = (numerator.rows, numerator.pdfs)
        wanted = numerator.occupancies.to(dtype)
        if reject_frames:
            missing = torch.ones(batch.num_rows, dtype=torch.bool, device=gradient.device)
            missing[numerator.rows[gradient[places] < 0]] = False
            gradient[missing] = 0.0
            wanted = wanted.masked_fill(missing[numerator.rows], 0.0)
        gradient.index_put_(places, wanted, accumulate=True)
        ctx.save_for_backward((acoustic_scale * gradient).to(log_likelihoods.dtype), batch.row_begins)
        likelihood = numerator.log_weights.to(dtype).clone()
        utterances = torch.searchsorted(batch.row_begins, numerator.rows, right=True) - 1
        aligned = log_likelihoods[places].to(dtype) * numerator.occupancies.to(dtype)
        return likelihood.index_add_(0, utterances, acoustic_scale * aligned) - totals

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _by_utterance(ctx.saved_tensors, gradient), None, None, None, None, None


def _by_utterance(saved: tuple[Tensor, ...], gradient: Tensor) -> Tensor:
    """Gradients of rows, each times that of its utterance's value."""
    by_row, row_begins = saved
    return by_row * gradient.to(by_row.dtype).repeat_interleave(row_begins.diff())[:, None]
