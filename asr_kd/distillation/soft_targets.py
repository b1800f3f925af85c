"""The cache of soft targets: for every frame the teacher's k best pdfs, in 16 bits, memory-mapped.

A folder with `pdf_ids.u16` (frames, k), `log_probs.f16` (frames, k), `log_tail.f16` (frames,), all little-endian
and in the order of the frame store's rows, and `soft_targets.json`. Log-probabilities are natural, of
softmax(logits / T); `log_tail` is the logarithm of the mass of all other pdfs. How a loss spreads that mass:
`asr_kd.distillation.objective.SparseDistillationLoss`.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import fsync_tree, hash_json, read_json, remove, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.progress import ProgressBar
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.splice import SplicedFrames
from asr_kd.training.data import frames_digest
from asr_kd.training.tuning import bfloat16_gains

logger = get_logger(__name__)

_CARD = "soft_targets.json"
_BLOCK = 1 << 15  # frames forwarded, written and check-summed at a time
_CHUNK = 2048  # frames forwarded at a time


class SoftTargetsKey(Config):
    """What soft targets depend on; a cache is good for exactly one key."""

    teacher: str = Field(description="digest of the teacher's model card")
    features: str = Field(description="asr_kd.training.data.frames_digest of the frame store")
    hmm: str = Field(description="digest of the HMM model: what pdf-ids mean")
    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(gt=0)


class _Card(Config):
    format: int = 1
    key: SoftTargetsKey
    num_frames: int
    num_pdfs: int
    precision: str
    block: int
    checksums: list[int]  # one a block, over its three arrays


class SoftTargets:
    """An opened cache; gathers minibatches of soft targets by global frame index (a `FrameTargets`)."""

    def __init__(self, folder: Path, card: _Card) -> None:
        self.key, self.num_frames, self.num_pdfs = card.key, card.num_frames, card.num_pdfs
        self.top_k = min(card.key.top_k, card.num_pdfs)
        self.digest = hash_json(card.model_dump())
        self._arrays = _map_arrays(folder, card.num_frames, self.top_k, "r")

    @staticmethod
    def open(folder: Path, key: SoftTargetsKey) -> "SoftTargets":
        """Open the cache of `key`. Another key, and a missing, truncated or damaged file, raise InputError."""
        folder = Path(folder)
        try:
            card = _Card.model_validate(read_json(folder / _CARD))
        except pydantic.ValidationError as error:
            raise InputError(f"{folder / _CARD}: not a card of soft targets "
                             f"({error.errors(include_url=False)[0]['msg']}); remove {folder}") from error
        _check_key(folder, card.key, key)
        targets = SoftTargets(folder, card)
        if len(card.checksums) != -(-card.num_frames // card.block):
            raise InputError(f"{folder / _CARD}: {len(card.checksums)} checksums for {card.num_frames} frames; remove "
                             f"{folder}")
        for index, expected in enumerate(card.checksums):
            begin = index * card.block
            if _checksum(targets._arrays, begin, min(begin + card.block, card.num_frames)) != expected:
                raise InputError(f"{folder}: soft targets of frames {begin} and on are damaged (checksum differs); "
                                 f"remove {folder} and make them again")
        return targets

    def gather(self, frame_indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """soft_pdf_ids int64 and soft_log_probs float32 (batch, k), soft_log_tail float32 (batch,)."""
        pdf_ids, log_probs, log_tail = (array[frame_indices] for array in self._arrays)
        return {"soft_pdf_ids": torch.from_numpy(pdf_ids.astype(np.int64)),
                "soft_log_probs": torch.from_numpy(log_probs.astype(np.float32)),
                "soft_log_tail": torch.from_numpy(log_tail.astype(np.float32))}


def build_soft_targets(folder: Path, teacher: nn.Module, store: FrameStore, key: SoftTargetsKey, *, left: int = 7,
                       right: int = 7, precision: str = "auto") -> SoftTargets:
    """Forward the teacher once over every frame of `store` and cache its soft targets in `folder`; return them opened.

    A whole cache of the same key is opened and returned. Work goes on in the sibling `NAME.partial`, block by
    block, and that is where a killed run is taken up again; the folder appears when all is done. Memory is bounded
    by a block of frames. precision: float32, bfloat16, or auto, which is bfloat16 where this machine gains by it
    (the network only; it moves log-probabilities by about 0.01). A cache of another key in `folder` raises
    InputError, a full disk WorkError.
    """
    folder = Path(folder)
    if folder.exists():
        return SoftTargets.open(folder, key)
    if key.features != frames_digest(store):
        raise InputError(f"{folder}: soft targets of features {key.features[:12]} asked for, but the frame store "
                         f"{store.folder} holds {frames_digest(store)[:12]}")
    spliced = SplicedFrames.of(store, left, right)
    if precision == "auto":
        precision = "bfloat16" if bfloat16_gains(next(teacher.parameters()).device) else "float32"
    num_pdfs = _forward(teacher, spliced.gather(np.arange(1)), precision).shape[-1]
    if num_pdfs > 1 << 16:
        raise InputError(f"{folder}: {num_pdfs} pdfs do not fit 16-bit pdf-ids")
    top_k = min(key.top_k, num_pdfs)
    card = _Card(key=key, num_frames=store.num_frames, num_pdfs=num_pdfs, precision=precision, block=_BLOCK,
                 checksums=[])
    partial = folder.with_name(folder.name + ".partial")
    try:
        checksums = _resume(partial, card)
        arrays = _map_arrays(partial, store.num_frames, top_k, "r+" if checksums else "w+")
        with ProgressBar(store.num_frames, "soft targets", "frames") as bar:
            bar.update(min(len(checksums) * _BLOCK, store.num_frames))
            for begin in range(len(checksums) * _BLOCK, store.num_frames, _BLOCK):
                end = min(begin + _BLOCK, store.num_frames)
                for first in range(begin, end, _CHUNK):
                    rows = np.arange(first, min(first + _CHUNK, end))
                    logits = _forward(teacher, spliced.gather(rows), precision)
                    for array, values in zip(arrays, _sparse(logits / key.temperature, top_k), strict=True):
                        array[rows[0]:rows[-1] + 1] = values
                checksums.append(_checksum(arrays, begin, end))
                for array in arrays:
                    array.flush()
                write_json(partial / _CARD, card.model_copy(update={"checksums": checksums}).model_dump())
                bar.update(end - begin)
        del arrays
        fsync_tree(partial)
        partial.replace(folder)
    except OSError as error:
        raise WorkError(f"{folder}: soft targets cannot be written ({error}); make room and run again, it goes on "
                        "where it stopped") from error
    return SoftTargets.open(folder, key)


def sparse_posteriors(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best pdfs of softmax(logits): pdf-ids (frames, k), best first, their natural log-probabilities, and the
    logarithm of the mass of all others (frames,), minus infinity where there are none."""
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    best, pdf_ids = log_probs.topk(min(top_k, log_probs.shape[-1]), dim=-1)
    if best.shape[-1] == log_probs.shape[-1]:
        return pdf_ids, best, best.new_full(best.shape[:1], -torch.inf)
    tail = log_probs.exp_().scatter_(-1, pdf_ids, 0.0).sum(-1).log_()
    return pdf_ids, best, tail


