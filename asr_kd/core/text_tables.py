"""Text tables: UTF-8 lines of fields between spaces and tabs, as all tools of the field write them.

A field ends at an ASCII space or tab and nowhere else: an ideographic space (U+3000) or a no-break space is part of a
word. Every reader of transcripts, lexica, language models, CTM, STM and Kaldi's tables goes through this module.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.opening import open_file, reading

LONGEST_LINE = 1 << 24
"""Bytes that a line may have: the words of a day of speech are fewer than a million, a tenth of this."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FIRST_FIELD = re.compile(r"([^ \t]+)[ \t]*")
_NOT_A_WORD = re.compile(r"[\x00-\x20\x7f]")
_BYTE_ORDER_MARK = "\ufeff"
# First bytes of content that is no text, and the tool that unpacks or reads it.
_BINARY_CONTENT = [
    (b"\x1f\x8b", "gzip data", "name it .gz, or unpack it with gunzip"),
    (b"BZh", "bzip2 data", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "xz data", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"PAR1", "a Parquet table", "export it as text"),
    (b"ARROW1", "an Arrow table", "export it as text"),
    (b"SQLite format 3\x00", "an SQLite database", "export it as text"),
    (b"%PDF-", "a PDF document", "export it as text"),
    (b"\xff\xfe", "UTF-16 text", "convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "convert it to UTF-8"),
    (b"RIFF", "audio", "name a text file"),
    (b"fLaC", "audio", "name a text file"),
    (b"OggS", "audio", "name a text file"),
]
_LONGEST_MAGIC = 512
# Bytes that no UTF-8 text has: some of the marks above are words too.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\xc0\xc1\xf5-\xff]")


def read_lines(path: Path, longest: int | None = LONGEST_LINE) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without LF or CRLF) of a UTF-8 text file, `.gz` too.

    A byte order mark at the beginning of a line is left out. InputError, with file and line: a missing file, a
    folder, damaged gzip, bytes that are not UTF-8 (with their column), a line above `longest` bytes (None: any).
    """
    path = Path(path)
    number = 0
    try:
        with reading(path), open_file(path) as packed:
            file = gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed
            kind = describe_binary_content(file.peek(_LONGEST_MAGIC))
            if kind is not None:
                raise InputError(f"{path}: {kind}")
            while raw := file.readline(-1 if longest is None else longest + 1):
                number += 1
                if longest is not None and len(raw) > longest:
                    raise InputError(f"{path}:{number}: the line has more than {longest >> 20} MiB; expected a text "
                                     "file of one record a line")
                line = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
                yield number, line.removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number}: not UTF-8 (byte {error.object[error.start]:#04x} at column "
                         f"{error.start + 1}); convert the file to UTF-8") from error
    except gzip.BadGzipFile as error:
        with open_file(path) as packed:
            kind = describe_binary_content(packed.read(_LONGEST_MAGIC))
        found = kind or f"is no gzip file, but is named {path.suffix}; name it as what it is"
        raise InputError(f"{path}: {found if number == 0 else f'damaged gzip file ({error})'}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error})") from error


def read_table_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without spaces and tabs at its ends) of a text table, empty lines too.

    InputError as of `read_lines`, and for a control character other than the tab, with its column and code point.
    """
    for number, line in read_lines(path):
        if not line.isprintable():
            _refuse_control(line, path, number)
        yield number, line.strip(" \t")


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of the lines of a text table that are not empty; InputError as of the lines."""
    for number, line in read_lines(path):
        if line.isprintable() and line.isascii():
            fields = line.split()
        else:
            _refuse_control(line, path, number)
            fields = words_of(line)
        if fields:
            yield number, fields


def _refuse_control(line: str, path: Path, number: int) -> None:
    found = _CONTROL.search(line)
    if found is not None:
        hint = "; lines end in LF or CRLF" if found.group() == "\r" else ""
        raise InputError(f"{path}:{number}: control character U+{ord(found.group()):04X} at column "
                         f"{found.start() + 1}; expected words between spaces or tabs{hint}")


def words_of(text: str) -> list[str]:
    """The words of a transcript or line: what stands between spaces, tabs and line ends (ASCII ones only).

    >>> words_of("red\\u3000wine  and\\tbread")
    ['red\\u3000wine', 'and', 'bread']
    """
    if text.isascii() and text.isprintable():
        return text.split()
    spaced = text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
    return [word for word in spaced.split(" ") if word]


def first_field(line: str) -> tuple[str, str]:
    """The first field of a line without spaces at its ends, and the rest of the line; empty where there is none."""
    found = _FIRST_FIELD.match(line)
    return (found[1], line[found.end():]) if found else ("", "")


def is_word(text: str) -> bool:
    """True where a text table can hold `text` as one field: not empty, no space, no control character."""
    return bool(text) and _NOT_A_WORD.search(text) is None


def decimal_number(text: str) -> float:
    """The number that a field says, ASCII digits only; ValueError where it is none (`1_0` is one for Python only)."""
    if not text.isascii() or "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def describe_binary_content(start: bytes) -> str | None:
    """Name the kind of a file that is no text by its first bytes, with advice; None where they are of no known kind.

    Example: `describe_binary_content(b"PK\\x03\\x04")` is `"is a zip archive, expected text; unpack it"`.
    """
    if start[257:262] == b"ustar":
        return "is a tar archive, expected text; unpack it"
    for magic, kind, advice in _BINARY_CONTENT:
        if start.startswith(magic) and _BINARY.search(start):
            return f"is {kind}, expected text; {advice}"
    return None
