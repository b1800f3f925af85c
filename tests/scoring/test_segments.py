"""CTM against STM: words go to segments by time."""

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.data.ctm import CtmWord, write_ctm
from asr_kd.data.stm import IGNORED, Stm, StmSegment, write_stm
from asr_kd.scoring import api
from asr_kd.scoring.segments import cut_by_segments
from asr_kd.scoring.wer import ErrorCounts
from tests.scoring.sclite_program import run_sclite

REFERENCE = Stm([
    StmSegment("r1", "A", "s1", 1.0, 2.0, ("YES", "I", "DO")),
    StmSegment("r1", "A", "s2", 2.0, 3.0, ("NO",)),
    StmSegment("r1", "A", "inter", 4.0, 5.0, (IGNORED,)),
    StmSegment("r1", "A", "s1", 6.0, 7.0, ("WELL",)),
    StmSegment("r1", "B", "s3", 0.0, 9.0, ("HELLO",)),
])


def word(start: float, text: str = "X", channel: str = "A", confidence: float | None = None) -> CtmWord:
    return CtmWord("r1", channel, start, 0.2, text, confidence)


def test_the_midpoint_decides_and_a_common_boundary_belongs_to_the_later_segment() -> None:
    found = cut_by_segments([word(0.95, "IN"), word(1.85, "EARLY"), word(1.9, "LATE")], REFERENCE, "hyp.ctm")
    texts = {utterance: [one.word for one in words] for utterance, words in found.words.items()}
    first, second, last = (REFERENCE.segments[i].id for i in (0, 1, 3))
    assert texts == {first: ["IN", "EARLY"], second: ["LATE"], last: []}
    assert (found.outside, found.ignored) == ({}, 0)