def _sparse(logits: Tensor, top_k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    pdf_ids, log_probs, log_tail = sparse_posteriors(logits, top_k)
    return (pdf_ids.cpu().numpy().astype("<u2"), log_probs.cpu().numpy().astype("<f2"),
            log_tail.cpu().numpy().astype("<f2"))


def _forward(teacher: nn.Module, inputs: Tensor, precision: str) -> Tensor:
    device = next(teacher.parameters()).device
    teacher.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return teacher(inputs.to(device)).float()


def _resume(partial: Path, card: _Card) -> list[int]:
    """Checksums of the blocks that a killed run has finished; anything that does not fit is begun anew."""
    if (partial / _CARD).is_file():
        try:
            found = _Card.model_validate(read_json(partial / _CARD))
            if found.model_copy(update={"checksums": []}) == card:
                arrays = _map_arrays(partial, card.num_frames, min(card.key.top_k, card.num_pdfs), "r")
                blocks = [(i * _BLOCK, min((i + 1) * _BLOCK, card.num_frames)) for i in range(len(found.checksums))]
                if [_checksum(arrays, begin, end) for begin, end in blocks] == found.checksums:
                    logger.info("soft targets: going on after %d finished blocks", len(blocks))
                    return list(found.checksums)
        except (pydantic.ValidationError, InputError):
            logger.info("soft targets: %s is of no use, beginning anew", partial)
    remove(partial)
    partial.mkdir(parents=True)
    return []


def _map_arrays(folder: Path, num_frames: int, top_k: int, mode: Any) -> list[np.memmap[Any, Any]]:
    arrays = []
    for name, dtype, shape in (("pdf_ids.u16", "<u2", (num_frames, top_k)),
                               ("log_probs.f16", "<f2", (num_frames, top_k)),
                               ("log_tail.f16", "<f2", (num_frames,))):
        path = folder / name
        if mode != "w+":
            expected = int(np.prod(shape)) * 2
            size = path.stat().st_size if path.is_file() else None
            if size != expected:
                found = "missing" if size is None else f"{size} bytes"
                raise InputError(f"{path}: {found}, expected {expected} bytes; remove {folder} and make the soft "
                                 "targets again")
        arrays.append(np.memmap(path, dtype, mode, shape=shape))
    return arrays


def _checksum(arrays: list[np.memmap[Any, Any]], begin: int, end: int) -> int:
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array[begin:end]).data.cast("B"), value)
    return value


def _check_key(folder: Path, found: SoftTargetsKey, wanted: SoftTargetsKey) -> None:
    for name in SoftTargetsKey.model_fields:
        own, given = getattr(found, name), getattr(wanted, name)
        if own != given:
            raise InputError(f"{folder}: stale soft targets, of {name} {str(own)[:12]}, but {name} "
                             f"{str(given)[:12]} is in use; remove {folder} and make them again")
