"""Minibatches of single frames, gathered from the frame store by global frame index, and what training asks of data."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.core.log import get_logger
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.splice import SplicedFrames, SplicedFramesOnDevice

logger = get_logger(__name__)

SPEAKERS = "speakers"
"""Target of a minibatch: the number of each frame's speaker (batch,) int64, -1 for none (asr_kd.models.lhuc)."""

_PREFETCHED = 4


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Frames drawn from anywhere in the corpus."""

    inputs: Tensor  # (batch, (left + 1 + right) * dim), spliced
    pdf_ids: Tensor  # (batch,) int64
    targets: dict[str, Tensor] = field(default_factory=dict)  # what an objective learns from beside pdf-ids

    @property
    def frame_weights(self) -> Tensor | None:
        """What each frame's loss is multiplied by (batch,), the target `frame_weights`; None where all count alike."""
        return self.targets.get("frame_weights")

    def to(self, device: torch.device) -> "Minibatch":
        """This minibatch on `device`, inputs as float32."""
        return Minibatch(self.inputs.to(device).float(), self.pdf_ids.to(device),
                         {name: value.to(device) for name, value in self.targets.items()})


class TrainingExamples(Protocol):
    """The source of the training engine's minibatches: frames here, utterances in asr_kd/sequence.

    input_dim: spliced values a frame; splice: frames spliced; num_pdfs_needed: pdfs that a network must have;
    has_unlabelled: whether some frames to train on have no pdf-id; digest: identifies the content; targets_digest: of
    what there is beside pdf-ids, if anything.
    Batches are index arrays that only the examples themselves can read.
    """

    @property
    def input_dim(self) -> int: ...

    @property
    def splice(self) -> int: ...

    @property
    def num_pdfs_needed(self) -> int: ...

    @property
    def has_unlabelled(self) -> bool: ...

    @property
    def digest(self) -> str: ...

    @property
    def targets_digest(self) -> str | None: ...

    def batches(self, batch_size: int, seed: int, epoch: int) -> Sequence[NDArray[np.int64]]:
        """The minibatches of one epoch, of at most `batch_size` frames; equally many in every epoch."""

    def cv_batches(self, batch_size: int) -> Sequence[NDArray[np.int64]]:
        """All held-out examples, in minibatches of at most `batch_size` frames."""

    def minibatch(self, indices: NDArray[np.int64]) -> "Minibatch":
        """Return the minibatch of the examples that a batch names. Called in a thread."""

    def utterances(self, indices: NDArray[np.int64]) -> list[str]:
        """The ids of the utterances in a batch, each once."""

    def hold_on(self, device: torch.device) -> None:
        """Gather from the device's own memory from now on, where that makes sense and all fits there."""


