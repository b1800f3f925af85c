"""Frame accuracies of a lattice's arcs against the numerator, the forced alignment."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr_kd.sequence.lattice_batch import LatticeBatch

Unit = Literal["state", "phone"]


@dataclass(frozen=True)
class TransitionTable:
    """Properties of a model's transition-ids, by transition-id; entry 0 stands for none.

    pdfs, phones: int32 (transition-ids + 1,); silent: bool (transition-ids + 1,), whether the phone is a silence phone
    (silence, spoken noise).
    """

    pdfs: NDArray[np.int32]
    phones: NDArray[np.int32]
    silent: NDArray[np.bool_]


def frame_accuracies(
    batch: LatticeBatch, alignment: Tensor, table: TransitionTable, unit: Unit = "state",
    one_silence_class: bool = True,
) -> Tensor:
    """1.0 for arcs that agree with the alignment in their frame, 0.0 for the others and those without frame; (arcs,).

    alignment: int64 (rows,), transition-ids. Units are pdfs (`state`: sMBR) or phones (`phone`: Kaldi's MPFE, which it
    calls MPE). An arc of a silence phone agrees with any silence with `one_silence_class`, with nothing without. As
    Kaldi's `lattice-to-smbr-post` and `lattice-to-mpe-post`. On the CPU.
    """
    of_unit = table.pdfs if unit == "state" else table.phones
    arcs, reference = _arcs_and_reference(batch, alignment)
    agree = of_unit[arcs] == of_unit[reference]
    if one_silence_class:
        agree |= table.silent[arcs] & table.silent[reference]
    else:
        agree &= ~table.silent[arcs]
    return torch.from_numpy((agree & (arcs > 0)).astype(np.float32))


def phone_errors(batch: LatticeBatch, alignment: Tensor, table: TransitionTable) -> Tensor:
    """1.0 for arcs of another phone than the alignment's in their frame, 0.0 for the others; (arcs,).

    Arcs of silence phones are no errors: nothing is gained by silence in the place of speech (Kaldi's
    `lattice-boost-ali` with its default --max-silence-error=0). On the CPU.
    """
    arcs, reference = _arcs_and_reference(batch, alignment)
    wrong = (table.phones[arcs] != table.phones[reference]) & ~table.silent[arcs] & (arcs > 0)
    return torch.from_numpy(wrong.astype(np.float32))


def _arcs_and_reference(batch: LatticeBatch, alignment: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Transition-ids of the arcs, and of the alignment in their frames. Arrays, not tensors: PyTorch would use all
    cores in the thread that gathers minibatches, against the trainer."""
    return batch.transition_ids.numpy(), alignment.numpy()[batch.rows.numpy()]
