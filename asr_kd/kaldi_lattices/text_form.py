"""One lattice in Kaldi's text form: lines of arcs and final states, read and written.

Arcs of a lattice are `from to transition-id word [graph,acoustic]`, final states `state [graph,acoustic]`; those of a
compact lattice are `from to word [graph,acoustic,tid_tid_...]` and `state [graph,acoustic,tid_...]`. A missing pair is
0,0. The first line begins with the start state (Kaldi, lat/kaldi-lattice.cc, and OpenFst's printer).
"""

import re
from collections.abc import Sequence

import numpy as np

from asr_kd.kaldi_lattices.unsorted import LatticeFault, UnsortedLattice
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

_COSTS = r"([^\s,_]{1,40}),([^\s,_]{1,40})(?:,((?:\d+(?:_\d+)*)?))?"
_ARC = re.compile(rf"\s*(\d+)\s+(\d+)\s+(\d+)(?:\s+(\d+))?(?:\s+{_COSTS})?\s*", re.ASCII)
_FINAL = re.compile(rf"\s*(\d+)(?:\s+{_COSTS})?\s*", re.ASCII)
_EXPECTED = ("expected `from to transition-id word graph,acoustic` or `state graph,acoustic`, or in a compact lattice "
             "`from to word graph,acoustic,tid_tid` or `state graph,acoustic,tid_tid`")


def parse_lattice(lines: Sequence[str]) -> UnsortedLattice:
    """The lattice that `lines` (without the id's and the blank one) describe; LatticeFault names the line."""
    arcs: list[tuple[str, str, str, str, str, str]] = []
    finals: list[tuple[str, str, str, str]] = []
    arc_lines, final_lines = [], []
    first: bool | None = None
    for number, line in enumerate(lines):
        compact: bool | None = None
        if match := _ARC.fullmatch(line):
            source, target, label, word, graph, acoustic, run = match.groups()
            compact = word is None
            if compact == (run is None) and graph is not None:
                raise LatticeFault(f"cannot read {line.strip()[:80]!r}; {_EXPECTED}", number)
            if not compact:
                run = "" if label.strip("0") == "" else label
            arcs.append((source, target, word or label, graph or "0", acoustic or "0", run or ""))
            arc_lines.append(number)
        elif match := _FINAL.fullmatch(line):
            source, graph, acoustic, run = match.groups()
            compact = None if graph is None else run is not None
            finals.append((source, graph or "0", acoustic or "0", run or ""))
            final_lines.append(number)
        else:
            raise LatticeFault(f"cannot read {line.strip()[:80]!r}; {_EXPECTED}", number)
        first = compact if first is None else first
        if compact is not None and compact != first:
            raise LatticeFault("lines of a lattice and of a compact lattice in one", number)
    sources, targets, words, graph_costs, acoustic_costs, runs = _columns(arcs, 6)
    states, final_graph, final_acoustic, final_runs = _columns(finals, 4)
    names, numbers = np.unique(np.concatenate([_integers(sources, arc_lines), _integers(targets, arc_lines),
                                               _integers(states, final_lines)]), return_inverse=True)
    numbers = numbers.astype(np.int32)
    lengths = [run.count("_") + 1 if run else 0 for run in (*runs, *final_runs)]
    ends = np.cumsum(np.array(lengths, np.int64), dtype=np.int32)
    begins = ends - np.array(lengths, np.int32)
    tids = "_".join(run for run in (*runs, *final_runs) if run)
    lines_of_tids = np.repeat(np.array(arc_lines + final_lines, np.int64), lengths)
    n, k = len(arcs), len(finals)
    start = numbers[0 if arc_lines[:1] == [0] else 2 * n] if lines else 0
    raw_finals = _floats(final_graph, final_lines), _floats(final_acoustic, final_lines)
    # Kaldi's way to say that a state is not final.
    is_final = ~(np.isposinf(raw_finals[0]) & np.isposinf(raw_finals[1]))
    final_states = numbers[2 * n :][is_final]
    final_numbers = np.array(final_lines, np.int64)[is_final]
    _refuse_second_finals(final_states, names, final_numbers)
    return UnsortedLattice(
        int(start), len(names), numbers[:n], numbers[n : 2 * n], _integers(words, arc_lines),
        _floats(graph_costs, arc_lines), _floats(acoustic_costs, arc_lines), begins[:n], ends[:n], final_states,
        raw_finals[0][is_final], raw_finals[1][is_final], begins[n:][:k][is_final], ends[n:][is_final],
        _integers(tids.split("_") if tids else [], lines_of_tids), names, np.array(arc_lines, np.int64), final_numbers)


