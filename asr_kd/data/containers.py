"""Lengths of audio files by their own bytes, where a header leaves them out or says them wrongly.

Programs that write to a pipe cannot go back to fill in a length, MP3 has none unless an encoder adds one, and a
recorder that is switched off leaves a header of its first second. libsndfile believes the header, or guesses. Here
the container is walked: where the header is right, libsndfile opens the file as it is; where the length is unknown,
it opens a view with the true length in the header; where header and content contradict each other, ContainerFault
says both figures.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from asr_kd.data.file_views import View
from asr_kd.data.flac import find_end
from asr_kd.data.mpeg import find_mpeg_length, is_mpeg

_TAG_BYTES = 128  # an ID3v1 tag at the end
_STRAY_BYTES = 8  # fewer than a chunk's header are no samples that someone meant
_CHUNKS_OF_AUDIO = {b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"data", b"SSND"}
_CHUNKS_OF_FACTS = {b"LIST", b"id3 ", b"ID3 ", b"fact", b"cue ", b"bext", b"iXML", b"PEAK", b"smpl", b"JUNK", b"junk"}


class ContainerFault(Exception):
    """A header that its file contradicts; `reason` is one of AudioError's, `detail` gives both figures."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Layout:
    """Streams that are to be decoded one after the other; none: the file as it is.

    is_counted: whether libsndfile then knows the length; else all must be decoded to count it. is_whole: whether
    everything that the length promises is known to be there.
    """

    views: tuple[View, ...] = ()
    is_counted: bool = True
    is_whole: bool = False


AS_IT_IS, WHOLE = Layout(), Layout(is_whole=True)


def examine(path: Path) -> Layout:
    """Find out how the file must be opened for all of its samples.

    Raises ContainerFault ("truncated", "wrong length", and "not audio" for what is of none of the kinds that corpora
    come in: libsndfile's readers of samplers' and editors' formats trust their headers too much), and OSError where
    the file cannot be read.
    """
    with open(path, "rb", buffering=1 << 12) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(64)
        begin = 0
        while start[:3] == b"ID3" and len(start) > 10:
            begin += 10 + _id3_bytes(start)
            file.seek(begin)
            start = file.read(64)
        for magics, walk in _WALKS:
            if begin == 0 and start.startswith(magics):
                return walk(file, size)
        if is_mpeg(start) or (begin and not start.startswith(_OTHERS)):
            return _mpeg(file, begin, size)
        if start.startswith(_OTHERS):
            return AS_IT_IS
    raise ContainerFault("not audio", "expected WAV, FLAC, MP3, Ogg, AIFF, AU, W64, CAF, SPHERE or VOC")


def _id3_bytes(header: bytes) -> int:
    """Bytes of an ID3v2 tag behind its header of ten (seven bits a byte)."""
    return header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]


# Uncompressed samples in a chunk whose length stands before it


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Samples from `begin` on, of which the header says `declared` bytes; is_unknown: as writers to a pipe put it."""

    declared: int
    begin: int
    is_unknown: bool


def _is_unknown(declared: int) -> bool:
    """True for a 32-bit length that writers to a pipe put (about 2 GiB or 4 GiB)."""
    return 0x7F000000 <= declared <= 0x80000200 or declared >= 0xFFFF0000


def _settle(
    file: BinaryIO, size: int, chunk: _Chunk, is_chunk_list: Callable[[BinaryIO, int, int], bool]
) -> int | None:
    """The bytes of samples that a header should have said; None where it is right."""
    available = size - chunk.begin
    if chunk.declared > available:
        if chunk.is_unknown:
            return available
        detail = f"{available} bytes of samples, its header says {chunk.declared}"
        raise ContainerFault("truncated", detail)
    behind = chunk.begin + chunk.declared
    if available - chunk.declared < _STRAY_BYTES or is_chunk_list(file, behind, size):
        return None
    if chunk.declared == 0 or chunk.is_unknown:
        return available
    if _is_padding(file, behind, size):
        return None
    detail = (f"its header says {chunk.declared} bytes of samples, {available} bytes follow it that are no other "
              "chunks; write the file again, with the right length")
    raise ContainerFault("wrong length", detail)


def _is_padding(file: BinaryIO, begin: int, end: int) -> bool:
    """True where there is nothing but zeros between two offsets."""
    file.seek(begin)
    while begin < end:
        block = file.read(min(1 << 16, end - begin))
        if not block or block.count(0) < len(block):
            return False
        begin += len(block)
    return True


def _riff_chunks_follow(order: str, align: int = 2) -> Callable[[BinaryIO, int, int], bool]:
    """A test of whether other chunks (or an ID3 tag) stand between two offsets, and no second recording."""

    def follow(file: BinaryIO, begin: int, end: int) -> bool:
        begins = [begin + -begin % align, begin]  # some writers forget the byte that makes a length even
        return any(_chunks_reach(file, first, end, order, align) for first in dict.fromkeys(begins))

    return follow


def _chunks_reach(file: BinaryIO, begin: int, end: int, order: str, align: int) -> bool:
    chunks = 0
    while end - begin >= _STRAY_BYTES:
        file.seek(begin)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if name in _CHUNKS_OF_FACTS or name[:3] in (b"TAG", b"ID3"):
            return True
        if not (name.isascii() and all(32 <= byte < 127 for byte in name)) or name in _CHUNKS_OF_AUDIO:
            return False
        begin += 8 + length + length % align
        chunks += 1
    return chunks > 0 and begin <= end + align


def _find_chunk(file: BinaryIO, begin: int, size: int, order: str, name: bytes) -> tuple[int, int, dict[bytes, int]]:
    """Offset of a chunk's content and its length, and the offsets of those before it; (0, 0) where there is none."""
    before: dict[bytes, int] = {}
    while begin + 8 <= size:
        file.seek(begin)
        chunk, length = struct.unpack(f"{order}4sI", file.read(8))
        if chunk == name:
            return begin + 8, length, before
        before[chunk] = begin + 8
        begin += 8 + length + length % 2
    return 0, 0, before


