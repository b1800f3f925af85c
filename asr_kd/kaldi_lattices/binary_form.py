"""One lattice in Kaldi's binary form: an OpenFst VectorFst with pairs of costs for weights, read and written.

Layout (OpenFst's fst.h and vector-fst.h, Kaldi's fstext/lattice-weight.h), all little-endian: int32 magic; FST type
and arc type, each an int32 length and its bytes; int32 version, int32 flags, uint64 properties, int64 start, int64
number of states, int64 number of arcs (vector FSTs leave 0). Then each state: its final weight, int64 number of arcs,
and each arc as int32 input label, int32 output label, weight, int32 next state. A weight is two float32, graph and
acoustic cost, both infinite for a state that is not final; in a compact lattice an int32 count and that many int32
transition-ids follow. Kaldi puts no "\\0B" before a lattice in an archive.
"""

import struct

import numpy as np
from numba import njit

from asr_kd.kaldi_lattices.byte_stream import MOST_BYTES, ByteStream
from asr_kd.kaldi_lattices.unsorted import LatticeFault, UnsortedLattice
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice

MAGIC = struct.pack("<i", 2125659606)
_LATTICE, _COMPACT = b"lattice4", b"compactlattice44"
_COUNT, _FIXED = struct.Struct("<i"), struct.Struct("<iiQqqq")
_NAME_LIMIT = 64
_MINIMUM_VERSION, _VERSION = 2, 2
_SYMBOLS = 3  # Flags of input and output symbol tables.
_PROPERTIES = 3  # Expanded and mutable, as every vector FST is; OpenFst finds out the others when it needs them.
_LONGEST = 1 << 48  # Larger counts would overflow; no file is as long.
_CUT_OFF = "cut off: the file ends within the lattice"


