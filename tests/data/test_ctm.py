"""CTM in and out: what is written is read, and what is no CTM is named with its line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.data.ctm import CtmWord, read_ctm, write_ctm

token = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=6).filter(
    lambda text: text.split() == [text] and not text.startswith(";;") and not text.upper().startswith("<ALT")
)
milliseconds = st.integers(0, 10**7).map(lambda value: value / 1000)
entry = st.builds(
    CtmWord, token, st.sampled_from("12Aa"), milliseconds, milliseconds, token,
    st.none() | st.integers(0, 10**6).map(lambda value: value / 10**6),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entry, min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path: Path, entries: list[CtmWord]) -> None:
    path = tmp_path / "words.ctm"
    write_ctm(path, entries)
    assert read_ctm(path) == sorted(entries, key=lambda word: (*word.stream, word.start))


def test_the_golden_ctm_is_read_and_written_to_the_last_byte(shared: Path, tmp_path: Path) -> None:
    for name in ("dev_words.ctm", "dev_phones.ctm"):
        golden = shared / "golden" / "kaldi_align" / name
        write_ctm(tmp_path / name, read_ctm(golden))
        assert (tmp_path / name).read_bytes() == golden.read_bytes()


def test_comments_and_empty_lines_are_no_words(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(";; made by hand\n\nu1 A 0.5 0.25 YES 0.9\n;; u1 A 0 0 NO\n")
    (word,) = read_ctm(path)
    assert (word.midpoint, word.end, word.confidence) == (0.625, 0.75, 0.9)


def test_confidences_of_any_scale_and_fields_of_a_type_are_read(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text("u1 1 0 1 A NA\nu1 1 1 1 B -4.2\nu1 1 2 1 C 1.5 lex\nu1 1 3 1 D 0.5 lex spk1\nu1 1 4 1 \u3000 na\n")
    assert [(word.word, word.confidence) for word in read_ctm(path)] == [
        ("A", None), ("B", -4.2), ("C", 1.5), ("D", 0.5), ("\u3000", None)
    ]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("u1 1 0.5 0.1 A\nu2 1 0.1 0.1 B\nu1 1 0.4 0.1 C", ":3: the CTM goes back in time: u1 1 starts at 0.4 s"),
        ("u1 1 nan 0.1 A", ":1: start: expected seconds from 0, found nan"),
        ("u1 1 0.1 inf A", ":1: duration: expected seconds from 0, found inf"),
        ("u1 1 -0.1 0.1 A", ":1: start: expected seconds from 0, found -0.1"),
        ("u1 1 0.1 -0.1 A", ":1: duration: expected seconds from 0, found -0.1"),
        ("u1 1 0.1 0.1 A nan", ":1: confidence: expected a finite number or NA, found nan"),
        ("u1 1 0.1 0.1 A high", ":1: confidence: expected a number, found 'high'"),
        ("u1 1 zero 0.1 A", ":1: start: expected a number, found 'zero'"),
        ("u1 1 0.1 0.1", ":1: expected `UTT CHANNEL START DURATION WORD [CONFIDENCE]`, found 4 fields"),
        ("u1 1 0.1 0.1 A 0.5 lex spk more", "found 9 fields"),
        ("u1 a 0.5 0.1 A\nu1 A 0.4 0.1 B", ":2: the CTM goes back in time: u1 A starts at 0.4 s"),
        ("u1 1 * * <ALT_BEGIN>\nu1 1 0.1 0.1 A\nu1 1 * * <ALT_END>", ":1: alternatives"),
        (";; nothing", ": no word in the file"),
    ],
)
def test_a_faulty_ctm_is_named_with_its_line(tmp_path: Path, lines: str, fault: str) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(lines + "\n")
    with pytest.raises(InputError) as error:
        read_ctm(path)
    assert str(error.value).startswith(str(path)) and fault in str(error.value)


def test_a_ctm_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_bytes(b"u1 1 0 1 A\nu1 1 1 1 \xe9\n")
    with pytest.raises(InputError, match="words.ctm:2: not UTF-8"):
        read_ctm(path)


@pytest.mark.parametrize(
    "entry",
    [
        CtmWord("u 1", "1", 0, 1, "A"), CtmWord("u1", "", 0, 1, "A"), CtmWord("u1", "1", 0, 1, "A B"),
        CtmWord("u1", "1", -1, 1, "A"), CtmWord("u1", "1", 0, float("nan"), "A"), CtmWord("u1", "1", 0, 1, "A", 2.0),
        CtmWord(";;u1", "1", 0, 1, "A"), CtmWord("u1", "1", 0, 1, "<ALT>"),
    ],
)
def test_what_a_ctm_cannot_hold_is_not_written(tmp_path: Path, entry: CtmWord) -> None:
    with pytest.raises(InputError):
        write_ctm(tmp_path / "words.ctm", [entry])
    assert not (tmp_path / "words.ctm").exists()