def _wav(file: BinaryIO, size: int) -> Layout:
    file.seek(0)
    form = file.read(4)
    order = ">" if form == b"RIFX" else "<"
    begin, declared, before = _find_chunk(file, 12, size, order, b"data")
    if not begin:
        return AS_IT_IS
    is_unknown = _is_unknown(declared)
    large = before.get(b"ds64") if form in (b"RF64", b"BW64") else None
    if large is not None and declared == 0xFFFFFFFF:
        file.seek(large + 8)
        (declared,) = struct.unpack("<Q", file.read(8))
        is_unknown = declared >= 1 << 62
    right = _settle(file, size, _Chunk(declared, begin, is_unknown), _riff_chunks_follow(order))
    if right is None:
        return WHOLE
    if large is not None:
        sizes = (large, struct.pack("<QQ", size - 8, right))
        return Layout((View(0, size, patches=(sizes, (begin - 4, b"\xff" * 4))),))
    return _patched(size, order, begin - 4, right)


def _aiff(file: BinaryIO, size: int) -> Layout:
    file.seek(8)
    if file.read(4) not in (b"AIFF", b"AIFC"):
        raise ContainerFault("not audio", "an IFF file that is no AIFF")
    begin, declared, _ = _find_chunk(file, 12, size, ">", b"SSND")
    if not begin:
        return AS_IT_IS
    chunk = _Chunk(declared, begin, _is_unknown(declared))
    right = _settle(file, size, chunk, _riff_chunks_follow(">"))
    return WHOLE if right is None else _patched(size, ">", begin - 4, right)


def _patched(size: int, order: str, offset: int, right: int) -> Layout:
    """The file with the right length of its samples at `offset`, and of all at offset 4."""
    if right >= 1 << 32:
        detail = f"{right} bytes of samples follow a header that can say 4 GiB at most; write it as RF64 or FLAC"
        raise ContainerFault("wrong length", detail)
    lengths = (4, struct.pack(f"{order}I", min(size - 8, 0xFFFFFFFF))), (offset, struct.pack(f"{order}I", right))
    return Layout((View(0, size, patches=lengths),))


def _au(file: BinaryIO, size: int) -> Layout:
    file.seek(0)
    header = file.read(12)
    if len(header) < 12:
        return AS_IT_IS
    order = ">" if header[:4] == b".snd" else "<"
    begin, declared = struct.unpack(f"{order}II", header[4:])
    if not 24 <= begin <= size:
        return AS_IT_IS
    right = _settle(file, size, _Chunk(declared, begin, _is_unknown(declared)), _nothing_follows)
    if right is None:
        return WHOLE
    return Layout((View(0, size, patches=((8, struct.pack(f"{order}I", min(right, 0xFFFFFFFF))),)),))


def _nothing_follows(file: BinaryIO, begin: int, end: int) -> bool:
    return begin == end


def _w64(file: BinaryIO, size: int) -> Layout:
    begin = 40
    while begin + 24 <= size:
        file.seek(begin)
        guid, length = struct.unpack("<16sQ", file.read(24))
        if guid[:4] == b"data":
            chunk = _Chunk(max(0, length - 24), begin + 24, length >= 1 << 62)
            right = _settle(file, size, chunk, _w64_chunks_follow)
            if right is None:
                return WHOLE
            lengths = (16, struct.pack("<Q", size)), (begin + 16, struct.pack("<Q", right + 24))
            return Layout((View(0, size, patches=lengths),))
        if length < 24:
            return AS_IT_IS
        begin += length + -length % 8
    return AS_IT_IS


