"""Print text from outside (ids, words, paths) so that it cannot control the terminal; nothing else prints."""

import json
import sys
import unicodedata
from typing import Any, TextIO

# Joiners that scripts of Asia need; all other invisible format characters are shown by their number.
_HARMLESS_FORMATS = "\u200c\u200d"
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""Return `text` with control characters, bidirectional overrides and lone surrogates written as escapes.

    Newlines and tabs stay.

    Example: `printable("\x1b[31m")` is `"\\x1b[31m"`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(char) if _is_unsafe(char) else char for char in text)


def print_text(text: str = "") -> None:
    """Print to standard output, with a newline."""
    _write(sys.stdout, printable(text))


def print_json(value: Any) -> None:
    """Print a value to standard output as indented JSON, with unsafe characters escaped as JSON escapes them."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    _write(sys.stdout, "".join(json.dumps(char)[1:-1] if _is_unsafe(char) else char for char in text))


def print_error(text: str) -> None:
    """Print to standard error, with a newline."""
    _write(sys.stderr, printable(text))
    if sys.stderr is not None:
        sys.stderr.flush()


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before the program began (`>&-`)
        return
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, errors="backslashreplace").decode(encoding) + "\n")


def _is_unsafe(char: str) -> bool:
    return char not in "\n\t" and char not in _HARMLESS_FORMATS and unicodedata.category(char) in _UNSAFE_CATEGORIES


def _escape(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
