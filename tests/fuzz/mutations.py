"""Damage to one file of an input: bits, lengths, numbers, fields, bytes that are no text, things that are no file."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NUMBERS = (b"1e308", b"-1e308", b"1e39", b"-1e39", b"1e-320", b"-1", b"0", b"NaN", b"Infinity", b"-inf", b"1e999",
            b"99999999999999999999", b"9" * 400, b"2147483648", b"-2147483649", b"18446744073709551616", b"0x10",
            b"1_000", b"", b'"7"', b"null", b"true", b"[]", b"{}", b"\xd9\xa3")
_BYTES = (b"\0", b"\xed\xa0\x80", b"\\ud800", b"\xff\xfe", b"\xc3", b"\xef\xbb\xbf", b"\x1b[2J", b"\xe2\x80\xa8", b"\r",
          b"\xc2\xa0", b'"', b"'", b"[", b"]", b"{", b"}", b":", b",", b"/../", b"|", b"%s", b"\t", b"\n", b" ")
_COUNTS = (0, 1, -1, 255, 2**15, 2**16, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)

Mutation = Callable[[bytes, np.random.Generator], bytes]


def damage(file: Path, pool: Sequence[Path], generator: np.random.Generator) -> str:
    """Damage `file` (now and then replace it by one of `pool`, or by what is no file); returns how, in a word."""
    choice = generator.random()
    if choice < 0.06:
        return _replace_by_no_file(file, generator)
    if choice < 0.12:
        shutil.copyfile(pool[int(generator.integers(len(pool)))], file)
        return "swapped"
    content = file.read_bytes()
    names = []
    for _ in range(int(generator.integers(1, 4))):
        mutation = _MUTATIONS[int(generator.integers(len(_MUTATIONS)))]
        content = mutation(content, generator)
        names.append(mutation.__name__.strip("_"))
    file.write_bytes(content)
    return "+".join(names)


def _replace_by_no_file(file: Path, generator: np.random.Generator) -> str:
    file.unlink()
    kind = ("folder", "fifo", "dangling", "loop", "device", "missing")[int(generator.integers(6))]
    if kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind != "missing":
        target = {"dangling": file.with_name("nowhere"), "loop": file, "device": Path("/dev/zero")}[kind]
        os.symlink(target, file)
    return kind


def _flip_bits(content: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(generator.integers(1, 9)) if content else 0):
        changed[int(generator.integers(len(changed)))] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _truncate(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: int(generator.integers(len(content) + 1))]


def _cut_out(content: bytes, generator: np.random.Generator) -> bytes:
    begin, end = sorted(generator.integers(len(content) + 1, size=2).tolist())
    return content[:begin] + content[min(end, begin + 64):]


def _insert(content: bytes, generator: np.random.Generator) -> bytes:
    at = int(generator.integers(len(content) + 1))
    return content[:at] + generator.bytes(int(generator.integers(1, 40))) + content[at:]


def _insert_bytes_of_meaning(content: bytes, generator: np.random.Generator) -> bytes:
    at = int(generator.integers(len(content) + 1))
    return content[:at] + _BYTES[int(generator.integers(len(_BYTES)))] + content[at:]


def _insert_many(content: bytes, generator: np.random.Generator) -> bytes:
    at = int(generator.integers(len(content) + 1))
    some = _BYTES[int(generator.integers(len(_BYTES)))]
    return content[:at] + some * int(generator.integers(1000, 200_000)) + content[at:]


def _replace_number(content: bytes, generator: np.random.Generator) -> bytes:
    places = list(_NUMBER.finditer(content[: 1 << 20]))
    if not places:
        return _flip_bits(content, generator)
    place = places[int(generator.integers(len(places)))]
    return content[: place.start()] + _NUMBERS[int(generator.integers(len(_NUMBERS)))] + content[place.end():]


def _delete_field(content: bytes, generator: np.random.Generator) -> bytes:
    places = list(re.finditer(rb"[^\s,]+[\s,]*", content[: 1 << 20]))
    if not places:
        return b""
    place = places[int(generator.integers(len(places)))]
    return content[: place.start()] + content[place.end():]


def _repeat_line(content: bytes, generator: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    at = int(generator.integers(len(lines)))
    return b"\n".join([*lines[:at], *[lines[at]] * int(generator.integers(2, 5)), *lines[at:]])


def _exchange_lines(content: bytes, generator: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    first, second = generator.integers(len(lines), size=2).tolist()
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


def _change_count(content: bytes, generator: np.random.Generator) -> bytes:
    """A count of four or eight bytes, most often in the header."""
    size = (4, 8)[int(generator.integers(2))]
    reach = min(len(content), 64 if generator.random() < 0.7 else len(content))
    if reach <= size:
        return content
    at = int(generator.integers(reach - size))
    count = _COUNTS[int(generator.integers(len(_COUNTS)))] % 2 ** (8 * size)
    return content[:at] + count.to_bytes(size, "little") + content[at + size:]


def _empty(content: bytes, generator: np.random.Generator) -> bytes:
    return b""


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits, _truncate, _cut_out, _insert, _insert_bytes_of_meaning, _insert_many, _replace_number, _replace_number,
    _delete_field, _repeat_line, _exchange_lines, _change_count, _change_count, _empty)
