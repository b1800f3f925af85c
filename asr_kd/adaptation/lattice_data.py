"""Minibatches of whole transcribed utterances with their lattices, for adaptation by a sequence criterion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asr_kd.adaptation.data import AdaptationData, TaughtUtterance
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.lattices.lattice import Lattice
from asr_kd.sequence.accuracies import TransitionTable, frame_accuracies
from asr_kd.sequence.config import CriterionConfig
from asr_kd.sequence.data import UtteranceBatch
from asr_kd.sequence.lattice_batch import LatticeBatch


@dataclass(frozen=True)
class TaughtLattice:
    """The lattice of an utterance by the unadapted network, and its forced alignment, transition-ids (frames,)."""

    lattice: Lattice
    transition_ids: NDArray[np.int32]


@dataclass(frozen=True)
class TaughtLattices:
    """Lattices by utterance, and what their transition-ids mean."""

    utterances: Mapping[str, TaughtLattice]
    table: TransitionTable


class LatticeAdaptationData:
    """The frames of `frames`, whole utterances at a time, with lattices; a `TrainingExamples`.

    What is trained on and judged is as there, but nothing is replayed: replay needs frames alone. InputError: a
    criterion other than smbr and mpe, an utterance without a lattice or whose lattice has other frames.
    """

    has_unlabelled = True
    num_pdfs_needed = 0

    def __init__(
        self, frames: AdaptationData, utterances: Sequence[TaughtUtterance], held_out: Sequence[TaughtUtterance],
        lattices: TaughtLattices, criterion: CriterionConfig,
    ) -> None:
        if criterion.criterion not in ("smbr", "mpe"):
            raise InputError(f"adaptation by the criterion {criterion.criterion}: expected smbr or mpe")
        together = [*utterances, *held_out]
        for one in together:
            taught = lattices.utterances.get(one.id)
            if taught is None or taught.lattice.num_frames != len(one.features):
                raise InputError(f"utterance {one.id} has no lattice of its {len(one.features)} frames")
        self._frames, self._table, self._criterion = frames, lattices.table, criterion
        self._taught = [lattices.utterances[one.id] for one in together]
        self._ids = [one.id for one in together]
        self._ends = np.cumsum([len(one.features) for one in together])
        self._lengths = np.diff(self._ends, prepend=0)
        self._trained = np.arange(len(utterances))
        judged = np.arange(len(utterances), len(together))
        self._judged = judged if len(judged) else self._trained[:1]
        self.splice, self.input_dim = frames.splice, frames.input_dim
        self.targets_digest = frames.targets_digest
        self.digest = hash_json([frames.digest, criterion.model_dump(mode="json"), *(
            hash_bytes(np.ascontiguousarray(one.lattice.targets).tobytes() + one.transition_ids.tobytes())
            for one in self._taught)])

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Utterances in minibatches of as many frames as fit, one utterance at least, put together once for a seed;
        their order is that of the epoch."""
        together = self._filled(np.random.default_rng([seed]).permutation(self._trained), batch_size)
        return [together[number] for number in np.random.default_rng([seed, epoch]).permutation(len(together))]

    def cv_batches(self, batch_size: int) -> list[NDArray[np.int64]]:
        """All held-out utterances."""
        return self._filled(self._judged, batch_size)

    def minibatch(self, indices: NDArray[np.int64]) -> UtteranceBatch:
        """Return the frames of utterances, one after the other, with their lattices and accuracies."""
        rows = np.concatenate([np.arange(self._ends[number] - self._lengths[number], self._ends[number])
                               for number in indices])
        frames = self._frames.minibatch(rows)
        taught = [self._taught[number] for number in indices]
        batch = LatticeBatch.of([one.lattice for one in taught], self._table.pdfs)
        alignment = torch.from_numpy(np.concatenate([one.transition_ids for one in taught]).astype(np.int64))
        accuracies = frame_accuracies(
            batch, alignment, self._table, "state" if self._criterion.criterion == "smbr" else "phone",
            self._criterion.one_silence_class)
        return UtteranceBatch(frames.inputs, frames.pdf_ids, frames.targets, lattices=batch, accuracies=accuracies)

    def utterances(self, indices: NDArray[np.int64]) -> list[str]:
        """The ids of the utterances of a batch."""
        return [self._ids[number] for number in indices]

    def hold_on(self, device: torch.device) -> None:
        """Whole utterances and their lattices are put together on the CPU."""

    def _filled(self, numbers: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
        batches: list[list[int]] = [[]]
        frames = 0
        for number in numbers:
            if batches[-1] and frames + self._lengths[number] > batch_size:
                batches.append([])
                frames = 0
            batches[-1].append(int(number))
            frames += int(self._lengths[number])
        return [np.array(batch, np.int64) for batch in batches]
