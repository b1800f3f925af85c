"""The cache of soft targets: for every frame the teacher's k best pdfs, in 16 bits, memory-mapped.

A folder with the columns `pdf_ids` u2 (frames, k), `log_probs` f2 (frames, k), `log_tail` f2 (frames,), `log_norm` f4
(frames,) and, where it was asked for, the teacher's last hidden layer `hidden` f2 (frames, hidden_dim), in shards
(sharded_arrays.py) and in the order of the frame store's rows, and `soft_targets.json`. Log-probabilities are natural,
of softmax(logits / T); `log_tail` is the logarithm of the mass of all other pdfs. `log_norm` turns log-probabilities
into logits / T: noise on the teacher's logits, drawn anew in every epoch, and a distance of logits want it, and what
the cache must hold for a projector is `hidden`. How a loss spreads the tail's mass:
`asr_kd.distillation.divergence.SparseDistillationLoss`.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import fsync_tree, hash_json, in_turn, read_json, remove, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.memory import freed_memory_kept
from asr_kd.core.own_folders import FolderKind, check_replaceable, mark_folder
from asr_kd.core.parallel import available_cores
from asr_kd.core.progress import ProgressBar
from asr_kd.distillation.best_pdfs import best_pdfs
from asr_kd.distillation.config import Temperature
from asr_kd.distillation.sharded_arrays import Column, ShardedArrays
from asr_kd.distillation.teachers import TeacherEnsemble
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.splice import SplicedFrames
from asr_kd.models.architecture import hidden_dim as find_hidden_dim
from asr_kd.training.config import Precision
from asr_kd.training.data import frames_digest
from asr_kd.training.tuning import bfloat16_gains

logger = get_logger(__name__)

_CARD = "soft_targets.json"
_PARTIAL = FolderKind("cache of soft targets", (_CARD,), closed=False)
_BLOCK = 1 << 15  # frames forwarded, written and check-summed at a time
_CHUNK = 2048  # frames forwarded at a time
_SHARD = 128  # blocks: about four million frames, 12 hours of speech


class SoftTargetsKey(Config):
    """All that soft targets depend on; a cache is good for exactly one key."""

    teacher: str = Field(description="digest of the teacher's model card")
    left: int = Field(ge=0, description="frames to the left and right that it hears")
    right: int = Field(ge=0)
    features: str = Field(description="asr_kd.training.data.frames_digest of the frame store")
    hmm: str = Field(description="digest of the HMM model: what pdf-ids mean")
    temperature: Temperature = 1.0
    top_k: int = Field(gt=0)
    hidden: bool = Field(False, description="whether the teacher's last hidden layer is kept too")


class _Card(Config):
    format: Literal[3] = 3
    key: SoftTargetsKey
    num_frames: int = Field(gt=0)
    num_pdfs: int = Field(gt=0)
    hidden_dim: int | None = Field(gt=0)
    precision: str
    block: int = Field(gt=0)
    shard: int = Field(gt=0)  # blocks
    checksums: list[int]  # one a block, over all columns
    tail_mass: list[float]  # one a block, summed over frames
    choices: list[list[int]] = []  # one a block: frames whose posteriors are each teacher's, where one is chosen


class SoftTargets:
    """An opened cache; gathers minibatches of soft targets by global frame index (a `FrameTargets`)."""

    def __init__(self, folder: Path, card: _Card) -> None:
        self.key, self.num_frames, self.num_pdfs = card.key, card.num_frames, card.num_pdfs
        self.top_k, self.hidden_dim = min(card.key.top_k, card.num_pdfs), card.hidden_dim
        self.precision = card.precision
        self.digest = hash_json(card.model_dump())
        self._card, self._arrays = card, _arrays(folder, card, "r")

    @property
    def num_bytes(self) -> int:
        return self._arrays.num_bytes

    @property
    def lost_mass(self) -> float:
        """The teacher's probability on pdfs that are not kept, mean over frames."""
        return math.fsum(self._card.tail_mass) / self.num_frames

    def divergence_error(self, spread: float = 0.0) -> float:
        """A bound on what the cached divergence, T² KL, lacks of the true one, in nats a frame, from a student whose
        logits of the pdfs that are not kept differ by at most `spread` within a frame: lost mass · (T² log(pdfs not
        kept) + T spread). With 0 it is that of a student that has not learnt anything of these pdfs. What is lacking
        is never negative; to it comes what 16 bits round off, at most 1/2048 of a log-probability, and what a teacher
        forwarded in bfloat16 says otherwise than in float32 (`precision`)."""
        temperature = self.key.temperature
        left_out = max(self.num_pdfs - self.top_k, 1)
        return self.lost_mass * (temperature ** 2 * math.log(left_out) + temperature * spread)

    @property
    def choice_shares(self) -> list[float] | None:
        """Return each teacher's share of the frames, where one of several was chosen in each."""
        frames = [sum(of_one) for of_one in zip(*self._card.choices, strict=True)]
        return [of_one / self.num_frames for of_one in frames] or None

    @property
    def gradient_error(self) -> float:
        """A bound on the error of its gradient by the logits, whatever the student: 2 T · lost mass (L1 norm, a
        frame)."""
        return 2 * self.key.temperature * self.lost_mass

    @staticmethod
    def open(folder: Path, **expected: Any) -> "SoftTargets":
        """Open a cache. One whose key (`SoftTargetsKey`) is not as expected, and a missing, truncated or damaged file,
        raise InputError."""
        folder = Path(folder)
        try:
            card = _Card.model_validate(read_json(folder / _CARD))
        except pydantic.ValidationError as error:
            raise InputError(f"{folder / _CARD}: not a card of soft targets "
                             f"({error.errors(include_url=False)[0]['msg']}); remove {folder}") from error
        _check_key(folder, card.key, expected)
        blocks = -(-card.num_frames // card.block)
        if not len(card.checksums) == len(card.tail_mass) == blocks or len(card.choices) not in (0, blocks):
            raise InputError(f"{folder / _CARD}: {len(card.checksums)} checksums, {len(card.tail_mass)} masses and "
                             f"{len(card.choices)} choices for {blocks} blocks of frames; remove {folder}")
        targets = SoftTargets(folder, card)
        for index, checksum in enumerate(card.checksums):
            begin = index * card.block
            if targets._arrays.checksum(begin, min(begin + card.block, card.num_frames)) != checksum:
                raise InputError(f"{folder}: soft targets of frames {begin} and on are damaged (checksum differs); "
                                 f"remove {folder} and make them again")
        return targets

    def gather(self, frame_indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """soft_pdf_ids int64 and soft_log_probs float32 (batch, k), soft_log_tail and soft_log_norm float32 (batch,);
        soft_hidden float16 (batch, hidden_dim) where it is kept."""
        pdf_ids, *others = self._arrays.gather(frame_indices)
        found = {"soft_pdf_ids": torch.from_numpy(pdf_ids.astype(np.int64))}
        for name, values in zip(_GATHERED[1:4], others, strict=False):
            found[name] = torch.from_numpy(values.astype(np.float32))
        if self.hidden_dim is not None:
            found["soft_hidden"] = torch.from_numpy(others[-1])
        return found

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The same of all frames, on a device, nearly as they are stored."""
        columns = self._arrays.gather(np.arange(self.num_frames))
        columns[0] = columns[0].astype(np.int32)  # PyTorch cannot pick rows of 16 bits without sign
        return {name: torch.from_numpy(values).to(device) for name, values in zip(_GATHERED, columns, strict=False)}


def build_soft_targets(folder: Path, teacher: nn.Module, store: FrameStore, key: SoftTargetsKey,
                       precision: Precision = "auto") -> SoftTargets:
    """Forward the teacher once over every frame of `store` and cache its soft targets in `folder`; return them opened.

    A whole cache of the same key is opened and returned. Work goes on in the sibling `NAME.partial`, block by
    block, and that is where a killed run is taken up again; the folder appears when all is done. Memory is bounded
    by a block of frames. precision: float32, bfloat16, or auto, which is bfloat16 where this machine gains by it
    (the network only; it moves log-probabilities by about 0.01). A cache of another key or precision in `folder`
    raises InputError, as does a teacher that does not fit features or key; a full disk or a teacher whose outputs are
    not finite WorkError. Of several processes one builds, the others wait for it.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}, expected one of {', '.join(get_args(Precision))}")
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with in_turn(folder.with_name(f".{folder.name}.lock")), freed_memory_kept():
        return _build(folder, teacher, store, key, precision)


def _build(folder: Path, teacher: nn.Module, store: FrameStore, key: SoftTargetsKey, precision: str) -> SoftTargets:
    if folder.exists():
        return _made_before(folder, key, precision)
    if key.features != frames_digest(store):
        raise InputError(f"{folder}: soft targets of features {key.features[:12]} asked for, but the frame store "
                         f"{store.folder} holds {frames_digest(store)[:12]}")
    spliced = SplicedFrames.of(store, key.left, key.right)
    partial = folder.with_name(folder.name + ".partial")
    begun = _begun(partial, key)
    if precision == "auto" and begun is not None:
        precision = begun.precision
    elif precision == "auto":
        precision = "bfloat16" if bfloat16_gains(next(teacher.parameters()).device) else "float32"
    if key.hidden and find_hidden_dim(teacher) is None:
        raise InputError(f"{folder}: the last hidden layer is asked for, but the teacher has none to give (a method "
                         "`hidden` and a module `output_layer`)")
    frame = spliced.gather(np.arange(1))
    try:
        logits, hidden = _forward(teacher, frame, precision, key.hidden)
    except RuntimeError as error:
        raise InputError(f"{folder}: the teacher does not take the {frame.shape[-1]} values of these features and this "
                         f"splice ({error})") from error
    num_pdfs = logits.shape[-1]
    if num_pdfs > 1 << 16:
        raise InputError(f"{folder}: {num_pdfs} pdfs do not fit 16-bit pdf-ids")
    card = _Card(key=key, num_frames=store.num_frames, num_pdfs=num_pdfs, precision=precision, block=_BLOCK,
                 hidden_dim=None if hidden is None else hidden.shape[-1], shard=_SHARD, checksums=[], tail_mass=[])
    _take_choices(teacher)

    try:
        card = _resume(partial, begun, card)
        arrays = _arrays(partial, card, "r+" if card.checksums else "w+")

        def write_chunk(rows: NDArray[np.int64]) -> float:
            logits, hidden = _forward(teacher, spliced.gather(rows), precision, key.hidden)
            values = _columns_of(logits / key.temperature, min(key.top_k, num_pdfs), hidden)
            _check_finite(folder, values, store, rows)
            arrays.write(int(rows[0]), values)
            return float(np.exp(values[2], dtype=np.float64).sum())

        with (_workers(teacher) as pool, ThreadPoolExecutor(1) as disk,
              ProgressBar(store.num_frames, "soft targets", "frames") as bar):
            bar.update(min(len(card.checksums) * _BLOCK, store.num_frames))
            kept: Future[_Card] | None = None
            for begin in range(len(card.checksums) * _BLOCK, store.num_frames, _BLOCK):
                end = min(begin + _BLOCK, store.num_frames)
                tail_mass = sum(pool.map(write_chunk, [np.arange(first, min(first + _CHUNK, end))
                                                       for first in range(begin, end, _CHUNK)]))
                card = kept.result() if kept else card
                kept = disk.submit(_keep, partial, arrays, card, begin, end, tail_mass, _take_choices(teacher))
                bar.update(end - begin)
            card = kept.result() if kept else card
        fsync_tree(partial)
        partial.replace(folder)
    except OSError as error:
        raise WorkError(f"{folder}: soft targets cannot be written ({error}); make room and run again, it goes on "
                        "where it stopped") from error
    return SoftTargets(folder, card)


def _keep(partial: Path, arrays: ShardedArrays, card: _Card, begin: int, end: int, tail_mass: float,
          choices: list[list[int]]) -> _Card:
    """Bring a block of frames to disk, then the card that vouches for it."""
    arrays.flush(begin)
    card = card.model_copy(update={"checksums": [*card.checksums, arrays.checksum(begin, end)],
                                   "tail_mass": [*card.tail_mass, tail_mass], "choices": [*card.choices, *choices]})
    write_json(partial / _CARD, card.model_dump())
    return card


def _workers(teacher: nn.Module) -> ThreadPoolExecutor:
    """On a CPU a thread for each core that this process may use, each of which does its own chunks alone: what comes
    out does not depend on their number, and much of the work is not PyTorch's. For a GPU two: one writes meanwhile."""
    if next(teacher.parameters()).device.type != "cpu":
        return ThreadPoolExecutor(2)
    return ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,))


