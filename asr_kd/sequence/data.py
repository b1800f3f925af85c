"""Minibatches of whole utterances with their lattices."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.splice import SplicedFrames
from asr_kd.lattices.training_lattices import TrainingLattices
from asr_kd.sequence.accuracies import TransitionTable, Unit, frame_accuracies, phone_errors
from asr_kd.sequence.config import CriterionConfig
from asr_kd.sequence.criteria import Numerator, boosted
from asr_kd.sequence.lattice_batch import LatticeBatch
from asr_kd.sequence.teacher_paths import TeacherPaths
from asr_kd.training.data import FrameTargets, Minibatch, frames_digest, hold_out


@dataclass(frozen=True, slots=True)
class UtteranceBatch(Minibatch):
    """The frames of some utterances, one after the other, and their lattices.

    accuracies: (arcs,), for smbr and mpe; numerator: for mmi and distillation.
    """

    lattices: LatticeBatch = field(kw_only=True)
    accuracies: Tensor | None = field(default=None, kw_only=True)
    numerator: Numerator | None = field(default=None, kw_only=True)

    def to(self, device: torch.device) -> "UtteranceBatch":
        """This batch on `device`, inputs as float32."""
        frames = Minibatch(self.inputs, self.pdf_ids, self.targets).to(device)
        return UtteranceBatch(
            frames.inputs, frames.pdf_ids, frames.targets, lattices=self.lattices.to(device),
            accuracies=None if self.accuracies is None else self.accuracies.to(device),
            numerator=None if self.numerator is None else self.numerator.to(device))


class UtteranceData:
    """Utterances with features and a lattice, parted by speaker into training and held-out (CV) ones.

    The held-out utterances are those of frame training (TrainingData): of perturbed speech no held-out speaker is in
    training at any speed, and CV hears the speech as it was spoken.

    `alignments` (transition-ids by utterance) are the numerators; `criterion` distillation takes `teacher_paths`
    instead and needs none, unless the frame loss `wants_labels`. What cannot be learnt from is in `drops`: utterances
    without lattice, alignment or numerator, of another number of frames than their features, longer than `max_frames`
    or with more than `max_arcs` arcs; no minibatch exceeds either. Above the share `max_dropped` of them WorkError is
    raised. InputError: alignments or soft targets of other speech, empty parts.
    """

    def __init__(
        self, store: FrameStore, lattices: TrainingLattices, table: TransitionTable,
        alignments: Mapping[str, NDArray[np.int32]], criterion: CriterionConfig, *, left: int = 7, right: int = 7,
        held_out_speakers: int | list[str] = 10, max_frames: int = 2048, max_arcs: int = 1_000_000,
        max_dropped: float = 0.05, targets: FrameTargets | None = None, teacher_paths: TeacherPaths | None = None,
        wants_labels: bool = False,
    ) -> None:
        self.splice = left + 1 + right
        self.input_dim = store.dim * self.splice
        self.num_pdfs_needed = int(table.pdfs.max()) + 1
        self.held_out_speakers, chosen = hold_out(
            store, held_out_speakers, [name for name in store.ids if name in alignments] or store.ids)
        self._store, self._lattices, self._table, self._alignments = store, lattices, table, alignments
        self._criterion, self._targets, self._teacher_paths = criterion, targets, teacher_paths
        self.targets_digest = targets.digest if targets else None
        stored = torch.float16 if store.dtype == "float16" else torch.float32
        self._spliced = SplicedFrames.of(store, left, right, dtype=stored)
        self._lengths, self._max_frames, self._max_arcs = np.diff(store.offsets), max_frames, max_arcs
        self.drops = Drops(len(store.ids), cap=max_dropped)
        self._is_supervised = criterion.criterion != "distillation"
        self._is_labelled = self._is_supervised or wants_labels
        self.has_unlabelled = not self._is_labelled
        kept = [number for number, (name, length) in enumerate(zip(store.ids, self._lengths, strict=True))
                if self._usable(name, length)]
        self.drops.check()
        names = [store.ids[number] for number in kept]
        held_out = np.array([name in chosen for name in names], bool)
        as_spoken = np.array([name not in store.sources for name in names], bool)
        self.train_utterances = np.array(kept, np.int64)[~held_out]
        self.cv_utterances = np.array(kept, np.int64)[held_out & as_spoken]
        for what, part in (("training", self.train_utterances), ("held-out", self.cv_utterances)):
            if not part.size:
                raise InputError(f"there are no {what} utterances with a lattice ({len(self.held_out_speakers)} "
                                 "speakers held out); check held_out_speakers and the lattices")
        aligned = {name: zlib.crc32(np.ascontiguousarray(alignments[name], np.int32).data)
                   for name in store.ids if name in alignments}
        self.digest = hash_json([
            frames_digest(store), lattices.digest, aligned, left, right, self.held_out_speakers, max_frames, max_arcs,
            targets.digest if targets else None, teacher_paths.digest if teacher_paths else None,
            *([sorted(store.sources)] if store.sources else [])])

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Training utterances in minibatches of at most `batch_size` frames, put together once for a seed; their order
        is that of the epoch."""
        together = self._filled(np.random.default_rng([seed]).permutation(self.train_utterances), batch_size)
        return [together[number] for number in np.random.default_rng([seed, epoch]).permutation(len(together))]

    def cv_batches(self, batch_size: int) -> list[NDArray[np.int64]]:
        """All held-out utterances, in minibatches no larger than those of training."""
        return self._filled(self.cv_utterances, min(batch_size, self._max_frames))

    def hold_on(self, device: torch.device) -> None:
        """Whole utterances and their lattices are put together on the CPU."""

    def utterances(self, indices: NDArray[np.int64]) -> list[str]:
        """Ids of the utterances of a batch."""
        return [self._store.ids[number] for number in indices]

    def minibatch(self, indices: NDArray[np.int64]) -> UtteranceBatch:
        """Frames, lattices and numerators of utterances."""
        names = self.utterances(indices)
        frames = np.concatenate([np.arange(*self._store.bounds(name)) for name in names])
        lattices = [self._lattices.lattices.word_lattice(name).expand() for name in names]
        batch = LatticeBatch.of(lattices, self._table.pdfs)
        alignment = torch.from_numpy(np.concatenate([
            self._alignments[name] if name in self._alignments else np.zeros(length, np.int32)
            for name, length in zip(names, self._lengths[indices], strict=True)]).astype(np.int64))
        pdf_ids = torch.from_numpy(self._table.pdfs[alignment.numpy()].astype(np.int64))
        config, accuracies, numerator = self._criterion, None, None
        if config.criterion in ("smbr", "mpe"):
            unit: Unit = "state" if config.criterion == "smbr" else "phone"
            accuracies = frame_accuracies(batch, alignment, self._table, unit, config.one_silence_class)
        elif config.criterion == "mmi":
            if config.boost:
                batch = boosted(batch, phone_errors(batch, alignment, self._table), config.boost)
            costs = [self._lattices.utterances[name].numerator_cost for name in names]
            numerator = Numerator.of_alignment(pdf_ids, -torch.tensor(costs, dtype=torch.float64))
        elif self._teacher_paths is not None:
            numerator = self._teacher_paths.gather(names)
        targets = self._targets.gather(frames) if self._targets else {}
        return UtteranceBatch(self._spliced.gather(frames), pdf_ids, targets, lattices=batch, accuracies=accuracies,
                              numerator=numerator)

    def _usable(self, name: str, frames: int) -> bool:
        known = self._lattices.utterances.get(name)
        if known is None:
            self.drops.drop(name, "no lattice")
        elif known.frames != frames:
            self.drops.drop(name, "lattice of other frames", f"{known.frames}, its features have {frames}")
        elif frames > self._max_frames:
            self.drops.drop(name, "longer than a minibatch", f"{frames} frames, batch_size is {self._max_frames}")
        elif known.arcs > self._max_arcs:
            self.drops.drop(name, "more arcs than a minibatch", f"{known.arcs} arcs, batch_arcs is {self._max_arcs}")
        elif self._is_labelled and name not in self._alignments:
            self.drops.drop(name, "no alignment")
        elif self._is_labelled and len(self._alignments[name]) != frames:
            self.drops.drop(name, "alignment of other frames",
                            f"{len(self._alignments[name])}, its features have {frames}")
        elif self._is_supervised and known.numerator_cost is None:
            self.drops.drop(name, "no numerator", "its alignment is no path of the graph that was searched, or "
                            "the lattices were made without alignments")
        return name not in self.drops

    def _filled(self, utterances: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
        """Utterances in their order, as many to a minibatch as fit."""
        batches: list[list[Any]] = [[]]
        frames = arcs = 0
        for number in utterances:
            more = self._lattices.utterances[self._store.ids[number]].arcs
            if batches[-1] and (frames + self._lengths[number] > batch_size or arcs + more > self._max_arcs):
                batches.append([])
                frames = arcs = 0
            batches[-1].append(number)
            frames += self._lengths[number]
            arcs += more
        return [np.array(batch, np.int64) for batch in batches]
