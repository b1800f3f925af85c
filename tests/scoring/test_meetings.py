"""cpWER through MeetEval, against every assignment tried by hand."""

import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.data.stm import IGNORED, Stm, StmSegment, write_stm
from asr_kd.scoring import api
from asr_kd.scoring.meetings import cp_errors
from asr_kd.scoring.wer import ErrorCounts, count_errors

WORDS = st.lists(st.sampled_from("abc"), max_size=5)
STREAMS = st.dictionaries(st.sampled_from(["s1", "s2", "s3", "s4"]), WORDS, min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def meeteval() -> None:
    pytest.importorskip("meeteval", reason="MeetEval (the extra `meetings`) is not installed")


def fewest_errors(reference: dict[str, list[str]], hypothesis: dict[str, list[str]]) -> int:
    """Over every assignment of streams to speakers, empty ones added until there are as many of each."""
    size = max(len(reference), len(hypothesis))
    spoken = [*reference.values(), *[[]] * (size - len(reference))]
    recognised = [*hypothesis.values(), *[[]] * (size - len(hypothesis))]
    return min(
        sum(count_errors(a, b).errors for a, b in zip(spoken, order, strict=True))
        for order in itertools.permutations(recognised)
    )


@settings(max_examples=200, deadline=None)
@given(STREAMS, STREAMS)
def test_errors_are_the_fewest_of_all_assignments(
    reference: dict[str, list[str]], hypothesis: dict[str, list[str]]
) -> None:
    found = cp_errors(reference, hypothesis)
    assert found.counts.errors == fewest_errors(reference, hypothesis)
    assert found.counts.words == sum(map(len, reference.values()))
    assert {speaker for speaker, _ in found.assignment} - {None} == reference.keys()
    assert {stream for _, stream in found.assignment} - {None} == hypothesis.keys()
    by_hand = sum(
        count_errors(reference.get(speaker or "", []), hypothesis.get(stream or "", [])).errors
        for speaker, stream in found.assignment
    )
    assert by_hand == found.counts.errors


def test_a_recording_without_streams_is_deletions() -> None:
    found = cp_errors({"s1": ["a", "b"], "s2": ["c"]}, {})
    assert found.counts == ErrorCounts(3, 0, 3, 0) and found.assignment == (("s1", None), ("s2", None))
    assert cp_errors({}, {"x": ["a"]}).counts == ErrorCounts(0, 0, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_stm(tmp_path / "ref.stm", Stm([
        StmSegment("m1", "1", "anna", 0.0, 2.0, ("yes", "i", "do")), StmSegment("m1", "1", "bob", 1.5, 3.0, ("no",)),
        StmSegment("m1", "2", "anna", 4.0, 5.0, ("well",)), StmSegment("m2", "1", "anna", 0.0, 1.0, ("hello",)),
    ]))
    (tmp_path / "hyp.ctm").write_text(
        "m1 x 0.0 0.2 no\nm1 y 0.1 0.2 yes\nm1 y 0.4 0.2 do\nm1 y 4.1 0.2 well\nm2 x 0.1 0.2 hello\nm2 y 0.5 0.2 um\n"
    )
    return tmp_path


def test_score_of_meetings_by_recording(folder: Path) -> None:
    found = api.score(folder / "ref.stm", [folder / "hyp.ctm"], metric="cpwer", words=6)
    assert found.system.by_speaker == {"m1": ErrorCounts(5, 0, 1, 0), "m2": ErrorCounts(1, 0, 0, 1)}
    assert dict(found.system.assignments[0])["m1"] == (("anna", "y"), ("bob", "x"))
    assert dict(found.system.assignments[0])["m2"] == (("anna", "x"), (None, "y"))
    assert (found.unit, found.metric, found.words, found.partial) == ("recording", "cpwer", 6, False)
    filtered = api.score(folder / "ref.stm", [folder / "hyp.ctm"], metric="cpwer", filter="spoken")
    assert filtered.system.total == ErrorCounts(6, 0, 1, 0) and filtered.text_filter == "spoken-1"


def test_an_stm_with_other_names_of_speakers_is_a_hypothesis(folder: Path) -> None:
    text = (folder / "ref.stm").read_text()
    (folder / "hyp.stm").write_text(text.replace("anna", "spk1").replace("bob", "spk0"))
    found = api.score(folder / "ref.stm", [folder / "hyp.stm"], against=[folder / "hyp.ctm"], metric="cpwer")
    assert found.system.total == ErrorCounts(6, 0, 0, 0)
    assert found.comparison is not None and found.comparison.difference == pytest.approx(-100 * 2 / 6)


def test_recordings_that_are_missing_are_deletions_or_left_out_of_a_part(folder: Path) -> None:
    (folder / "few.ctm").write_text("m2 x 0.1 0.2 hello\n")
    found = api.score(folder / "ref.stm", [folder / "few.ctm"], metric="cpwer")
    assert found.system.total == ErrorCounts(6, 0, 5, 0) and found.system.missing == [["m1"]]
    part = api.score(folder / "ref.stm", [folder / "few.ctm"], metric="cpwer", partial=True)
    assert part.partial and part.system.total == ErrorCounts(1, 0, 0, 0)


def test_what_cpwer_cannot_score_is_refused(folder: Path) -> None:
    def refused(message: str, hyp: str = "hyp.ctm", **options: object) -> None:
        with pytest.raises(InputError, match=message) as error:
            api.score(folder / "ref.stm", [folder / hyp], metric="cpwer", **options)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)

    (folder / "text").write_text("m1 yes\n")
    (folder / "other.ctm").write_text("m3 x 0 1 a\n")
    (folder / "many.ctm").write_text("".join(f"m1 {channel} 0 1 a\n" for channel in range(21)))
    write_stm(folder / "out.stm", Stm([StmSegment("m1", "1", "x", 0, 1, (IGNORED,))]))
    refused("text: --metric cpwer expects an STM, or a CTM", "text")
    refused(r"other.ctm: 1 of 1 recordings are not in the reference \(m3\); the reference has m1, m2", "other.ctm")
    refused("2 speakers and 21 streams in one recording; expected at most 20", "many.ctm")
    refused("out.stm: m1 0 to 1 s is out of bounds for scoring", "out.stm")
    refused("--alignment does not go with --metric cpwer", alignment="sclite")
    refused("--confidence does not go with --metric cpwer", confidence=True)
    refused("6 words in 2 recordings, expected 7", words=7)


def test_without_meeteval_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "meeteval.wer", None)
    with pytest.raises(InputError, match=r"needs MeetEval.*asr-kd\[meetings\]") as error:
        api.score(folder / "ref.stm", [folder / "hyp.ctm"], metric="cpwer")
    assert "\n" not in str(error.value)
