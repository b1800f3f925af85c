"""Frame posteriors that an adapted network learns, whatever they come from: transcripts, a first pass, a teacher."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.files import hash_bytes, hash_json

_NONE = -np.inf


@dataclass(frozen=True)
class FramePosteriors:
    """The likeliest pdfs of each frame, as a cache of soft targets has them.

    pdf_ids int64 and log_probs float32 (frames, k), natural logarithms, no pdf twice in a frame; log_tail float32
    (frames,): of the mass of all other pdfs; weights float32 (frames,): what a frame's loss is multiplied by.
    """

    pdf_ids: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    log_tail: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pdf_ids)

    @property
    def width(self) -> int:
        """The number k of pdfs of a frame."""
        return self.pdf_ids.shape[1]

    @staticmethod
    def of_alignment(pdf_ids: NDArray[np.integer]) -> "FramePosteriors":
        """All of each frame's mass on its pdf of a forced alignment, int (frames,)."""
        frames = len(pdf_ids)
        return FramePosteriors(pdf_ids.astype(np.int64)[:, None], np.zeros((frames, 1), np.float32),
                               np.full(frames, _NONE, np.float32), np.ones(frames, np.float32))

    @staticmethod
    def of_entries(
        frames: NDArray[np.integer], pdf_ids: NDArray[np.integer], posteriors: NDArray[np.floating], num_frames: int,
        num_pdfs: int, most: int = 16,
    ) -> "FramePosteriors":
        """From entries (n,) sorted by frame, such as a lattice's: a frame's entries of one pdf are added up.

        A frame keeps the `most` likeliest of its pdfs, scaled to sum to one; one without entries has weight 0.
        """
        sums = np.zeros((num_frames, num_pdfs), np.float32)
        np.add.at(sums, (frames, pdf_ids), posteriors)
        width = int(np.clip((sums > 0).sum(1).max(initial=1), 1, most))
        best = np.argpartition(-sums, width - 1, axis=1)[:, :width]
        kept = np.take_along_axis(sums, best, 1)
        total = kept.sum(1, keepdims=True)
        with np.errstate(divide="ignore"):
            log_probs = np.log(kept / np.maximum(total, 1e-30))
        has_entries = total[:, 0] > 0
        # A frame without entries has all its mass in the tail: no mass at all would make its loss infinite.
        return FramePosteriors(best.astype(np.int64), log_probs.astype(np.float32),
                               np.where(has_entries, _NONE, 0.0).astype(np.float32), has_entries.astype(np.float32))

    def weighted(self, weights: NDArray[np.floating]) -> "FramePosteriors":
        """The same, each frame's weight multiplied by that of `weights` (frames,)."""
        return FramePosteriors(self.pdf_ids, self.log_probs, self.log_tail, (self.weights * weights).astype(np.float32))

    def widened(self, width: int) -> "FramePosteriors":
        """The same with `width` pdfs a frame: the added ones are others than its own, without mass."""
        added = width - self.width
        if added <= 0:
            return self
        candidates = np.arange(width)
        is_own = (self.pdf_ids[:, None, :] == candidates[None, :, None]).any(2)
        free = np.argsort(is_own, axis=1, kind="stable")[:, :added]
        return FramePosteriors(
            np.concatenate([self.pdf_ids, free], 1),
            np.concatenate([self.log_probs, np.full((len(self), added), _NONE, np.float32)], 1),
            self.log_tail, self.weights)

    @property
    def digest(self) -> str:
        arrays = (self.pdf_ids, self.log_probs, self.log_tail, self.weights)
        return hash_json([[array.shape, hash_bytes(np.ascontiguousarray(array).tobytes())] for array in arrays])


def mix_posteriors(aligned: FramePosteriors, soft: FramePosteriors, share: float) -> FramePosteriors:
    """Return 1 - `share` of an alignment's posteriors and `share` of softer ones, with the weights of these."""
    mixed = soft.widened(soft.width + 1)
    rows, pdf_ids = np.arange(len(aligned)), aligned.pdf_ids[:, 0]
    is_there = mixed.pdf_ids[:, :-1] == pdf_ids[:, None]
    column = np.where(is_there.any(1), is_there.argmax(1), mixed.width - 1)
    mixed.pdf_ids[rows, column] = pdf_ids
    with np.errstate(divide="ignore"):
        log_probs = mixed.log_probs + np.float32(np.log(share))
        log_probs[rows, column] = np.logaddexp(log_probs[rows, column], np.float32(np.log1p(-share)))
        log_tail = soft.log_tail + np.float32(np.log(share))
    return FramePosteriors(mixed.pdf_ids, log_probs, log_tail, soft.weights)


def join_posteriors(parts: list[FramePosteriors]) -> FramePosteriors:
    """The frames of several, one after the other."""
    width = max(part.width for part in parts)
    wide = [part.widened(width) for part in parts]
    return FramePosteriors(
        np.concatenate([part.pdf_ids for part in wide]), np.concatenate([part.log_probs for part in wide]),
        np.concatenate([part.log_tail for part in wide]), np.concatenate([part.weights for part in wide]))
