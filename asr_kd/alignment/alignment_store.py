"""Alignments on disk: transition-ids of all utterances in one file, tied to the model that they are of."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from asr_kd.core.arrays import read_npy
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_json, read_json, write_json
from asr_kd.core.own_folders import FolderKind
from asr_kd.hmm.model import HmmModel

_FORMAT = 1
_INDEX, _NUMBERS = "alignments.json", "transition_ids.npy"
_ALIGNMENTS = FolderKind("store of alignments", (_INDEX, _NUMBERS))


class AlignmentWriter:
    """Writes alignments as they are made: `with AlignmentWriter(folder, model) as writer: writer.add(id, ids)`.

    The folder is whole or absent. `drops`, set before the end, is `Drops.as_dict()` of the alignment; it is kept with
    them.
    """

    def __init__(self, folder: Path, model: HmmModel) -> None:
        self.folder = Path(folder)
        self.drops: Mapping[str, Any] | None = None
        self._model = model
        self._frames: dict[str, int] = {}
        self._hash = hashlib.sha256()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._temporary = self._stack.enter_context(atomic_folder(self.folder, _ALIGNMENTS))
        self._file = self._stack.enter_context(open(self._temporary / _NUMBERS, "wb"))
        _write_header(self._file, 0)
        return self

    def add(self, utterance: str, transition_ids: np.ndarray) -> None:
        """Append `(frames,)`. InputError for ids that are not of the model, or an utterance that was added before."""
        ids = np.ascontiguousarray(transition_ids, dtype=np.int32)
        if len(ids) and not 1 <= ids.min() <= ids.max() <= self._model.transitions.num_transition_ids:
            raise InputError(f"{utterance}: transition-ids {ids.min()}..{ids.max()} are not of the model "
                             f"{self._model.name}")
        if utterance in self._frames:
            raise InputError(f"{self.folder}: utterance {utterance} is aligned twice; ids must be unique")
        self._file.write(ids.data)
        self._hash.update(ids.data)
        self._frames[utterance] = len(ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._finish()
            except BaseException as fault:
                self._stack.__exit__(type(fault), fault, fault.__traceback__)
                raise
        self._stack.__exit__(kind, error, traceback)

    def _finish(self) -> None:
        num_frames = sum(self._frames.values())
        self._file.seek(0)
        _write_header(self._file, num_frames)
        self._file.flush()
        write_json(self._temporary / _INDEX, {
            "format": _FORMAT, "model_digest": self._model.digest, "num_frames": num_frames,
            "content": self._hash.hexdigest(), "drops": self.drops, "utterances": self._frames})


def write_alignments(folder: Path, alignments: Mapping[str, np.ndarray], model: HmmModel,
                     drops: Mapping[str, Any] | None = None) -> None:
    """Write transition-ids (id -> int32 `(frames,)`) to a folder, sorted by id; see AlignmentWriter."""
    with AlignmentWriter(folder, model) as writer:
        for utterance in sorted(alignments):
            writer.add(utterance, alignments[utterance])
        writer.drops = drops


class AlignmentStore(Mapping[str, np.ndarray]):
    """Utterance id -> transition-ids int32 `(frames,)`, as AlignmentWriter wrote them; memory-mapped, read-only."""

    def __init__(self, folder: Path, description: dict[str, Any], transition_ids: np.ndarray) -> None:
        self.folder = folder
        self.ids: list[str] = list(description["utterances"])
        self.model_digest: str = description["model_digest"]
        self.drops: dict[str, Any] | None = description["drops"]
        self.digest: str = hash_json(description)
        self.transition_ids = transition_ids
        self.offsets = np.concatenate([[0], np.cumsum(list(description["utterances"].values()), dtype=np.int64)])

    @staticmethod
    def open(folder: Path, model: HmmModel | None = None) -> "AlignmentStore":
        """Open a folder of alignments. InputError where it is damaged, or of another model than `model`."""
        path = Path(folder) / _INDEX
        description = read_json(path)
        numbers = path.with_name(_NUMBERS)
        if not isinstance(description, dict) or description.get("format") != _FORMAT:
            raise InputError(f"{path}: not alignments of format {_FORMAT}; align again")
        if not _is_complete(description):
            raise InputError(f"{path}: damaged: not what an alignment writes there; align again")
        if model is not None and model.digest != description["model_digest"]:
            raise InputError(f"{folder}: aligned with the model {description['model_digest'][:8]}, not with "
                             f"{model.name}; align again with this one")
        transition_ids = read_npy(numbers, "alignments", "align again", mapped=True)
        total = sum(description["utterances"].values())
        content = hashlib.sha256(np.ascontiguousarray(transition_ids).data).hexdigest()
        if transition_ids.shape != (total,) or transition_ids.dtype != np.int32 or content != description["content"]:
            raise InputError(f"{numbers}: not the {total} frames that {path.name} describes; align again")
        if len(transition_ids) and transition_ids.min() < 1:
            raise InputError(f"{numbers}: damaged alignments: transition-id {transition_ids.min()}; align again")
        if model is not None and transition_ids.max(initial=0) > model.transitions.num_transition_ids:
            raise InputError(f"{numbers}: transition-id {transition_ids.max()}, the model {model.name} has "
                             f"{model.transitions.num_transition_ids}; align again")
        return AlignmentStore(Path(folder), description, transition_ids)

    def __getitem__(self, utterance: str) -> np.ndarray:
        i = self._index[utterance]
        return self.transition_ids[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def check_lengths(self, num_frames: Mapping[str, int]) -> None:
        """InputError where an aligned utterance has another number of frames (id -> frames of the features)."""
        for utterance, begin, end in zip(self.ids, self.offsets[:-1], self.offsets[1:], strict=True):
            if utterance in num_frames and num_frames[utterance] != end - begin:
                raise InputError(f"{utterance}: {end - begin} frames in {self.folder}, {num_frames[utterance]} frames "
                                 "of features; align these features again")

    def pdf_ids(self, model: HmmModel, utterances: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Utterance id -> pdf-ids int32 `(frames,)`. InputError where the model is another one."""
        if model.digest != self.model_digest:
            raise InputError(f"{self.folder}: aligned with the model {self.model_digest[:8]}, not with {model.name}")
        return {u: model.transitions.pdf_ids[self[u]] for u in (self.ids if utterances is None else utterances)}

    @cached_property
    def _index(self) -> dict[str, int]:
        return {utterance: i for i, utterance in enumerate(self.ids)}


def _is_complete(description: dict[str, Any]) -> bool:
    utterances = description.get("utterances")
    return (isinstance(utterances, dict) and all(type(frames) is int and frames >= 0
                                                     for frames in utterances.values())
            and isinstance(description.get("drops"), dict | None) and isinstance(description.get("model_digest"), str)
            and {"model_digest", "content", "drops"} <= description.keys())


def _write_header(file: IO[bytes], num_frames: int) -> None:
    """The header of an array `(num_frames,)`; its length is the same for all of them, so it can be written again."""
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)), "fortran_order": False,
                   "shape": (num_frames,)}
    np.lib.format.write_array_header_1_0(file, description)
