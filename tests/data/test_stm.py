"""STM in and out: what is written is read, and what is no STM is named with its line."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.data.stm import IGNORED, Stm, StmDefinition, StmSegment, by_channel, check_disjoint, read_stm, write_stm

token = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=5).filter(
    lambda text: text.split() == [text] and not text.startswith(";;") and not text.startswith("<") and text != "{"
)
label = st.text("OFM01", max_size=2)
text = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters=" <>;"), max_size=8)


@st.composite
def segments(draw: st.DrawFn) -> StmSegment:
    start, length = draw(st.integers(0, 10**7)), draw(st.integers(1, 10**6))
    words = draw(st.sampled_from([(IGNORED,), (IGNORED.lower(),)]) | st.lists(token, max_size=4).map(tuple))
    labels = draw(st.lists(label, max_size=3).map(tuple))
    return StmSegment(draw(token), draw(st.sampled_from("1AB")), draw(token), start / 1000, (start + length) / 1000,
                      words, labels)


definition = st.builds(StmDefinition, st.sampled_from(["CATEGORY", "LABEL"]), text, text, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(segments(), min_size=1, max_size=8), st.lists(definition, max_size=3))
def test_what_is_written_is_read(tmp_path: Path, written: list[StmSegment], definitions: list[StmDefinition]) -> None:
    write_stm(tmp_path / "ref.stm", Stm(written, definitions))
    ordered = sorted(written, key=lambda one: (*one.stream, one.start))
    assert read_stm(tmp_path / "ref.stm") == Stm(ordered, definitions)


def test_comments_definitions_labels_and_ignored_segments(tmp_path: Path) -> None:
    (tmp_path / "ref.stm").write_text(
        ';; CATEGORY "0" "" ""\n;; LABEL "M" "Male" "Male Talkers"\n;; made by hand\n\n'
        "r1 A s1 0.0 1.5 <O,M> YES I DO\nr1 A s2 1.5 2 <unk> NO\nr1 A inter 2 9 IGNORE_TIME_SEGMENT_IN_SCORING\n"
        "r1 B s3 2 3\n"
    )
    stm = read_stm(tmp_path / "ref.stm")
    defined = [(one.kind, one.id, one.heading) for one in stm.definitions]
    assert defined == [("CATEGORY", "0", ""), ("LABEL", "M", "Male")]
    assert [one.words for one in stm.segments] == [("YES", "I", "DO"), ("NO",), (IGNORED,), ()]
    assert [one.labels for one in stm.segments] == [("O", "M"), ("unk",), (), ()]
    assert [one.ignored for one in stm.segments] == [False, False, True, False]
    assert stm.speakers == {"s1", "s2", "s3"}
    assert stm.segments[0].id == "s1-r1_A-00000000-00001500"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("r1 A 0.0 1.5", ":2: expected `RECORDING CHANNEL SPEAKER START END WORDS`, found 4 fields (is the speaker"),
        ("r1 A 0.0 1.5 YES I DO", ":2: end: expected seconds in field 5, found 'YES' (is the speaker missing"),
        ("r1 A s1 nan 1.5 YES", ":2: start: expected seconds from 0, found nan"),
        ("r1 A s1 0 inf YES", ":2: end: expected seconds from 0, found inf"),
        ("r1 A s1 -1 1.5 YES", ":2: start: expected seconds from 0, found -1"),
        ("r1 A s1 2 1.5 YES", ":2: expected an end after the start, found 2 to 1.5 s"),
        ("r1 A s1 2 2 YES", ":2: expected an end after the start, found 2 to 2 s"),
        ("r1 A s1 0 1 ignore_time_segment_in_scoring YES", f":2: {IGNORED} stands among other words"),
        (f"r1 A s1 0 1 {IGNORED} YES", f":2: {IGNORED} stands among other words"),
    ],
)
def test_a_faulty_stm_is_named_with_its_line(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "ref.stm"
    path.write_text(f";; heading\n{line}\n")
    with pytest.raises(InputError, match=re.escape(f"{path}{fault}")):
        read_stm(path)


def test_bytes_that_are_no_text_and_files_without_segments_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ref.stm"
    path.write_bytes(b"r1 A s1 0 1 YES\nr1 A s1 1 2 \xe9\n")
    with pytest.raises(InputError, match="ref.stm:2: not UTF-8"):
        read_stm(path)
    path.write_text(";; nothing\n")
    with pytest.raises(InputError, match="ref.stm: no segment"):
        read_stm(path)


def test_overlapping_segments_of_one_channel_are_refused_by_name() -> None:
    one, other = StmSegment("r1", "A", "s1", 0, 2, ("YES",)), StmSegment("r1", "A", "s2", 1.5, 3, ("NO",))
    with pytest.raises(InputError, match="ref.stm: segments of r1 A overlap: s1 0 to 2 s and s2 1.5 to 3 s"):
        check_disjoint([other, one], "ref.stm")
    check_disjoint([one, StmSegment("r1", "B", "s2", 1.5, 3), StmSegment("r1", "A", "s2", 2, 3)], "ref.stm")
    assert list(by_channel([other, one])) == [("r1", "a")]


@pytest.mark.parametrize(
    "segment",
    [
        StmSegment("r 1", "A", "s1", 0, 1), StmSegment("r1", "A", "", 0, 1), StmSegment("r1", "A", "s1", 1, 0.5),
        StmSegment("r1", "A", "s1", 0, float("nan")), StmSegment("r1", "A", "s1", 0, 1, ("<unk>",)),
        StmSegment("r1", "A", "s1", 0, 1, ("A B",)), StmSegment("r1", "A", "s1", 0, 1, ("A",), ("O,F",)),
        StmSegment("r1", "A", "s1", 0, 0.0001, ("A",)),
    ],
)
def test_what_an_stm_cannot_hold_is_not_written(tmp_path: Path, segment: StmSegment) -> None:
    with pytest.raises(InputError):
        write_stm(tmp_path / "ref.stm", Stm([segment]))
    assert not (tmp_path / "ref.stm").exists()
