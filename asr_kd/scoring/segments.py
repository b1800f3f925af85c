"""Hypothesis words with times, cut by the segments of a reference."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
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
    channels = {
        stream: _Channel.of(segments) for stream, segments in by_channel(reference.segments).items()
    }
    streams = [word.stream for word in words]
    _check_streams(words, streams, reference, channels, place)
    cut: dict[str, list[CtmWord]] = {}
    for stream in dict.fromkeys(streams):
        cut.update(channels[stream].words)
    outside: dict[str, list[CtmWord]] = {}
    ignored = 0
    for word, stream in zip(words, streams, strict=True):
        channel = channels[stream]
        index = channel.index_at(word.midpoint)
        if index is None:
            nearest = _nearest(channel.scored, word, place)
            outside.setdefault(nearest.speaker, []).append(word)
        elif (identifier := channel.ids[index]) is None:
            ignored += 1
        else:
            cut[identifier].append(word)
    return CutWords(cut, outside, ignored)


def segment_texts(stm: Stm, place: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Words and speakers by segment id, segments out of bounds left out; InputError on overlapping segments."""
    check_disjoint(stm.segments, place)
    scored = [segment for segment in stm.segments if not segment.ignored]
    identified = {segment.id: segment for segment in scored}
    if len(identified) < len(scored):
        raise InputError(f"{place}: segments of one speaker within one millisecond; join them")
    texts = {utterance: segment.words for utterance, segment in identified.items()}
    return texts, {utterance: segment.speaker for utterance, segment in identified.items()}


@dataclass(frozen=True)
class _Channel:
    """Segments of one recording and channel by time; `ids` are None where a segment is not scored."""

    segments: Sequence[StmSegment]
    starts: Sequence[float]
    ids: Sequence[str | None]
    scored: Sequence[StmSegment]

    @classmethod
    def of(cls, segments: Sequence[StmSegment]) -> "_Channel":
        return cls(
            segments,
            [segment.start for segment in segments],
            [None if segment.ignored else segment.id for segment in segments],
            [segment for segment in segments if not segment.ignored],
        )

    @property
    def words(self) -> dict[str, list[CtmWord]]:
        """An empty list of words for each scored segment."""
        return {identifier: [] for identifier in self.ids if identifier is not None}

    def index_at(self, time: float) -> int | None:
        """The segment that holds a time; None where no segment does."""
        index = bisect_right(self.starts, time) - 1
        return index if index >= 0 and time <= self.segments[index].end else None


def _check_streams(
    words: Sequence[CtmWord],
    streams: Sequence[tuple[str, str]],
    reference: Stm,
    channels: Mapping[tuple[str, str], _Channel],
    place: str,
) -> None:
    unknown = {
        f"{word.utterance} {word.channel}"
        for word, stream in zip(words, streams, strict=True)
        if stream not in channels
    }
    if not unknown:
        return
    present = {f"{segment.recording} {segment.channel}" for segment in reference.segments}
    other = str(find_other_forms(unknown, present))
    raise InputError(
        f"{place}: words of recordings and channels that the reference has not "
        f"({first_ids(unknown)}); the reference has {first_ids(present)}"
        + (f", {other}" if other else "")
    )


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
