"""Weighted transducers as arrays, read and written as OpenFst's `const` files."""

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.opening import open_file

ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])
_STATE = np.dtype([("final", "<f4"), ("begin", "<u4"), ("arcs", "<u4"), ("iepsilons", "<u4"), ("oepsilons", "<u4")])
_MAGIC = 2125659606
_EXPANDED = 1
# No probability of speech has a larger one; sums of a path stay exact enough to be compared.
COST_LIMIT = 1e6
_HEADER = struct.Struct("<ii5si8siiQqqq")


@dataclass(frozen=True)
class Fst:
    """A transducer over the tropical semiring (costs: negative natural logarithms), label 0 is epsilon.

    start: state; finals: float32 (states,), infinity where not final; offsets: int64 (states + 1,), the arcs of
    state s are `arcs[offsets[s]:offsets[s + 1]]`; arcs: (arcs,) of `ARC`.
    """

    start: int
    finals: np.ndarray
    offsets: np.ndarray
    arcs: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.finals)

    @property
    def num_arcs(self) -> int:
        return len(self.arcs)

    @property
    def sources(self) -> np.ndarray:
        """Source state of each arc, int64 (arcs,)."""
        return np.repeat(np.arange(self.num_states), np.diff(self.offsets))

    def check_costs(self, what: str) -> "Fst":
        """The transducer itself; InputError where a cost is not finite or beyond COST_LIMIT, naming `what` it is.

        OpenFst's operations may not come to an end with such costs.
        """
        finals = self.finals[self.finals != np.inf]
        for costs in (self.arcs["weight"], finals):
            sound = np.abs(costs) <= COST_LIMIT  # false for NaN
            if not sound.all():
                raise InputError(f"{what}: a cost of {costs[~sound][0]:g} (minus a natural logarithm), expected at "
                                 f"most {COST_LIMIT:g}; mend its probabilities")
        return self

    @staticmethod
    def from_arcs(start: int, finals: np.ndarray, sources: np.ndarray, arcs: np.ndarray) -> "Fst":
        """Build from arcs in any order; those of one state are sorted by input label (epsilons first)."""
        order = np.lexsort((arcs["ilabel"], sources))
        counts = np.bincount(sources, minlength=len(finals))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Fst(start, np.asarray(finals, np.float32), offsets, np.ascontiguousarray(arcs[order]))

    @staticmethod
    def from_lists(start: int, finals: dict[int, float], rows: list[tuple[int, int, int, float, int]]) -> "Fst":
        """Build from rows (source, input label, output label, cost, next state) and state -> final cost."""
        table = np.array(rows, np.float64).reshape(-1, 5)
        sources = table[:, 0].astype(np.int64)
        arcs = make_arcs(table[:, 1], table[:, 2], table[:, 3], table[:, 4])
        states = 1 + max(start, int(sources.max(initial=0)), int(arcs["nextstate"].max(initial=0)), *finals)
        costs = np.full(states, np.inf, np.float32)
        costs[list(finals)] = list(finals.values())
        return Fst.from_arcs(start, costs, sources, arcs)

    def write(self, path: Path) -> None:
        """Write an OpenFst `const` file (standard arcs)."""
        states = np.zeros(self.num_states, _STATE)
        states["final"] = self.finals
        states["begin"] = self.offsets[:-1]
        states["arcs"] = np.diff(self.offsets)
        for name, label in (("iepsilons", "ilabel"), ("oepsilons", "olabel")):
            states[name] = np.bincount(self.sources[self.arcs[label] == 0], minlength=self.num_states)
        header = _HEADER.pack(_MAGIC, 5, b"const", 8, b"standard", 2, 0, _EXPANDED, self.start, self.num_states,
                              self.num_arcs)
        with atomic_file(path, "wb") as file:
            file.write(header)
            file.write(states.tobytes())
            file.write(self.arcs.tobytes())

    @staticmethod
    def read(path: Path) -> "Fst":
        """Read an OpenFst `const` file (standard arcs, no symbol tables); anything else raises InputError."""
        with open_file(path) as file:
            content = np.fromfile(file, np.uint8)
        if len(content) < _HEADER.size:
            raise InputError(f"{path}: not an OpenFst file, or truncated ({len(content)} bytes)")
        magic, _, kind, _, arc_type, version, flags, _, start, num_states, num_arcs = _HEADER.unpack(
            content[: _HEADER.size].tobytes())
        if magic != _MAGIC or kind != b"const" or arc_type != b"standard" or version != 2 or flags & 3:
            raise InputError(f"{path}: not an OpenFst const file with standard arcs and without symbol tables")
        begin = _HEADER.size + num_states * _STATE.itemsize
        expected = begin + num_arcs * ARC.itemsize
        if num_states < 0 or num_arcs < 0 or len(content) != expected:
            raise InputError(f"{path}: damaged: {len(content)} bytes, expected {expected}")
        states = content[_HEADER.size : begin].view(_STATE)
        arcs = content[begin:].view(ARC)
        offsets = np.concatenate([[0], np.cumsum(states["arcs"], dtype=np.int64)])
        fst = Fst(int(start), states["final"].copy(), offsets, arcs.copy())
        fst._check(path, states["begin"])
        return fst

    def _check(self, path: Path, begins: np.ndarray) -> None:
        inside = (self.arcs["nextstate"] >= 0) & (self.arcs["nextstate"] < self.num_states)
        sound = (
            0 <= self.start < self.num_states and self.offsets[-1] == self.num_arcs
            and np.array_equal(begins, self.offsets[:-1]) and inside.all()
            and (self.arcs["ilabel"] >= 0).all() and (self.arcs["olabel"] >= 0).all()
            and np.isfinite(self.arcs["weight"]).all() and not np.isnan(self.finals).any()
        )
        if not sound:
            raise InputError(f"{path}: damaged: states, labels or costs out of range; build the graph again")

    def to_kaldifst(self) -> Any:
        """The same as a `kaldifst.StdVectorFst`."""
        import kaldifst

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fst"
            self.write(path)
            return kaldifst.StdVectorFst(kaldifst.StdConstFst.read(str(path)))

    @staticmethod
    def from_kaldifst(fst: Any) -> "Fst":
        """From any kaldifst FST with standard arcs."""
        import kaldifst

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fst"
            kaldifst.StdConstFst(fst).write(str(path))
            return Fst.read(path)


def make_arcs(ilabels: np.ndarray, olabels: np.ndarray, weights: np.ndarray, nextstates: np.ndarray) -> np.ndarray:
    """Arcs of `ARC` from four arrays (arcs,)."""
    arcs = np.empty(len(ilabels), ARC)
    arcs["ilabel"], arcs["olabel"], arcs["weight"], arcs["nextstate"] = ilabels, olabels, weights, nextstates
    return arcs