class FrameTargets(Protocol):
    """Something that knows more of each frame than its pdf-id, such as cached soft targets."""

    @property
    def digest(self) -> str:
        """Identifies the content."""

    @property
    def num_frames(self) -> int:
        """Frames that it knows of, those of the frame store."""

    @property
    def num_bytes(self) -> int:
        """Return the bytes that it takes on a device."""

    def gather(self, frame_indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Tensors whose first dimension is the batch, for global frame indices (batch,). Called in a thread."""

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The same of all frames, in order, in the device's memory; types may be narrower."""


class TrainingData:
    """Spliced frames with their pdf-ids, parted by speaker into training and held-out (CV) frames.

    pdf_ids (store.num_frames,): aligned with the store's rows, -1 where a frame has no alignment; such frames are drawn
    only if `unlabelled`, for an objective that learns from targets alone, and never judged. The held-out speakers are
    those named, or `held_out_speakers` many of those with alignments, chosen by the hash of their ids: the same in
    every run, whatever the seed and whatever unlabelled speech there is. Of perturbed speech no held-out speaker is in
    training at any speed, and CV hears the speech as it was spoken, so that it is the same with and without, and in
    sequence training. At utterance ends the edge frame is repeated. With `independent_share` minibatches say whose each
    frame is (`SPEAKERS`), but for that share of the utterances. Arrays that do not fit together, unknown speakers and
    empty parts raise InputError.
    """

    def __init__(self, store: FrameStore, pdf_ids: NDArray[np.integer[Any]], *, left: int = 7, right: int = 7,
                 held_out_speakers: int | list[str] = 10, targets: FrameTargets | None = None,
                 unlabelled: bool = False, independent_share: float | None = None) -> None:
        if pdf_ids.shape != (store.num_frames,):
            raise InputError(f"features have {store.num_frames} frames, alignments {pdf_ids.shape}: they are not "
                             "of the same utterances; make the alignments again from these features")
        if targets is not None and targets.num_frames != store.num_frames:
            raise InputError(f"features have {store.num_frames} frames, soft targets {targets.num_frames}: they are "
                             "not of the same frames; make the soft targets again")
        self.splice = left + 1 + right
        self.input_dim = store.dim * self.splice
        labelled = pdf_ids >= 0
        self.held_out_speakers, chosen = hold_out(
            store, held_out_speakers, [name for name in store.ids if labelled[slice(*store.bounds(name))].any()])
        self.num_pdfs_needed = int(pdf_ids.max(initial=-1)) + 1
        self._pdf_ids = pdf_ids
        self._targets = targets
        self.targets_digest = targets.digest if targets else None
        # As stored: converting in the gathering thread would set its own pool of cores against the trainer's.
        stored = torch.float16 if store.dtype == "float16" else torch.float32
        self._spliced = SplicedFrames.of(store, left, right, dtype=stored)
        held_out, as_spoken = np.zeros(store.num_frames, bool), np.zeros(store.num_frames, bool)
        for utterance_id in store.ids:
            rows = slice(*store.bounds(utterance_id))
            held_out[rows] = utterance_id in chosen
            as_spoken[rows] = utterance_id not in store.sources
        self.train_frames: NDArray[np.int64] = np.flatnonzero((labelled | unlabelled) & ~held_out)
        self.cv_frames: NDArray[np.int64] = np.flatnonzero(labelled & held_out & as_spoken)
        for what, frames in (("training", self.train_frames), ("held-out", self.cv_frames)):
            if not frames.size:
                raise InputError(f"there are no {what} frames with an alignment ({len(self.held_out_speakers)} "
                                 f"speakers held out); check held_out_speakers and the alignments")
        self.has_unlabelled = not bool(labelled[self.train_frames].all())
        labels = hash_bytes(np.ascontiguousarray(pdf_ids, np.int32).tobytes())
        self._ids, self._ends = store.ids, store.offsets[1:]
        self._held: _Held | None = None
        self.num_speakers, self._speakers = 0, None
        if independent_share is not None:
            self.num_speakers, self._speakers = _number_speakers(store, chosen, independent_share)
        self.digest = hash_json([frames_digest(store), labels, left, right, self.held_out_speakers,
                                 targets.digest if targets else None, *(["unlabelled"] if unlabelled else []),
                                 *([sorted(store.sources)] if store.sources else [])])

    def hold_on(self, device: torch.device) -> None:
        """Keep frames, labels and targets in a GPU's memory, where they leave half of it free."""
        targets = self._targets.num_bytes if self._targets else 0
        needed = self._spliced.values.nbytes + 24 * len(self._pdf_ids) + targets
        if device.type == "cuda" and self._speakers is None and 2 * needed < torch.cuda.mem_get_info(device)[0]:
            self._held = _Held(self._spliced, self._pdf_ids, self._targets, device)

    def minibatch(self, frame_indices: NDArray[np.int64]) -> Minibatch:
        """Gather the frames of `frame_indices` (batch,), global rows of the store."""
        if self._held is not None:
            return self._held.minibatch(frame_indices)
        labels = torch.from_numpy(self._pdf_ids[frame_indices].astype(np.int64))
        targets = self._targets.gather(frame_indices) if self._targets else {}
        if self._speakers is not None:
            targets[SPEAKERS] = torch.from_numpy(self._speakers[frame_indices])
        return Minibatch(self._spliced.gather(frame_indices), labels, targets)

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """The training frames in the random order of one epoch, a function of seed and epoch only; the last batch,
        where it would not be full, is left out."""
        order = np.random.default_rng([seed, epoch]).permutation(self.train_frames)
        size = min(batch_size, len(order))
        return [order[begin:begin + size] for begin in range(0, len(order) - size + 1, size)]

    def cv_batches(self, batch_size: int) -> list[NDArray[np.int64]]:
        """All held-out frames."""
        return [self.cv_frames[begin:begin + batch_size] for begin in range(0, len(self.cv_frames), batch_size)]

    def utterances(self, frame_indices: NDArray[np.int64]) -> list[str]:
        """Ids of the utterances that these frames (batch,) come from, in the order of the store."""
        return [self._ids[number] for number in np.unique(np.searchsorted(self._ends, frame_indices, side="right"))]


def _number_speakers(
    store: FrameStore, held_out: set[str], independent_share: float
) -> tuple[int, NDArray[np.int64]]:
    """The number of training speakers, and the number of each frame's; -1 for held-out ones and, by the hash of their
    ids, for such a share of the utterances."""
    training = [name for name in store.ids if name not in held_out]
    numbers = {speaker: number for number, speaker in enumerate(sorted({store.speakers[name] for name in training}))}
    speakers = np.full(store.num_frames, -1, np.int64)
    for name in training:
        if int.from_bytes(_order(name)[:4]) >= independent_share * (1 << 32):
            speakers[slice(*store.bounds(name))] = numbers[store.speakers[name]]
    return len(numbers), speakers


class _Held:
    """Everything of a TrainingData that minibatches are made of, in the memory of a device."""

    def __init__(self, spliced: SplicedFrames, pdf_ids: NDArray[np.integer[Any]], targets: FrameTargets | None,
                 device: torch.device) -> None:
        self._device, self._spliced = device, SplicedFramesOnDevice(spliced, device)
        self._pdf_ids = torch.from_numpy(pdf_ids.astype(np.int64)).to(device)
        self._targets = targets.on(device) if targets else {}

    def minibatch(self, frame_indices: NDArray[np.int64]) -> Minibatch:
        rows = torch.from_numpy(frame_indices).to(self._device)
        return Minibatch(self._spliced.gather(rows), self._pdf_ids[rows],
                         {name: values[rows] for name, values in self._targets.items()})


def prefetch(examples: TrainingExamples, batches: Iterable[NDArray[np.int64]],
             shards: int = 1) -> Iterator[list[Minibatch | None]]:
    """Yield minibatches in order, in so many shards each, gathered by a thread a few steps ahead of their use.

    A shard takes every so many-th example of its minibatch; an empty shard is None.
    """
    def gather(batch: NDArray[np.int64]) -> list[Minibatch | None]:
        return [examples.minibatch(shard) if len(shard) else None for shard in split_batch(batch, shards)]

    waiting: list[Future[list[Minibatch | None]]] = []
    with ThreadPoolExecutor(1, "minibatches") as pool:
        try:
            for indices in batches:
                waiting.append(pool.submit(gather, indices))
                if len(waiting) > _PREFETCHED:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def split_batch(batch: NDArray[np.int64], shards: int) -> list[NDArray[np.int64]]:
    """Return what each shard takes of a batch."""
    return [batch[shard::shards] for shard in range(shards)]


def frames_digest(store: FrameStore) -> str:
    """Identifies the very frames of a store: recipe, utterances, values (reads all of them, about 1 GB/s)."""
    crc = 0
    for begin in range(0, store.num_frames, 1 << 18):
        crc = zlib.crc32(np.ascontiguousarray(store.frames[begin:begin + (1 << 18)]).data.cast("B"), crc)
    return hash_json([store.digest, store.ids, store.offsets.tolist(), crc])


def hold_out(
    store: FrameStore, wanted: int | list[str], labelled: Sequence[str]
) -> tuple[list[str], set[str]]:
    """Choose the held-out speakers, by `choose_held_out`; they, and all utterances of theirs.

    Where all `labelled` utterances are of one speaker, about a tenth of them are held out in place
    of speakers, by the hash of their ids, with their copies at other speeds; a warning says so.
    """
    if isinstance(wanted, int) and wanted and len({store.source_speaker(u) for u in labelled}) == 1:
        originals = sorted({u for u in labelled if u not in store.sources}, key=_order)
        chosen = set(originals[:max(1, round(len(originals) / 10))])
        logger.warning("train has one speaker: %d of %d utterances are held out in place of speakers",
                       len(chosen), len(originals))
        return [], {u for u in store.ids if _source_utterance(store, u) in chosen}
    speakers = choose_held_out(store, wanted, labelled)
    return speakers, {u for u in store.ids if store.source_speaker(u) in speakers}


def _source_utterance(store: FrameStore, utterance_id: str) -> str:
    source = store.sources.get(utterance_id)
    return utterance_id if source is None else source.utterance


def _order(name: str) -> bytes:
    """The same order in every run, and none that names would have."""
    return hashlib.sha256(name.encode()).digest()


def choose_held_out(store: FrameStore, wanted: int | list[str], labelled: Iterable[str]) -> list[str]:
    """Choose the held-out speakers, sorted; none of their speech is trained on, at whatever speed.

    Those named (by themselves, or by the name of a copy of theirs), or as many as wanted of the speakers of the
    `labelled` utterances, by the hash of their ids.
    """
    speakers = {store.source_speaker(utterance_id) for utterance_id in store.ids}
    if isinstance(wanted, int):
        people = {store.source_speaker(utterance_id) for utterance_id in labelled}
        if 0 < len(people) <= wanted:
            raise InputError(f"held_out_speakers is {wanted}, but train has {len(people)} speakers with alignments")
        return sorted(sorted(people, key=_order)[:wanted])
    of_copies = {store.speakers[name]: source.speaker for name, source in store.sources.items()}
    chosen = {of_copies.get(name, name) for name in wanted}
    unknown = sorted(chosen - speakers)
    if unknown:
        raise InputError(f"held_out_speakers names {unknown[0]!r}, which is no speaker of the training data")
    return sorted(chosen)
