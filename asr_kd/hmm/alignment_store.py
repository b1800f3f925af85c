"""Alignments on disk: transition-ids of all utterances in one file, tied to the model that they are of."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_bytes, hash_json, read_json, write_json
from asr_kd.hmm.model import HmmModel

_FORMAT = 1


def write_alignments(folder: Path, alignments: Mapping[str, np.ndarray], model: HmmModel,
                     drops: Mapping[str, Any] | None = None) -> None:
    """Write transition-ids (id -> int32 `(frames,)`) to a folder that is whole or absent.

    `drops` is `Drops.as_dict()` of the alignment; it is kept with them.
    """
    ids = sorted(alignments)
    joined = np.concatenate([np.asarray(alignments[u], dtype=np.int32) for u in ids] or [np.empty(0, np.int32)])
    if len(joined) and not 1 <= joined.min() <= joined.max() <= model.transitions.num_transition_ids:
        raise InputError(f"transition-ids {joined.min()}..{joined.max()} are not of the model {model.name}")
    with atomic_folder(Path(folder)) as temporary:
        np.save(temporary / "transition_ids.npy", joined)
        write_json(temporary / "alignments.json", {
            "format": _FORMAT, "model_digest": model.digest, "num_frames": len(joined),
            "content": hash_bytes(joined.tobytes()), "drops": drops,
            "utterances": {u: len(alignments[u]) for u in ids}})


class AlignmentStore(Mapping[str, np.ndarray]):
    """Utterance id -> transition-ids int32 `(frames,)`, as `write_alignments` wrote them."""

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
        path = Path(folder) / "alignments.json"
        description = read_json(path)
        numbers = path.with_name("transition_ids.npy")
        if not isinstance(description, dict) or description.get("format") != _FORMAT:
            raise InputError(f"{path}: not alignments of format {_FORMAT}; align again")
        if model is not None and model.digest != description["model_digest"]:
            raise InputError(f"{folder}: aligned with the model {description['model_digest'][:8]}, not with "
                             f"{model.name}; align again with this one")
        try:
            transition_ids = np.load(numbers, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{numbers}: missing or damaged ({error}); align again") from error
        total = sum(description["utterances"].values())
        if transition_ids.shape != (total,) or hash_bytes(transition_ids.tobytes()) != description["content"]:
            raise InputError(f"{numbers}: not the {total} frames that {path.name} describes; align again")
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
