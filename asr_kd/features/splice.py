"""Frames with their neighbours, made when they are needed: no spliced frame is ever stored."""

from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.features.frame_store import FrameStore


def splice(matrix: np.ndarray, left: int, right: int) -> np.ndarray:
    """`(frames, dim)` to `(frames, (left + 1 + right) * dim)`; both edges repeat the edge frame.

    Source: Kaldi's splice-feats.
    """
    frames = len(matrix)
    rows = np.arange(frames)[:, None] + np.arange(-left, right + 1)
    return matrix[np.clip(rows, 0, max(frames - 1, 0))].reshape(frames, rows.shape[1] * matrix.shape[1])


class SplicedFrames:
    """Gathers spliced frames of many utterances at random.

    `frames` `(num_frames, dim)` (a store's memory map, or any array of float16, float32 or uint8); utterance i
    has the rows `begins[i]` to `ends[i]`, in ascending order. The frame `[t-left, .., t+right]` stays inside its
    utterance: both edges repeat the edge frame. Rows of no utterance may lie between them. May be used by several
    threads at once.
    """

    def __init__(
        self, frames: np.ndarray, begins: np.ndarray, ends: np.ndarray, left: int, right: int, *,
        dtype: torch.dtype = torch.float32, scale: float = 1.0, offset: float = 0.0,
    ) -> None:
        self.begins = np.ascontiguousarray(begins, dtype=np.int64)
        self.ends = np.ascontiguousarray(ends, dtype=np.int64)
        if len(self.begins) != len(self.ends) or (self.ends <= self.begins).any():
            raise ValueError("begins and ends: as many, and every utterance at least one frame")
        if (self.begins[1:] < self.ends[:-1]).any() or (len(self.ends) and self.ends[-1] > len(frames)):
            raise ValueError(f"utterances must be ascending, apart, and within {len(frames)} frames")
        self.left, self.right = left, right
        self.dtype = dtype
        self.frame_dim = frames.shape[1]
        self.dim = (left + 1 + right) * self.frame_dim
        self.stored = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32,
                       np.dtype(np.uint8): torch.uint8}[frames.dtype]
        # Rows are only moved about: numba need not know float16. One dimension: a window is one stretch of it.
        width = {1: np.uint8, 2: np.uint16, 4: np.uint32}[frames.dtype.itemsize]
        self.values = np.asarray(frames).reshape(-1).view(width)
        self.scale, self.offset = scale, offset

    @classmethod
    def of(
        cls, store: FrameStore, left: int, right: int, *, ids: Iterable[str] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """The frames of a store, or of some of its utterances; an unknown id raises InputError."""
        if ids is None:
            begins, ends = store.offsets[:-1], store.offsets[1:]
        else:
            bounds = np.array(sorted(store.bounds(utterance_id) for utterance_id in ids), dtype=np.int64)
            if len(bounds) == 0:
                raise InputError(f"{store.folder}: no utterance chosen")
            begins, ends = bounds[:, 0], bounds[:, 1]
        return cls(store.frames, begins, ends, left, right, dtype=dtype, scale=store.scale, offset=store.offset)

    def gather(self, global_frame_indices: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Rows of the store `(batch,)` int64 to `(batch, (left + 1 + right) * dim)` of `dtype`.

        An index that is in none of the utterances raises IndexError.
        """
        indices = np.ascontiguousarray(global_frame_indices, dtype=np.int64)
        spliced = np.empty((len(indices), self.dim), dtype=self.values.dtype)
        bad = _gather(self.values, self.begins, self.ends, indices, self.left, self.right, self.frame_dim, spliced)
        if bad >= 0:
            raise IndexError(f"frame {indices[bad]} is in no utterance")
        result = torch.from_numpy(spliced).view(self.stored).to(self.dtype)
        return result if self.stored != torch.uint8 else result.mul_(self.scale).add_(self.offset)


class SplicedFramesOnDevice:
    """The same frames in the memory of a device, gathered there."""

    def __init__(self, frames: SplicedFrames, device: torch.device) -> None:
        stored = torch.from_numpy(np.array(frames.values)).view(frames.stored).view(-1, frames.frame_dim)
        lengths = frames.ends - frames.begins
        rows = np.concatenate([np.arange(begin, end) for begin, end in zip(frames.begins, frames.ends, strict=True)])
        first, last = np.full(len(stored), -1, np.int64), np.full(len(stored), -1, np.int64)
        first[rows], last[rows] = np.repeat(frames.begins, lengths), np.repeat(frames.ends - 1, lengths)
        self._frames, self._dtype = stored.to(device), frames.dtype
        self._first, self._last = torch.from_numpy(first).to(device), torch.from_numpy(last).to(device)
        self._window = torch.arange(-frames.left, frames.right + 1, device=device)
        self._scaled = frames.stored == torch.uint8
        self._scale, self._offset = frames.scale, frames.offset

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of the store (batch,) int64, on the device -> (batch, (left + 1 + right) * dim)."""
        around = (rows[:, None] + self._window).clamp(self._first[rows, None], self._last[rows, None])
        spliced = self._frames[around].flatten(1).to(self._dtype)
        return spliced.mul_(self._scale).add_(self._offset) if self._scaled else spliced


@njit(nogil=True, cache=True)
def _gather(
    values: np.ndarray, begins: np.ndarray, ends: np.ndarray, indices: np.ndarray, left: int, right: int,
    dim: int, spliced: np.ndarray,
) -> int:
    """Copy windows of rows; the position of the first index that is in no utterance, or -1.

    Places within arrays are unsigned: a signed index might be negative, and is looked at value by value.
    """
    size, row_size = np.uint64((left + 1 + right) * dim), np.uint64(dim)
    for b in range(len(indices)):
        row = indices[b]
        utterance = np.searchsorted(begins, row, side="right") - 1
        if utterance < 0 or row >= ends[utterance]:
            return b
        first, last = begins[utterance], ends[utterance] - 1
        target = spliced[b]
        if row - left >= first and row + right <= last:
            start = np.uint64((row - left) * dim)
            for i in range(size):
                target[i] = values[start + i]
        else:
            for k in range(left + 1 + right):
                start = np.uint64(min(max(row + k - left, first), last) * dim)
                place = np.uint64(k * dim)
                for i in range(row_size):
                    target[place + i] = values[start + i]
    return -1