def sparse_posteriors(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best pdfs of softmax(logits): pdf-ids (frames, k), best first, their natural log-probabilities, and the
    logarithm of the mass of all others (frames,), minus infinity where there are none. ValueError: k is below 1."""
    pdf_ids, log_probs, log_tail, _ = _sparse_with_norm(logits, top_k)
    return pdf_ids, log_probs, log_tail


def _sparse_with_norm(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same, and what turns the log-probabilities into logits."""
    logits = logits.detach().float()
    best, pdf_ids = best_pdfs(logits, min(top_k, logits.shape[-1]))
    relative = (logits - best[:, :1]).exp_()
    total = relative.sum(-1)
    log_norm = best[:, 0] + total.log()
    log_tail = (relative.scatter_(-1, pdf_ids, 0.0).sum(-1) / total).log_()
    return pdf_ids, best - log_norm[:, None], log_tail, log_norm


def _made_before(folder: Path, key: SoftTargetsKey, precision: str) -> SoftTargets:
    made = SoftTargets.open(folder, **key.model_dump())
    if precision not in ("auto", made.precision):
        raise InputError(f"{folder}: soft targets in {made.precision}, but {precision} is asked for; remove {folder} "
                         "and make them again")
    return made


def _check_finite(folder: Path, values: Sequence[NDArray[Any]], store: FrameStore, rows: NDArray[np.int64]) -> None:
    damaged = np.zeros(len(rows), bool)
    for name, column in zip(_GATHERED, values, strict=False):
        if name not in ("soft_pdf_ids", "soft_log_tail"):  # minus infinity where all pdfs are kept
            largest = torch.from_numpy(column.reshape(len(rows), -1)).abs().amax(-1)
            damaged |= ~largest.isfinite().numpy()
    if damaged.any():
        first = int(rows[damaged.argmax()])
        utterance_id = store.ids[int(np.searchsorted(store.offsets, first, side="right")) - 1]
        raise WorkError(f"{folder}: what the teacher says of {damaged.sum()} frames is not finite, or too large for 16 "
                        f"bits, the first of {utterance_id}; its weights or these features are damaged, make them "
                        "again")


def _take_choices(teacher: nn.Module) -> list[list[int]]:
    """Since this was last called: none where no teacher is chosen, else frames of each."""
    choices = teacher.take_choices() if isinstance(teacher, TeacherEnsemble) else None
    return [] if choices is None else [choices]


def _columns_of(logits: Tensor, top_k: int, hidden: Tensor | None) -> list[NDArray[Any]]:
    columns = [*_sparse_with_norm(logits, top_k), *([] if hidden is None else [hidden.half()])]
    with np.errstate(over="ignore"):  # what is too large for 16 bits is refused
        return [values.cpu().numpy().astype(dtype, copy=False)
                for values, dtype in zip(columns, _DTYPES, strict=False)]


def _forward(teacher: nn.Module, inputs: Tensor, precision: str, with_hidden: bool) -> tuple[Tensor, Tensor | None]:
    device = next(teacher.parameters()).device
    teacher.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        if not with_hidden:
            return teacher(inputs.to(device)).float(), None
        hidden = teacher.hidden(inputs.to(device))  # type: ignore[operator]
        return teacher.output_layer(hidden).float(), hidden  # type: ignore[operator]


def _begun(partial: Path, key: SoftTargetsKey) -> _Card | None:
    """The card that a killed run of this key has left."""
    try:
        card = _Card.model_validate(read_json(partial / _CARD)) if (partial / _CARD).is_file() else None
    except (pydantic.ValidationError, InputError):
        return None
    return card if card is not None and card.key == key else None


def _resume(partial: Path, begun: _Card | None, card: _Card) -> _Card:
    """The card of the blocks that a killed run has finished; anything that does not fit is begun anew."""
    if begun is not None and begun.model_copy(update={"checksums": [], "tail_mass": [], "choices": []}) == card:
        try:
            arrays = _arrays(partial, card, "r")
            blocks = [(i * _BLOCK, min((i + 1) * _BLOCK, card.num_frames)) for i in range(len(begun.checksums))]
            if [arrays.checksum(begin, end) for begin, end in blocks] == begun.checksums:
                logger.info("soft targets: going on after %d finished blocks", len(blocks))
                return begun
        except InputError:
            logger.info("soft targets: %s is of no use, beginning anew", partial)
    check_replaceable(partial, _PARTIAL)
    remove(partial)
    partial.mkdir(parents=True)
    mark_folder(partial, _PARTIAL.name)
    return card


_GATHERED = ("soft_pdf_ids", "soft_log_probs", "soft_log_tail", "soft_log_norm", "soft_hidden")
_DTYPES = ("<u2", "<f2", "<f2", "<f4", "<f2")


def _arrays(folder: Path, card: _Card, mode: str) -> ShardedArrays:
    top_k = min(card.key.top_k, card.num_pdfs)
    widths = {"pdf_ids": top_k, "log_probs": top_k, "log_tail": 0, "log_norm": 0}
    if card.hidden_dim is not None:
        widths["hidden"] = card.hidden_dim
    columns = [Column(name, dtype, width) for (name, width), dtype in zip(widths.items(), _DTYPES, strict=False)]
    return ShardedArrays(folder, columns, card.num_frames, card.block * card.shard, mode)


def _check_key(folder: Path, found: SoftTargetsKey, expected: Mapping[str, Any]) -> None:
    for name, given in expected.items():
        own = getattr(found, name)
        if own != given:
            raise InputError(f"{folder}: stale soft targets, of {name} {str(own)[:12]}, but {name} "
                             f"{str(given)[:12]} is in use; remove {folder} and make them again")
