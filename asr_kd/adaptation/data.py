"""Minibatches for adaptation: frames of the adaptation set, and replayed ones of the training speech."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_kd.adaptation.posteriors import FramePosteriors, join_posteriors
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.features.splice import SplicedFrames
from asr_kd.training.data import Minibatch

ANCHOR_WEIGHTS = "anchor_weights"
"""Target of a minibatch: how much each frame is to be heard as the unadapted network hears it, (batch,). How that hears
it is in `anchor_pdf_ids`, `anchor_log_probs` and `anchor_log_tail`, see `FramePosteriors`."""


@dataclass(frozen=True)
class TaughtUtterance:
    """An utterance that teaches: features float32 (frames, dim), not spliced, and the posteriors to be learnt."""

    id: str
    features: NDArray[np.float32]
    posteriors: FramePosteriors


class AdaptationData:
    """The frames of an adaptation set, a `TrainingExamples`.

    Frames of `utterances` are trained on, those of `held_out` judged; where nothing is held out, some of those trained
    on. Every minibatch has the same share of frames of the `reserve`, features (frames, dim) of utterances. An anchored
    loss pulls a frame of the set with kl_weight, a replayed one with all its weight, towards what `unadapted`, called
    once for each utterance, says of its features (frames, dim).
    InputError: nothing to train on, features of another dimension. ValueError: an anchored loss without `unadapted`.
    """

    has_unlabelled = True
    num_pdfs_needed = 0

    def __init__(
        self, utterances: Sequence[TaughtUtterance], held_out: Sequence[TaughtUtterance] = (), *, left: int, right: int,
        kl_weight: float = 0.0, reserve: Sequence[NDArray[np.float32]] = (), replay_share: float = 0.0,
        unadapted: Callable[[NDArray[np.float32]], FramePosteriors] | None = None,
    ) -> None:
        replayed = list(reserve) if replay_share else []
        matrices = [*(one.features for one in (*utterances, *held_out)), *replayed]
        if not utterances or not any(one.posteriors.weights.any() for one in utterances):
            raise InputError("there are no frames to adapt on")
        if replay_share and not replayed:
            raise InputError("replay_share is set, but there is no reserve of training speech")
        for one in (*utterances, *held_out):
            if len(one.posteriors) != len(one.features):
                raise InputError(f"utterance {one.id}: {len(one.features)} frames, posteriors of "
                                 f"{len(one.posteriors)}")
        if len({matrix.shape[1] for matrix in matrices}) > 1:
            raise InputError(f"features of {sorted({matrix.shape[1] for matrix in matrices})} dimensions: set and "
                             "reserve must be those that the network hears")
        ends = np.cumsum([len(matrix) for matrix in matrices])
        self.splice = left + 1 + right
        self.input_dim = matrices[0].shape[1] * self.splice
        self._ids = [one.id for one in (*utterances, *held_out)] + [f"reserve-{n}" for n in range(len(replayed))]
        self._ends = ends
        frames = np.concatenate(matrices).astype(np.float32)
        self._spliced = SplicedFrames(frames, np.concatenate([[0], ends[:-1]]), ends, left, right)
        self._posteriors = join_posteriors([one.posteriors for one in (*utterances, *held_out)])
        self._kl_weight, self._replay_share = kl_weight, replay_share
        self._anchor: FramePosteriors | None = None
        if kl_weight or replayed:
            if unadapted is None:
                raise ValueError("what holds adaptation back needs the unadapted network's posteriors")
            self._anchor = join_posteriors([unadapted(matrix) for matrix in matrices])
        adapted = self._adapted_frames = int(ends[len(utterances) - 1])
        self._set_frames = len(self._posteriors)
        self.train_frames = np.flatnonzero(self._posteriors.weights[:adapted] > 0)
        self._reserve_frames = np.arange(self._set_frames, len(frames))
        self.cv_frames = np.arange(adapted, self._set_frames)
        self.cv_frames = self.cv_frames[self._posteriors.weights[self.cv_frames] > 0]
        if not self.cv_frames.size:
            self.cv_frames = self.train_frames[:: max(1, len(self.train_frames) // 256)]
        self.targets_digest: str | None = self._posteriors.digest
        self.digest = hash_json([hash_bytes(frames.tobytes()), ends.tolist(), self._posteriors.digest, adapted, left,
                                 right, kl_weight, replay_share, None if self._anchor is None else self._anchor.digest])

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """All frames of the set in a random order, parted evenly, and as many replayed ones as the share wants."""
        generator = np.random.default_rng([seed, epoch])
        most = max(1, round(batch_size * (1 - self._replay_share)))
        parts = np.array_split(generator.permutation(self.train_frames), -(-len(self.train_frames) // most))
        if not self._replay_share:
            return parts
        per_frame = self._replay_share / (1 - self._replay_share)
        return [np.concatenate([part, generator.choice(self._reserve_frames, max(1, round(len(part) * per_frame)))])
                for part in parts]

    def cv_batches(self, batch_size: int) -> list[NDArray[np.int64]]:
        """All held-out frames."""
        return [self.cv_frames[begin:begin + batch_size] for begin in range(0, len(self.cv_frames), batch_size)]

    def minibatch(self, indices: NDArray[np.int64]) -> Minibatch:
        """Return the frames with their posteriors; replayed ones have weight 0 and all the weight of the anchor."""
        is_replayed = indices >= self._set_frames
        rows = np.where(is_replayed, self.train_frames[0], indices)  # any row: its weight is 0
        posteriors = self._posteriors
        share = np.where(rows < self._adapted_frames, 1 - self._kl_weight, 1.0)  # held-out ones are judged alike
        weights = np.where(is_replayed, 0.0, share * posteriors.weights[rows])
        targets = {**_rows_of(posteriors, rows, "soft"), "frame_weights": _floats(weights)}
        if self._anchor is not None:
            targets |= _rows_of(self._anchor, indices, "anchor")
            targets[ANCHOR_WEIGHTS] = _floats(np.where(is_replayed, 1.0, self._kl_weight))
        labels = torch.full((len(indices),), -1, dtype=torch.int64)
        return Minibatch(self._spliced.gather(indices), labels, targets)

    def utterances(self, indices: NDArray[np.int64]) -> list[str]:
        """The ids of the utterances of a batch."""
        return [self._ids[number] for number in np.unique(np.searchsorted(self._ends, indices, side="right"))]

    def hold_on(self, device: torch.device) -> None:
        """Seconds of speech are gathered on the CPU."""


def _rows_of(posteriors: FramePosteriors, rows: NDArray[np.int64], name: str) -> dict[str, Tensor]:
    return {f"{name}_pdf_ids": torch.from_numpy(posteriors.pdf_ids[rows]),
            f"{name}_log_probs": torch.from_numpy(posteriors.log_probs[rows]),
            f"{name}_log_tail": torch.from_numpy(posteriors.log_tail[rows])}


def _floats(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
