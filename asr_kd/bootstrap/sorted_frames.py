"""The frames of all aligned utterances, sorted by pdf block by block, in a temporary file."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import IO, Self

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads

_COPIED = 1 << 14
BLOCK_FRAMES = 1 << 18


class AlignedFrames:
    """Frames sorted by pdf, so that a pass reads those of one pdf together.

    Made of `(n, dim)` float32 and their pdfs `(n,)`; a frame with a negative one is left out. `frames` is
    `(dim, kept)`, those of `pdf` are the columns `bounds[pdf]` to `bounds[pdf + 1]`.
    """

    def __init__(self, frames: np.ndarray, pdf_ids: np.ndarray, num_pdfs: int) -> None:
        order = np.argsort(pdf_ids, kind="stable")
        order = order[np.searchsorted(pdf_ids[order], 0):]
        self.frames = np.empty((frames.shape[1], len(order)), dtype=frames.dtype)
        for begin in range(0, len(order), _COPIED):
            self.frames[:, begin : begin + _COPIED] = frames[order[begin : begin + _COPIED]].T
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(pdf_ids[order], minlength=num_pdfs))])

    @property
    def num_frames(self) -> int:
        return int(self.frames.shape[1])


class SortedFrames:
    """All frames of aligned utterances as blocks of AlignedFrames, to be read in the same order again and again.

    They lie in a temporary file (in the folder that TMPDIR names) of four bytes a value; in memory there is never more
    than a few blocks, whatever the corpus. `inputs(utterance)` is `(frames, dim)`, `pdf_ids` utterance -> `(frames,)`.
    InputError where the two differ in length or values are not finite.
    """

    def __init__(self, inputs: Callable[[str], np.ndarray], pdf_ids: Mapping[str, np.ndarray], num_pdfs: int,
                 workers: int | None = None, block_frames: int = BLOCK_FRAMES) -> None:
        self.occupancy = np.zeros(num_pdfs)
        self.dim = 0
        self._bounds: list[np.ndarray] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="asr-kd-frames-")  # noqa: SIM115 (closed in close)
        buffer = np.empty((0, 0), dtype=np.float32)
        pdfs = np.empty(block_frames, dtype=np.int32)
        filled = 0
        for utterance, matrix in zip(pdf_ids, map_threads(inputs, pdf_ids, workers), strict=True):
            of_utterance = pdf_ids[utterance]
            if len(matrix) != len(of_utterance):
                raise InputError(f"{utterance}: {len(of_utterance)} frames aligned, {len(matrix)} frames of features; "
                                 "align these features again")
            if not np.isfinite(matrix).all():
                raise InputError(f"{utterance}: features that are not finite; extract them again")
            if not self.dim:
                self.dim = matrix.shape[1]
                buffer = np.empty((block_frames, self.dim), dtype=np.float32)
            done = 0
            while done < len(matrix):
                count = min(block_frames - filled, len(matrix) - done)
                buffer[filled : filled + count] = matrix[done : done + count]
                pdfs[filled : filled + count] = of_utterance[done : done + count]
                filled, done = filled + count, done + count
                if filled == block_frames:
                    self._write(AlignedFrames(buffer, pdfs, num_pdfs))
                    filled = 0
        if filled:
            self._write(AlignedFrames(buffer[:filled], pdfs[:filled], num_pdfs))

    def __iter__(self) -> Iterator[AlignedFrames]:
        """The blocks; each is overwritten by the next one."""
        self._file.seek(0)
        largest = max((int(b[-1]) for b in self._bounds), default=0)
        memory = np.empty(self.dim * largest, dtype=np.float32)
        for bounds in self._bounds:
            block = AlignedFrames.__new__(AlignedFrames)
            values = memory[: self.dim * int(bounds[-1])]
            view = values.data.cast("B")
            read = 0
            while read < len(view):
                read += self._file.readinto(view[read:])  # type: ignore[attr-defined]
            block.frames, block.bounds = values.reshape(self.dim, -1), bounds
            yield block

    @property
    def num_frames(self) -> int:
        return int(self.occupancy.sum())

    def close(self) -> None:
        """Give the file's space back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _write(self, block: AlignedFrames) -> None:
        if block.num_frames == 0:
            return
        self._bounds.append(block.bounds)
        self.occupancy += np.diff(block.bounds)
        self._file.write(block.frames.data.cast("B"))