def _w64_chunks_follow(file: BinaryIO, begin: int, end: int) -> bool:
    begin += -begin % 8
    chunks = 0
    while end - begin >= 24:
        file.seek(begin)
        guid, length = struct.unpack("<16sQ", file.read(24))
        if not (guid[:4].isalpha() and 24 <= length <= end - begin):
            return False
        begin += length + -length % 8
        chunks += 1
    return chunks > 0


def _caf(file: BinaryIO, size: int) -> Layout:
    begin = 8
    while begin + 12 <= size:
        file.seek(begin)
        name, length = struct.unpack(">4sq", file.read(12))
        if name == b"data":
            declared = 0 if length < 0 else length
            right = _settle(file, size, _Chunk(declared, begin + 12, length < 0), _caf_chunks_follow)
            if right is None:
                return WHOLE
            return Layout((View(0, size, patches=((begin + 4, struct.pack(">q", right)),)),))
        if length < 0:
            return AS_IT_IS
        begin += 12 + length
    return AS_IT_IS


def _caf_chunks_follow(file: BinaryIO, begin: int, end: int) -> bool:
    chunks = 0
    while end - begin >= 12:
        file.seek(begin)
        name, length = struct.unpack(">4sq", file.read(12))
        if not (name.isascii() and name.isalnum() and 0 <= length <= end - begin) or name == b"data":
            return False
        begin += 12 + length
        chunks += 1
    return chunks > 0


# FLAC


def _flac(file: BinaryIO, size: int) -> Layout:
    """Compare the length in a FLAC header with the last frame, which says where it stands."""
    file.seek(0)
    info = file.read(42)
    if len(info) < 42 or info[4] & 0x7F:
        return AS_IT_IS
    smallest, largest = struct.unpack(">HH", info[8:12])
    largest_frame = int.from_bytes(info[15:18], "big")
    (packed,) = struct.unpack(">Q", info[18:26])
    channels, bits, total = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & (1 << 36) - 1
    reach = largest_frame or largest * channels * (bits // 8 + 1) + 64
    file.seek(max(42, size - reach - _TAG_BYTES))
    tail = file.read()
    if tail[-_TAG_BYTES:-_TAG_BYTES + 3] == b"TAG":
        tail = tail[:-_TAG_BYTES]
    end = find_end(tail, smallest if smallest == largest else 0, total)
    if total and end in (0, total):
        return AS_IT_IS  # where there is no whole last frame it is cut, as decoding will say
    if total and end < total:
        raise ContainerFault("truncated", f"{end} samples, its header says {total}")
    if total:
        detail = f"its header says {total} samples, its last frame ends at sample {end}; encode the file again"
        raise ContainerFault("wrong length", detail)
    if not end:
        raise ContainerFault("truncated", "its last frame is cut or missing")
    right = struct.pack(">Q", packed | end)
    return Layout((View(0, size, patches=((18, right),)),))


# Ogg


def _ogg(file: BinaryIO, size: int) -> Layout:
    """Part an Ogg file into the streams that were chained to it (RFC 3533, section 4)."""
    begins, position, was_first = [], 0, False
    end_is_marked = False
    while position < size:
        file.seek(position)
        header = file.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            break
        lengths = file.read(header[26])
        following = position + 27 + header[26] + sum(lengths)
        if len(lengths) < header[26] or following > size:
            break
        is_first = bool(header[5] & 2)
        if is_first and not was_first:
            begins.append(position)
        was_first, end_is_marked = is_first, bool(header[5] & 4)
        position = following
    if not end_is_marked or (position < size and not _is_padding(file, position, size)):
        raise ContainerFault("truncated", "the last page of the Ogg stream is cut or missing")
    if len(begins) < 2:
        return WHOLE
    return Layout(tuple(View(begin, end) for begin, end in pairwise([*begins, position])), is_whole=True)


# MPEG


def _mpeg(file: BinaryIO, begin: int, size: int) -> Layout:
    file.seek(begin)
    stream = find_mpeg_length(file.read())
    if stream is None:
        return AS_IT_IS
    if stream.fault:
        raise ContainerFault("truncated", stream.fault)
    patches = tuple((begin + offset, content) for offset, content in stream.patches)
    if not stream.prefix and not patches:
        return AS_IT_IS
    view = View(begin + stream.begin, begin + stream.end, stream.prefix, patches)
    return Layout((view,), is_counted=stream.is_clean)


_OTHERS = (b"fLaC", b"NIST_1A", b"Creative Voice File")  # read as they are, FLAC behind an ID3 tag
_WALKS: list[tuple[tuple[bytes, ...], Callable[[BinaryIO, int], Layout]]] = [
    ((b"RIFF", b"RIFX", b"RF64", b"BW64"), _wav),
    ((b"fLaC",), _flac),
    ((b"OggS",), _ogg),
    ((b"FORM",), _aiff),
    ((b".snd", b"dns."), _au),
    ((b"riff",), _w64),
    ((b"caff",), _caf),
]