def lattice_text(lattice: Lattice | WordLattice) -> str:
    """The lines of a lattice, or of a compact one for a WordLattice; float32 costs come back unchanged."""
    costs = _pairs(lattice.graph_costs, lattice.acoustic_costs)
    if isinstance(lattice, WordLattice):
        finals = _pairs(lattice.final_graph_costs, lattice.final_acoustic_costs)
        labels = [str(word) for word in lattice.words.tolist()]
        tids = [str(tid) for tid in lattice.transition_ids.tolist()]
        costs = _with_runs(costs, tids, lattice.begins, lattice.ends)
        finals = _with_runs(finals, tids, lattice.final_begins, lattice.final_ends)
        is_final = np.isfinite(lattice.final_graph_costs)
    else:
        finals = _pairs(lattice.final_costs, np.zeros(lattice.num_states, np.float32))
        labels = [f"{tid}\t{word}" for tid, word in
                  zip(lattice.transition_ids.tolist(), lattice.words.tolist(), strict=True)]
        is_final = np.isfinite(lattice.final_costs)
    targets, offsets = lattice.targets.tolist(), lattice.offsets.tolist()
    lines = []
    for state in range(lattice.num_states):
        for arc in range(offsets[state], offsets[state + 1]):
            lines.append(f"{state}\t{targets[arc]}\t{labels[arc]}{costs[arc]}\n")
        if is_final[state]:
            lines.append(f"{state}{finals[state]}\n")
    return "".join(lines)


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> list[Sequence[str]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _integers(texts: Sequence[str], lines: Sequence[int] | np.ndarray) -> np.ndarray:
    # Texts of any length: Python's integers do not overflow.
    values = [int(text) for text in texts]
    for value, line in zip(values, lines, strict=True):
        if value >= 2**31:
            raise LatticeFault(f"{value} is too large; expected less than 2^31", int(line))
    return np.array(values, np.int32)


def _floats(texts: Sequence[str], lines: Sequence[int]) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            return np.array([float(text) for text in texts], np.float64).astype(np.float32)
    except ValueError:
        for text, line in zip(texts, lines, strict=True):
            try:
                float(text)
            except ValueError as error:
                raise LatticeFault(f"the cost {text!r} is no number", line) from error
        raise


def _refuse_second_finals(states: np.ndarray, names: np.ndarray, lines: np.ndarray) -> None:
    found, counts = np.unique(states, return_counts=True)
    if (counts > 1).any():
        twice = found[counts > 1][0]
        raise LatticeFault(f"state {names[twice]} is final twice", int(lines[states == twice][1]))


def _pairs(graph_costs: np.ndarray, acoustic_costs: np.ndarray) -> list[str]:
    """`\\tgraph,acoustic` with the digits that float32 needs; nothing where both are 0."""
    graph, acoustic = _texts(graph_costs), _texts(acoustic_costs)
    return ["" if g == a == "0" else f"\t{g},{a}" for g, a in zip(graph, acoustic, strict=True)]


def _texts(values: np.ndarray) -> list[str]:
    return [text.removesuffix(".0") for text in values.astype(np.float32).astype("U32").tolist()]


def _with_runs(costs: list[str], tids: list[str], begins: np.ndarray, ends: np.ndarray) -> list[str]:
    zero = "\t0,0"
    return [f"{cost or zero},{'_'.join(tids[begin:end])}" if cost or end > begin else ""
            for cost, begin, end in zip(costs, begins.tolist(), ends.tolist(), strict=True)]
