"""Hypothesis words with times, cut by the segments of a reference."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from asr_kd.core.errors import InputError
from asr_kd.core.word_forms import find_other_forms
from asr_kd.data.ctm import CtmWord
from asr_kd.data.stm import Stm, StmSegment, by_channel, check_disjoint
from asr_kd.scoring.wer import first_ids


@dataclass(frozen=True)
class CutWords:
    """Words by segment id; those in no segment by the speaker of the nearest one; and how many were out of bounds.

    `words` has every scored segment of the recordings and channels that the hypothesis has, empty ones too.
    """

    words: dict[str, list[CtmWord]] = field(default_factory=dict)
    outside: dict[str, list[CtmWord]] = field(default_factory=dict)
    ignored: int = 0


def cut_by_segments(words: Sequence[CtmWord], reference: Stm, place: str) -> CutWords:
    """Give each word to the segment in which its midpoint lies (on a common boundary: to the later one).

    A word in no segment is an insertion, whatever it says (sclite gives it to the segment that follows); it counts
    for the speaker of the nearest scored segment, the earlier of two at equal distance. A word in a segment that is
    not scored is skipped and counted. InputError: overlapping segments, a recording and channel that the reference
    has not, or of which it scores nothing while the word is in no segment.
    """
    channels = by_channel(reference.segments)
    unknown = {f"{word.utterance} {word.channel}" for word in words if word.stream not in channels}
    if unknown:
        named = first_ids(unknown)
        known = first_ids({f"{one.recording} {one.channel}" for one in reference.segments})
        other = str(find_other_forms(unknown, {f"{one.recording} {one.channel}" for one in reference.segments}))
        raise InputError(
            f"{place}: words of recordings and channels that the reference has not ({named}); the reference has {known}"
            + (f", {other}" if other else "")
        )
    found = CutWords()
    ignored = 0
    scored = {stream: [one for one in channel if not one.ignored] for stream, channel in channels.items()}
    for stream in dict.fromkeys(word.stream for word in words):
        found.words.update({one.id: [] for one in scored[stream]})
    for word in words:
        channel = channels[word.stream]
        segment = _segment_at(channel, word.midpoint)
        if segment is None:
            nearest = _nearest(scored[word.stream], word, place)
            found.outside.setdefault(nearest.speaker, []).append(word)
        elif segment.ignored:
            ignored += 1
        else:
            found.words[segment.id].append(word)
    return CutWords(found.words, found.outside, ignored)


def segment_texts(stm: Stm, place: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Words and speakers by segment id, segments out of bounds left out; InputError on overlapping segments."""
    check_disjoint(stm.segments, place)
    scored = [segment for segment in stm.segments if not segment.ignored]
    identified = {one.id: one for one in scored}
    if len(identified) < len(scored):
        raise InputError(f"{place}: segments of one speaker within one millisecond; join them")
    texts = {utterance: one.words for utterance, one in identified.items()}
    return texts, {utterance: one.speaker for utterance, one in identified.items()}


def _segment_at(channel: Sequence[StmSegment], time: float) -> StmSegment | None:
    index = bisect_right(channel, time, key=lambda one: one.start) - 1
    return channel[index] if index >= 0 and time <= channel[index].end else None


def _nearest(scored: Sequence[StmSegment], word: CtmWord, place: str) -> StmSegment:
    """The segment before or behind a word that is in none of them; segments are disjoint and in order."""
    if not scored:
        raise InputError(
            f"{place}: {word.utterance} {word.channel}: {word.word} at {word.start:g} s is in no segment, and the "
            "reference scores nothing of that recording and channel"
        )
    behind = bisect_right(scored, word.midpoint, key=lambda one: one.start)
    neighbours = scored[max(0, behind - 1) : behind + 1]
    return min(neighbours, key=lambda one: max(one.start - word.midpoint, word.midpoint - one.end))
