"""Find the last frame of a FLAC file, which says at which sample it stands (RFC 9639, section 9)."""

_MARKS = b"\xff\xf8", b"\xff\xf9"
_BLOCK_SIZES = {1: 192, **{2 + i: 576 << i for i in range(4)}, **{8 + i: 256 << i for i in range(8)}}


def find_end(tail: bytes, block_size: int, expected: int) -> int:
    """Return the sample behind the last frame of a file; 0 where no whole frame ends with `tail`, its last bytes.

    Among the bytes of a frame there may be what looks like a header: it counts only if it says `expected`, the sample
    that the file's header leads to, or if the checksum up to the end is right. block_size: of all frames but the last,
    0 where they differ (RFC 9639, section 9.1).
    """
    position = len(tail)
    while (position := max(tail.rfind(mark, 0, position + 1) for mark in _MARKS)) >= 0:
        end = _frame_end(tail, position, block_size)
        if end and (end == expected or _crc(tail[position:], 0x8005, 16) == 0):
            return end
    return 0


def _frame_end(content: bytes, begin: int, block_size: int) -> int:
    """Return the sample behind the frame whose header stands at `begin`; 0 where no header does."""
    header = content[begin : begin + 16]
    if len(header) < 6 or header[3] & 1 or header[3] >> 4 > 10 or header[2] & 15 == 15:
        return 0
    first = header[4]
    extra = 0 if first < 0x80 else 8 - (first ^ 0xFF).bit_length() - 1
    if first >= 0x80 and not 1 <= extra <= 6:
        return 0
    number = first & (0x7F if extra == 0 else (1 << 6 - extra) - 1)
    position = 5
    for byte in header[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
        position += 1
    code, rate = header[2] >> 4, header[2] & 15
    width = {6: 1, 7: 2}.get(code, 0)
    samples = _BLOCK_SIZES.get(code) or int.from_bytes(header[position : position + width], "big") + 1
    position += width + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if code == 0 or len(header) <= position or _crc(header[: position + 1], 0x07, 8):
        return 0
    is_variable = header[1] & 1
    if not is_variable and not block_size:
        return 0
    return (number if is_variable else number * block_size) + samples


def _crc(content: bytes, polynomial: int, bits: int) -> int:
    """Return the checksum of content without reflection, from 0; 0 over content with its checksum behind it."""
    mask, top, value = (1 << bits) - 1, 1 << bits - 1, 0
    for byte in content:
        value ^= byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