def test_words_in_no_segment_go_to_the_nearest_speaker_and_ignored_ones_to_nobody() -> None:
    words = [word(0.1, "A"), word(3.2, "B"), word(4.5, "C"), word(5.8, "D"), word(8.0, "E")]
    found = cut_by_segments(words, REFERENCE, "hyp.ctm")
    assert {speaker: [one.word for one in outside] for speaker, outside in found.outside.items()} == {
        "s1": ["A", "D", "E"], "s2": ["B"]
    }
    assert found.ignored == 1
    assert all(not inside for inside in found.words.values())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (CtmWord("r2", "A", 1, 0.1, "X"), r"hyp.ctm: words of .* has not \(r2 A\); the reference has r1 A, r1 B"),
        (CtmWord("r1", "C", 1, 0.1, "X"), r"\(r1 C\)"),
    ],
)
def test_other_recordings_and_channels_are_refused_by_name(entry: CtmWord, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cut_by_segments([entry], REFERENCE, "hyp.ctm")


def test_a_channel_of_which_nothing_is_scored_cannot_take_insertions() -> None:
    reference = Stm([StmSegment("r1", "A", "inter", 4.0, 5.0, (IGNORED,))])
    assert cut_by_segments([word(4.5)], reference, "hyp.ctm").ignored == 1
    with pytest.raises(InputError, match="X at 1 s is in no segment, and the reference scores nothing"):
        cut_by_segments([word(1.0)], reference, "hyp.ctm")


def test_score_of_a_ctm_against_an_stm(tmp_path: Path) -> None:
    write_stm(tmp_path / "ref.stm", REFERENCE)
    write_ctm(tmp_path / "hyp.ctm", [
        word(1.0, "YES"), word(1.5, "DO"), word(2.3, "NO"), word(3.5, "NO"), word(4.4, "LOST"), word(1.0, "HELLO", "B"),
    ])
    found = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"], alignments=tmp_path / "ali")
    assert found.system.by_speaker == {
        "s1": ErrorCounts(4, 0, 2, 0), "s2": ErrorCounts(1, 0, 0, 1), "s3": ErrorCounts(1, 0, 0, 0)
    }
    assert (found.unit, found.utterances, found.words) == ("speaker", 4, 6)
    # An empty segment of a recording that was recognised is no missing hypothesis.
    assert found.system.missing == [[]] and list(found.system.ignored) == [1]
    assert [one.word for one in found.system.outside_words] == ["NO"]
    assert found.as_dict()["system"]["in_no_segment"] == [
        {"recording": "r1", "channel": "A", "start": 3.5, "word": "NO"}
    ]
    assert "in no segment, insertions for s2: NO (r1 A at 3.5 s)" in (tmp_path / "ali").read_text()


def test_a_recording_without_hypothesis_is_deletions_or_left_out_of_a_part(tmp_path: Path) -> None:
    write_stm(tmp_path / "ref.stm", REFERENCE)
    write_ctm(tmp_path / "hyp.ctm", [word(1.0, "HELLO", "B"), word(9.5, "HELLO", "B")])
    found = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"])
    assert found.system.total == ErrorCounts(6, 0, 5, 1)
    assert len(found.system.missing[0]) == 3
    part = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"], partial=True)
    assert part.partial and part.system.by_speaker == {"s3": ErrorCounts(1, 0, 0, 1)}


def test_overlapping_reference_segments_are_refused(tmp_path: Path) -> None:
    overlap = StmSegment("r1", "A", "s2", 1.5, 1.8, ("NO",))
    write_stm(tmp_path / "ref.stm", Stm([*REFERENCE.segments, overlap]))
    write_ctm(tmp_path / "hyp.ctm", [word(1.0)])
    with pytest.raises(InputError, match=r"ref.stm: segments of r1 A overlap: s1 1 to 2 s and s2 1.5 to 1.8 s"):
        api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"])


def test_an_stm_without_a_speaker_of_the_reference_is_refused_but_for_a_part(tmp_path: Path) -> None:
    write_stm(tmp_path / "ref.stm", REFERENCE)
    few = [segment for segment in REFERENCE.segments if segment.speaker != "s2"]
    write_stm(tmp_path / "hyp.stm", Stm(few))
    with pytest.raises(InputError) as error:
        api.score(tmp_path / "ref.stm", [tmp_path / "hyp.stm"])
    assert f"{tmp_path}/hyp.stm: no segment of 1 of the reference's 3 speakers (s2; 1 words)" in str(error.value)
    assert "\n" not in str(error.value)
    part = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.stm"], partial=True)
    assert part.partial and part.system.total == ErrorCounts(5, 0, 0, 0)
    write_stm(tmp_path / "hyp.stm", REFERENCE)
    assert api.score(tmp_path / "ref.stm", [tmp_path / "hyp.stm"]).system.total == ErrorCounts(6, 0, 0, 0)


def test_an_stm_of_other_segments_is_refused(tmp_path: Path) -> None:
    write_stm(tmp_path / "ref.stm", REFERENCE)
    write_stm(tmp_path / "hyp.stm", Stm([*REFERENCE.segments, StmSegment("r1", "A", "s1", 8, 9, ("X",))]))
    with pytest.raises(InputError, match=r"1 of 5 hypothesis ids .* \(s1-r1_A-00008000-00009000\)"):
        api.score(tmp_path / "ref.stm", [tmp_path / "hyp.stm"])
    with pytest.raises(InputError, match="names its own speakers"):
        api.score(tmp_path / "ref.stm", [tmp_path / "hyp.stm"], utt2spk=tmp_path / "utt2spk")


def test_a_ctm_by_utterance_ids_scores_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1 A B C\nu2 D\nu3 E\n")
    (tmp_path / "hyp").write_text("u1 A X\nu2 D\n")
    write_ctm(tmp_path / "hyp.ctm", [
        CtmWord("u1", "1", 0.1, 0.1, "A"), CtmWord("u1", "1", 0.3, 0.1, "X"), CtmWord("u2", "1", 0.1, 0.1, "D")
    ])
    by_time, by_text = (api.score(tmp_path / "text", [tmp_path / name]).system for name in ("hyp.ctm", "hyp"))
    assert (by_time.seeds, by_time.missing) == (by_text.seeds, by_text.missing) == (by_text.seeds, [["u3"]])
    (tmp_path / "words").write_bytes((tmp_path / "hyp.ctm").read_bytes())
    assert api.score(tmp_path / "text", [tmp_path / "words"], format="ctm").system.seeds == by_text.seeds
    assert api.score(tmp_path / "hyp.ctm", [tmp_path / "hyp.ctm"], utt2spk=None).system.total == ErrorCounts(3, 0, 0, 0)
    (tmp_path / "two.ctm").write_text("u1 1 0 1 A\nu1 2 0 1 A\n")
    with pytest.raises(InputError, match="two.ctm: utterance u1 has words on channels 1 and 2"):
        api.score(tmp_path / "text", [tmp_path / "two.ctm"])


def test_random_ctms_equal_sclite_where_every_word_is_in_a_segment(sclite: list[str], tmp_path: Path) -> None:
    drawn = random.Random(0)
    segments, words = [], []
    for number in range(120):
        recording, channel = f"r{number // 40}", drawn.choice("12")
        start = 10.0 * number
        ignored = number % 9 == 0
        spoken = tuple(drawn.choice("abc") for _ in range(drawn.randint(0, 8)))
        segments.append(StmSegment(
            recording, channel, f"s{drawn.randint(0, 9)}", start, start + 9, (IGNORED,) if ignored else spoken, ("O",)
        ))
        for index in range(drawn.randint(1, 8)):
            words.append(CtmWord(recording, channel, start + 0.5 + index, 0.5, drawn.choice("abc"), 0.5))
    write_stm(tmp_path / "ref.stm", Stm(segments))
    write_ctm(tmp_path / "hyp.ctm", words)
    theirs = run_sclite(sclite, tmp_path, "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-s")
    ours = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"], alignment="sclite").system
    assert ours.by_speaker == theirs
    assert sum(ours.ignored) > 0 and not ours.outside_words


@pytest.mark.parametrize("case", ["e-conf-NA", "e3-conf-logp", "e4-conf-type", "f2-channel-lower"])
def test_odd_ctm_files_are_scored_as_sclite_scores_them(shared: Path, case: str) -> None:
    folder = shared / "cases/stm_odd" / case
    assert api.score(folder / "ref.stm", [folder / "hyp.ctm"]).system.total == ErrorCounts(3, 0, 0, 0)


def test_time_out_of_bounds_may_be_written_in_lower_case(shared: Path) -> None:
    folder = shared / "cases/stm_ignore"
    found = api.score(folder / "ref.stm", [folder / "hyp.ctm"]).system
    assert found.by_speaker == {"talk1": ErrorCounts(9, 0, 0, 0)}
    assert list(found.ignored) == [1]


def test_words_far_from_all_segments_are_counted_in_a_moment() -> None:
    reference = Stm([StmSegment("r", "A", "s", 2 * i, 2 * i + 1, ("YES",)) for i in range(20_000)])
    words = [CtmWord("r", "A", 50_000 + i, 0.1, "X") for i in range(20_000)]
    begin = time.process_time()
    found = cut_by_segments(words, reference, "hyp.ctm")
    assert found.outside == {"s": words}
    assert time.process_time() - begin < 5


@given(st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True), st.lists(st.integers(0, 70), max_size=9))
def test_the_nearest_segment_is_found_as_by_looking_at_all(bounds: list[int], starts: list[int]) -> None:
    bounds = sorted(bounds[: len(bounds) // 2 * 2])
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    segments = [StmSegment("r", "A", f"s{begin}", begin, end, ("YES",)) for begin, end in pairs]
    words = [CtmWord("r", "A", float(start), 0.5, f"w{start}") for start in sorted(starts)]
    found = cut_by_segments(words, Stm(segments), "hyp.ctm")
    for speaker, outside in found.outside.items():
        for one in outside:
            distances = {s.speaker: max(s.start - one.midpoint, one.midpoint - s.end) for s in segments}
            assert distances[speaker] == min(distances.values()) > 0
