"""Text tables: fields end at ASCII spaces and tabs, and what is no line of words is named with its place."""

import gzip
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.core.text_tables import (
    LONGEST_LINE,
    decimal_number,
    first_field,
    is_word,
    read_lines,
    read_rows,
    words_of,
)

# No-break, figure, ideographic and zero-width spaces, line separators of Unicode: characters of a word.
ODD_SPACES = "\u00a0\u2007\u3000\u200b\u2028\u2029\u0085\ufeff"
WORDS = st.text(st.sampled_from("ab\u00e4" + ODD_SPACES), min_size=1, max_size=4).filter(
    lambda word: not word.startswith("\ufeff")
)


@given(st.lists(WORDS, max_size=5), st.sampled_from([" ", "\t", "  ", " \t "]))
def test_words_end_at_ascii_spaces_and_tabs_only(words: list[str], space: str) -> None:
    assert words_of(space + space.join(words) + space) == words
    assert all(map(is_word, words))


@settings(max_examples=40)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=4), max_size=5), st.booleans(), st.booleans(), st.booleans())
def test_rows_are_the_same_with_any_line_end_mark_and_packing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], windows: bool, mark: bool, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("table") / ("table.gz" if packed else "table")
    content = ("\r\n" if windows else "\n").join("\t".join(row) for row in rows)
    data = (("\ufeff" if mark else "") + content).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_rows(path)) == list(enumerate(rows, start=1))


@pytest.mark.parametrize("word", ["", "a b", "a\tb", "a\n", "a\rb", "a\0b", "a\x1bb", "\x0c"])
def test_what_a_table_cannot_hold_is_no_word(word: str) -> None:
    assert not is_word(word)


@pytest.mark.parametrize(("content", "message"), [
    (b"u1 a\nu2 b\rc\n", r"table:2: control character U\+000D at column 5; .*; lines end in LF or CRLF"),
    (b"u1 a\r\r\n", r"table:1: control character U\+000D at column 5"),
    (b"u1 a\x1b[2Jb\n", r"table:1: control character U\+001B at column 5"),
    (b"u1 a\x00b\n", r"table:1: control character U\+0000 at column 5"),
    ("u1 gr\u00fc\u00df\nu2 gr\u00fc\u00df".encode("latin-1"), r"table:1: not UTF-8 \(byte 0xfc at column 6\)"),
    (b"u1 \xed\xa0\x80\n", r"table:1: not UTF-8 \(byte 0xed at column 4\)"),
    (b"u1 \xc0\x80\n", r"table:1: not UTF-8 \(byte 0xc0 at column 4\)"),
])
def test_bytes_that_are_no_words_are_named_with_line_and_column(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / "table"))


@pytest.mark.parametrize("first", ["RIFF", "BZh", "PAR1", "PK", "OggS"])
def test_a_word_that_is_also_the_mark_of_a_file_format_is_a_word(tmp_path: Path, first: str) -> None:
    (tmp_path / "table").write_text(f"{first} a b\n")
    assert list(read_rows(tmp_path / "table")) == [(1, [first, "a", "b"])]


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_without_end_is_refused_before_it_is_in_memory(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("table.gz" if packed else "table")
    with gzip.open(path, "wb", compresslevel=1) if packed else open(path, "wb") as file:
        file.write(b"u1 a\n")
        if packed:
            for _ in range(6):
                file.write(b"u" * (LONGEST_LINE // 2))
        else:
            file.truncate(40 * LONGEST_LINE)  # a hole: 640 MiB that take no room on the disk
    tracemalloc.start()
    with pytest.raises(InputError, match=r":2: the line has more than 16 MiB"):
        list(read_rows(path))
    assert tracemalloc.get_traced_memory()[1] < 4 * LONGEST_LINE
    tracemalloc.stop()


def test_the_longest_line_is_read(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"u" * (LONGEST_LINE - 1) + b"\nv\n")
    assert [(number, len(line)) for number, line in read_lines(tmp_path / "table")] == [(1, LONGEST_LINE - 1), (2, 1)]


def test_the_first_field_leaves_the_rest_as_it_is() -> None:
    assert first_field("u1\t /audio/a  b.wav") == ("u1", "/audio/a  b.wav")
    assert (first_field("u1"), first_field("")) == (("u1", ""), ("", ""))


@pytest.mark.parametrize("text", ["1_0", "\u0661", "\uff11", "", "x"])
def test_numbers_are_written_in_ascii_digits(text: str) -> None:
    with pytest.raises(ValueError):
        decimal_number(text)
    assert decimal_number("-1.5e-3") == -0.0015
