"""Lattices of several utterances as one graph of tensors, whose arcs stand in the order of a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from asr_kd.lattices.lattice import Lattice


@dataclass(frozen=True)
class LatticeBatch:
    """State-level lattices without acoustic scores; those come from a network's log-likelihoods at every step.

    A state's depth is the number of arcs on the longest way to it; states are numbered by depth, so that states 0 to
    `num_utterances` are the starts, in the order of the utterances, and arcs are sorted by source. Arcs of one depth
    depend on none of each other. Where every arc takes a frame, depth is time.

    sources, targets: int64 (arcs,); rows, pdfs: int64 (arcs,), the frame that an arc takes as a row of the batch's
    log-likelihoods, and its pdf-id, -1 (row 0) where it takes none; transition_ids: int64 (arcs,), 0 where it takes no
    frame; log_weights: float32 (arcs,), minus the graph cost; final_log_weights: float32 (states,), minus infinity
    where not final; row_begins: int64 (utterances + 1,), the rows of utterance u are row_begins[u] to row_begins[u +
    1]. state_begins, arc_begins: depth d has the states (the arcs from those states) from [d] to [d + 1].
    """

    sources: Tensor
    targets: Tensor
    rows: Tensor
    pdfs: Tensor
    transition_ids: Tensor
    log_weights: Tensor
    final_log_weights: Tensor
    row_begins: Tensor
    state_begins: list[int]
    arc_begins: list[int]

    @property
    def num_utterances(self) -> int:
        return len(self.row_begins) - 1

    @property
    def num_arcs(self) -> int:
        return len(self.sources)

    @property
    def num_rows(self) -> int:
        return int(self.row_begins[-1])

    def to(self, device: torch.device) -> "LatticeBatch":
        """This batch on `device`."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self) if f.type is Tensor})

    @staticmethod
    def of(lattices: Sequence[Lattice], transition_pdfs: NDArray[np.integer]) -> "LatticeBatch":
        """The batch of state-level lattices, whose utterances' frames follow each other in the log-likelihoods.

        transition_pdfs (transition-ids + 1,): the pdf-id of each. The lattices' own acoustic costs are dropped.
        ValueError: a lattice without states, with a fault (a cycle, a dead end, ...), or with a transition-id outside
        of the table.
        """
        if not lattices:
            raise ValueError("no lattices")
        for place, lattice in enumerate(lattices):
            fault = "no states" if lattice.num_states == 0 else lattice.fault()
            if fault:
                raise ValueError(f"lattice {place} of the batch: {fault}")
        states = np.cumsum([0] + [lattice.num_states for lattice in lattices])
        row_begins = np.cumsum([0] + [lattice.num_frames for lattice in lattices])
        depths = np.concatenate([_depths(lattice.offsets, lattice.targets) for lattice in lattices])
        order = np.argsort(depths, kind="stable")
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        sources = number[np.concatenate([la.sources + begin for la, begin in zip(lattices, states, strict=False)])]
        targets = number[np.concatenate([la.targets + begin for la, begin in zip(lattices, states, strict=False)])]
        transition_ids = np.concatenate([lattice.transition_ids for lattice in lattices]).astype(np.int64)
        if transition_ids.max(initial=0) >= len(transition_pdfs):
            raise ValueError(f"transition-id {transition_ids.max()} in a lattice, the model has "
                             f"{len(transition_pdfs) - 1}")
        rows = np.concatenate([lattice.frames[lattice.sources] + np.int64(begin)
                               for lattice, begin in zip(lattices, row_begins, strict=False)])
        weights = -np.concatenate([lattice.graph_costs for lattice in lattices])
        finals = -np.concatenate([lattice.final_costs for lattice in lattices])
        arcs = np.argsort(sources, kind="stable")
        emits = transition_ids[arcs] > 0
        by_depth = np.searchsorted(depths[order], np.arange(depths.max() + 2))
        sources = sources[arcs]
        arrays = {
            "sources": sources, "targets": targets[arcs], "rows": np.where(emits, rows[arcs], 0),
            "pdfs": np.where(emits, transition_pdfs[transition_ids[arcs]], -1).astype(np.int64),
            "transition_ids": transition_ids[arcs], "log_weights": weights[arcs], "final_log_weights": finals[order],
            "row_begins": row_begins.astype(np.int64),
        }
        return LatticeBatch(**{name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()},
                            state_begins=by_depth.tolist(), arc_begins=np.searchsorted(sources, by_depth).tolist())


@njit(nogil=True, cache=True)
def _depths(offsets, targets):  # type: ignore[no-untyped-def]
    """The number of arcs on the longest way to each state."""
    depths = np.zeros(len(offsets) - 1, np.int32)
    for s in range(len(depths)):
        for a in range(offsets[s], offsets[s + 1]):
            depths[targets[a]] = max(depths[targets[a]], depths[s] + 1)
    return depths
