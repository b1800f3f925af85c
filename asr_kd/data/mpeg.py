"""The length of an MP3 file, counted frame by frame.

An MPEG stream says its length only where an encoder put a frame with Xing's tag before it; else libsndfile estimates
from the first frames, and cuts what is behind its estimate off. The frames can be walked without decoding them.
"""

import struct
from dataclasses import dataclass

_BITRATES = {  # kbit/s by (MPEG version 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLING_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version's bits
_SAME_STREAM = 0xFFFE0C00  # version, layer and sampling rate
_XING, _INFO, _VBRI = b"Xing", b"Info", b"VBRI"
_HAS_FRAMES, _HAS_BYTES = 1, 2
_TAG_BYTES = 48  # with LAME's extension
_EXTENSION = b"LAME3.100".ljust(21, b"\0")  # up to the delay
_DECODER_DELAY = 529  # samples


@dataclass(frozen=True, slots=True)
class MpegLength:
    """The frames between `begin` and `end`, and what must be changed so that a decoder knows how many there are.

    prefix: frames that are to stand before `begin`, with Xing's tag in the first; patches: (offset, bytes) to be laid
    over the content; is_clean: whether nothing but frames stands there; fault: a sentence where the stream is cut.
    """

    frames: int
    begin: int
    end: int
    prefix: bytes = b""
    patches: tuple[tuple[int, bytes], ...] = ()
    is_clean: bool = True
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The properties of a frame by the four bytes at its head; `length` in bytes of the whole frame."""

    layer: int
    length: int
    samples: int
    side_bytes: int


def is_mpeg(start: bytes) -> bool:
    """True where content begins like an MPEG audio stream."""
    return len(start) >= 4 and _frame(int.from_bytes(start[:4], "big")) is not None


def find_mpeg_length(content: bytes) -> MpegLength | None:
    """Count the frames of a stream; None where its tag is right, or its frames have no length that could be known."""
    origin = _first_frame(content)
    head = int.from_bytes(content[origin : origin + 4], "big")
    first = _frame(head)
    if first is None or first.layer != 3:
        return None  # decoders read tags of layer 3 only
    tag = _Tag.of(content, origin, first)
    begin = origin + (first.length if tag is not None else 0)
    frames, end, missing, is_clean = _walk(content, begin, head)
    if frames == 0:
        return None
    if missing:
        return MpegLength(frames, begin, end, fault=f"{missing} bytes of the last MPEG frame are missing")
    if tag is not None and tag.frames is not None:
        if tag.frames == frames and is_clean:
            return None
        if tag.frames > frames + 1 and is_clean and not tag.is_all_there(end):
            fault = f"{frames} MPEG frames, its header says {tag.frames}"
            return MpegLength(frames, begin, end, fault=fault)
        right = struct.pack(">I", frames if is_clean else 2 * frames)
        return MpegLength(frames, origin, end, patches=((tag.frames_offset, right),), is_clean=is_clean)
    counted = frames if is_clean else 2 * frames
    return MpegLength(frames, begin, end, prefix=_counting_frames(head, counted), is_clean=is_clean)


@dataclass(frozen=True, slots=True)
class _Tag:
    """The content of Xing's tag (or Fraunhofer's, which decoders do not read); None for what it leaves out."""

    frames: int | None
    frames_offset: int
    stream_bytes: int | None

    @staticmethod
    def of(content: bytes, origin: int, first: _Frame) -> "_Tag | None":
        if content[origin + 36 : origin + 40] == _VBRI:
            return _Tag(None, 0, None)
        offset = origin + 4 + first.side_bytes
        if content[offset : offset + 4] not in (_XING, _INFO) or len(content) < offset + 16:
            return None
        flags, *values = struct.unpack(">III", content[offset + 4 : offset + 16])
        frames = values[0] if flags & _HAS_FRAMES else None
        size = values[1 if frames is not None else 0] if flags & _HAS_BYTES else None
        return _Tag(frames, offset + 8, size)

    def is_all_there(self, end: int) -> bool:
        """True where as many bytes as the tag says stand before `end`."""
        return self.stream_bytes is not None and self.stream_bytes <= end


def _first_frame(content: bytes) -> int:
    """The offset of the first frame that another follows (a tag may be followed by padding); 0 where there is none."""
    if is_mpeg(content):
        return 0
    position = 0
    while (position := content.find(b"\xff", position)) >= 0:
        header = int.from_bytes(content[position : position + 4], "big")
        if _frame(header) is not None and _resynchronised(content, position, header & _SAME_STREAM) == position:
            return position
        position += 1
    return 0


def _walk(content: bytes, position: int, head: int) -> tuple[int, int, int, bool]:
    """Frames from `position` on, where they end, bytes missing from the last, and whether nothing else was met."""
    frames, end, is_clean = 0, position, True
    lengths: dict[int, int] = {}
    stream = head & _SAME_STREAM
    while position + 4 <= len(content):
        header = int.from_bytes(content[position : position + 4], "big")
        if header & _SAME_STREAM == stream:
            key = header >> 8
            length = lengths.get(key)
            if length is None:
                frame = _frame(header)
                length = lengths[key] = 0 if frame is None else frame.length
            if length:
                if position + length > len(content):
                    return frames, end, position + length - len(content), is_clean
                frames += 1
                position = end = position + length
                continue
        position = _resynchronised(content, position + 1, stream)
        is_clean = is_clean and position == len(content)  # a tag at the end is no fault
    return frames, end, 0, is_clean


def _resynchronised(content: bytes, position: int, stream: int) -> int:
    """The next offset at which a frame stands that another follows; the end where there is none."""
    while (position := content.find(b"\xff", position)) >= 0:
        header = int.from_bytes(content[position : position + 4], "big")
        frame = _frame(header) if header & _SAME_STREAM == stream else None
        if frame is not None:
            following = int.from_bytes(content[position + frame.length : position + frame.length + 4], "big")
            if following & _SAME_STREAM == stream:
                return position
        position += 1
    return len(content)


def _frame(header: int) -> _Frame | None:
    """Read a frame's header; None where it is none, or leaves the length open (free format)."""
    version, layer = header >> 19 & 3, 4 - (header >> 17 & 3)
    bitrate, rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    bits = 1000 * _BITRATES[is_first, layer][bitrate - 1]
    sampling_rate, padding = _SAMPLING_RATES[version][rate], header >> 9 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and not is_first else 1152
    slot = 4 if layer == 1 else 1
    length = (samples // 8 // slot * bits // sampling_rate + padding) * slot
    is_mono = header >> 6 & 3 == 3
    side_bytes = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(layer, length, samples, side_bytes)


def _counting_frames(head: int, frames: int) -> bytes:
    """Two frames to stand before a stream whose frames begin like `head`: Xing's tag with their number, and silence.

    A decoder that meets a tag leaves out what it takes for its own delay. The silent frame is there to be left out:
    the tag says that an encoder's delay filled the rest of it (Xing's tag as LAME extended it).
    """
    header = _roomy(head)
    frame = _frame(header)
    assert frame is not None
    empty = struct.pack(">I", header) + bytes(frame.side_bytes)
    delay = frame.samples - _DECODER_DELAY
    tag = _XING + struct.pack(">II", _HAS_FRAMES, frames + 1) + _EXTENSION
    tag += (delay << 12 | _DECODER_DELAY).to_bytes(3, "big")
    return (empty + tag).ljust(frame.length, b"\0") + empty.ljust(frame.length, b"\0")


def _roomy(head: int) -> int:
    """The head of the shortest frame, without checksum and padding, that has room for a tag."""
    for bitrate in range(1, 15):
        header = (head | 1 << 16) & ~(1 << 9) & ~(15 << 12) | bitrate << 12
        frame = _frame(header)
        if frame is not None and frame.length >= 4 + frame.side_bytes + _TAG_BYTES:
            return header
    raise AssertionError("every sampling rate has a bit rate whose frames hold a tag")