def parse_lattice(stream: ByteStream) -> UnsortedLattice:
    """The lattice that `stream` is at, which is passed; LatticeFault: not one, or cut off."""
    begin, compact, start, states = _header(stream)
    ints = np.zeros(0, np.int32)
    words, arcs, tids = -4 * states, 0, 0
    while words < 0:
        # How much is needed at least is known, not how much in all; by doubling, little is looked at again.
        least = begin - 4 * words
        if least > MOST_BYTES and not stream.lacks(least):
            raise LatticeFault(f"more than {MOST_BYTES >> 20} MiB for one lattice")
        content = b"" if stream.lacks(least) else stream.look(max(least, begin + 8 * len(ints)))
        if len(content) < least:
            raise LatticeFault(_CUT_OFF)
        ints = np.frombuffer(content, "<i4", (len(content) - begin) // 4, begin).astype(np.int32)
        words, arcs, tids = _measure(ints, states, compact)
        if arcs < 0:
            raise LatticeFault("damaged: a negative number of arcs or transition-ids")
    stream.skip(begin + 4 * words)
    counts, bits, labels, run, final_bits, final_run, strings = _read(ints, states, arcs, tids, compact)
    targets = labels[:, 2].copy()
    if (targets < 0).any() or (targets >= states).any():
        raise LatticeFault(f"damaged: an arc to state {targets[(targets < 0) | (targets >= states)][0]} of {states}")
    if compact and (labels[:, 0] != labels[:, 1]).any():
        raise LatticeFault("input and output labels differ; a compact lattice has the word twice")
    if not compact:
        strings = labels[labels[:, 0] != 0, 0]
        run[:, 1] = np.cumsum(labels[:, 0] != 0)
        run[:, 0] = run[:, 1] - (labels[:, 0] != 0)
    costs, finals = bits.view(np.float32), final_bits.view(np.float32)
    final_states = np.flatnonzero(~np.isposinf(finals).all(1)).astype(np.int32)
    nothing = np.zeros(0, np.int64)
    return UnsortedLattice(
        start, states, np.repeat(np.arange(states, dtype=np.int32), counts), targets, labels[:, 1].copy(),
        costs[:, 0].copy(), costs[:, 1].copy(), run[:, 0].copy(), run[:, 1].copy(), final_states,
        finals[final_states, 0], finals[final_states, 1], final_run[final_states, 0], final_run[final_states, 1],
        strings, nothing, nothing, nothing)


def lattice_bytes(lattice: Lattice | WordLattice) -> bytes:
    """A lattice, or a compact one for a WordLattice."""
    if isinstance(lattice, WordLattice):
        arc_type, compact = _COMPACT, True
        begins, ends, tids = lattice.begins, lattice.ends, lattice.transition_ids
        final_begins, final_ends = lattice.final_begins, lattice.final_ends
        graph, acoustic, input_labels = lattice.final_graph_costs, lattice.final_acoustic_costs, lattice.words
    else:
        arc_type, compact = _LATTICE, False
        begins = ends = final_begins = final_ends = tids = np.zeros(0, np.int32)
        graph, acoustic, input_labels = lattice.final_costs, np.zeros_like(lattice.final_costs), lattice.transition_ids
    acoustic = np.where(np.isfinite(graph), acoustic, np.float32(np.inf))
    states = lattice.num_states
    header = [MAGIC, _COUNT.pack(6), b"vector", _COUNT.pack(len(arc_type)), arc_type,
              _FIXED.pack(_VERSION, 0, _PROPERTIES, 0 if states else -1, states, 0)]
    body = _write(lattice.offsets, lattice.targets, input_labels, lattice.words,
                  _bits(lattice.graph_costs), _bits(lattice.acoustic_costs), begins, ends,
                  _bits(graph), _bits(acoustic), final_begins, final_ends, tids, compact)
    return b"".join([*header, body.astype("<i4").tobytes()])


def _header(stream: ByteStream) -> tuple[int, bool, int, int]:
    """Size of the header, whether the lattice is compact, start state, number of states."""
    content = stream.look(len(MAGIC) + 2 * (_COUNT.size + _NAME_LIMIT) + _FIXED.size)
    names, position = [], len(MAGIC)
    try:
        for _ in range(2):
            (length,) = _COUNT.unpack_from(content, position)
            if not 0 < length <= _NAME_LIMIT:
                raise LatticeFault("damaged: no type of FST in its header")
            names.append(content[position + _COUNT.size : position + _COUNT.size + length])
            position += _COUNT.size + length
        version, flags, _, start, states, _ = _FIXED.unpack_from(content, position)
    except struct.error as error:
        raise LatticeFault(_CUT_OFF) from error
    kind, arc_type = names
    if kind != b"vector" or arc_type not in (_LATTICE, _COMPACT):
        raise LatticeFault(f"an FST of type {kind.decode('ascii', 'replace')!r} with arcs "
                           f"{arc_type.decode('ascii', 'replace')!r}; expected 'vector' with 'lattice4' or "
                           "'compactlattice44' (Kaldi's lattice-copy converts)")
    if version < _MINIMUM_VERSION or flags & _SYMBOLS:
        raise LatticeFault(f"version {version}, flags {flags}; expected version 2 or later without symbol tables")
    if states < 0 or not (0 <= start < states or states == 0 and start == -1) or states >= 2**31:
        raise LatticeFault(f"damaged: start state {start} of {states} states")
    return position + _FIXED.size, arc_type == _COMPACT, start, states


def _bits(costs: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(costs, np.float32).view(np.int32)


@njit(nogil=True, cache=True)
def _measure(ints, states, compact):  # type: ignore[no-untyped-def]
    """Length of the states in int32, their arcs and transition-ids.

    The negative of a length that is needed at least, where that is not there; -1 arcs where a count is negative.
    """
    position, arcs, tids = 0, 0, 0
    for _ in range(states):
        if compact:
            if position + 3 > len(ints):
                return -(position + 5), 0, 0
            if ints[position + 2] < 0:
                return 0, -1, 0
            tids += ints[position + 2]
            position += 1 + ints[position + 2]
        position += 4
        if position > len(ints):
            return -position, 0, 0
        if ints[position - 1] < 0:
            return 0, -1, 0
        count = (np.int64(ints[position - 1]) << 32) + (np.int64(ints[position - 2]) & 0xFFFFFFFF)
        width = 6 if compact else 5
        if count > (len(ints) - position) // width:
            return -(position + min(count, _LONGEST) * width), 0, 0
        arcs += count
        if not compact:
            position += 5 * count
            continue
        for _ in range(count):
            if position + 6 > len(ints):
                return -(position + 6), 0, 0
            length = ints[position + 4]
            if length < 0:
                return 0, -1, 0
            tids += length
            position += 6 + length
    if position > len(ints):
        return -position, 0, 0
    return position, arcs, tids


@njit(nogil=True, cache=True)
def _read(ints, states, arcs, tids, compact):  # type: ignore[no-untyped-def]
    """Arcs of each state; of arcs: costs, labels with target, runs; of states: final costs and runs; the runs."""
    counts = np.zeros(states, np.int64)
    bits = np.zeros((arcs, 2), np.int32)
    labels = np.zeros((arcs, 3), np.int32)
    run = np.zeros((arcs, 2), np.int32)
    final_bits = np.zeros((states, 2), np.int32)
    final_run = np.zeros((states, 2), np.int32)
    strings = np.zeros(tids, np.int32)
    position, arc, tid = 0, 0, 0
    for s in range(states):
        final_bits[s] = ints[position : position + 2]
        position += 2
        if compact:
            length = ints[position]
            strings[tid : tid + length] = ints[position + 1 : position + 1 + length]
            final_run[s] = tid, tid + length
            tid += length
            position += 1 + length
        counts[s] = (np.int64(ints[position + 1]) << 32) + (np.int64(ints[position]) & 0xFFFFFFFF)
        position += 2
        for _ in range(counts[s]):
            labels[arc, :2] = ints[position : position + 2]
            bits[arc] = ints[position + 2 : position + 4]
            position += 4
            if compact:
                length = ints[position]
                strings[tid : tid + length] = ints[position + 1 : position + 1 + length]
                run[arc] = tid, tid + length
                tid += length
                position += 1 + length
            labels[arc, 2] = ints[position]
            position += 1
            arc += 1
    return counts, bits, labels, run, final_bits, final_run, strings


@njit(nogil=True, cache=True)
def _write(  # type: ignore[no-untyped-def]
    offsets, targets, input_labels, words, graph_costs, acoustic_costs, begins, ends, final_graph_costs,
    final_acoustic_costs, final_begins, final_ends, tids, compact
):
    """Return as int32 what `_read` reads."""
    states, arcs = len(final_graph_costs), len(targets)
    size = 4 * states + 5 * arcs
    if compact:
        size += states + arcs + (final_ends - final_begins).sum() + (ends - begins).sum()
    ints = np.zeros(size, np.int32)
    position = 0
    for s in range(states):
        ints[position], ints[position + 1] = final_graph_costs[s], final_acoustic_costs[s]
        position += 2
        if compact:
            length = final_ends[s] - final_begins[s]
            ints[position] = length
            ints[position + 1 : position + 1 + length] = tids[final_begins[s] : final_ends[s]]
            position += 1 + length
        ints[position] = offsets[s + 1] - offsets[s]
        position += 2
        for arc in range(offsets[s], offsets[s + 1]):
            ints[position], ints[position + 1] = input_labels[arc], words[arc]
            ints[position + 2], ints[position + 3] = graph_costs[arc], acoustic_costs[arc]
            position += 4
            if compact:
                length = ends[arc] - begins[arc]
                ints[position] = length
                ints[position + 1 : position + 1 + length] = tids[begins[arc] : ends[arc]]
                position += 1 + length
            ints[position] = targets[arc]
            position += 1
    return ints
