"""STM files: reference segments with times, `RECORDING CHANNEL SPEAKER START END [<LABELS>] WORD WORD` (NIST)."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Literal

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.text_tables import decimal_number, is_word, read_table_lines, words_of
from asr_kd.data.ctm import channel_key

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"

_DEFINITION = re.compile(r';;[ \t]*(CATEGORY|LABEL)[ \t]+"([^"]*)"[ \t]+"([^"]*)"[ \t]+"([^"]*)"', re.IGNORECASE)
_UNWRITABLE = re.compile(r'["\x00-\x08\x0a-\x1f\x7f]')


@dataclass(frozen=True, slots=True)
class StmSegment:
    """One segment of a recording and channel; times in seconds, `labels` the ids between the angle brackets."""

    recording: str
    channel: str
    speaker: str
    start: float
    end: float
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def ignored(self) -> bool:
        """True where the segment's time is out of bounds for scoring."""
        return len(self.words) == 1 and is_ignore_mark(self.words[0])

    @property
    def stream(self) -> tuple[str, str]:
        """Recording and channel as they are compared: channel `a` is `A`."""
        return self.recording, channel_key(self.channel)

    @property
    def id(self) -> str:
        """`SPEAKER-RECORDING_CHANNEL-START-END`, times in milliseconds with eight digits."""
        start, end = (round(1000 * time) for time in (self.start, self.end))
        return f"{self.speaker}-{self.recording}_{self.channel}-{start:08d}-{end:08d}"


@dataclass(frozen=True, slots=True)
class StmDefinition:
    """A `;; CATEGORY` or `;; LABEL` line: id, heading of a column, description."""

    kind: Literal["CATEGORY", "LABEL"]
    id: str
    heading: str
    description: str


@dataclass(frozen=True, slots=True)
class Stm:
    """A file's segments in its order, and the categories and labels that its comments define."""

    segments: list[StmSegment]
    definitions: list[StmDefinition] = field(default_factory=list)

    @property
    def speakers(self) -> set[str]:
        """Return the speakers of the segments that are scored."""
        return {segment.speaker for segment in self.segments if not segment.ignored}


def read_stm(path: Path) -> Stm:
    """Read an STM file, `.gz` too; lines that begin with `;;` are comments, but for categories and labels.

    A first word in angle brackets is the segment's labels, as in sclite, even where it is meant as `<unk>`.
    InputError with file and line: fewer than five fields (the speaker is one of them), a time that is no number, not
    finite or negative, a segment that does not end after it starts, bytes that are not UTF-8, no segment at all.
    Alternatives `{ a / b }` and optional words `(uh)` stay words here; `scoring.notation` reads them.
    """
    segments: list[StmSegment] = []
    definitions: list[StmDefinition] = []
    for number, line in read_table_lines(Path(path)):
        if line.startswith(";;"):
            found = _DEFINITION.fullmatch(line)
            if found:
                definitions.append(StmDefinition(found[1].upper(), found[2], found[3], found[4]))  # type: ignore[arg-type]
        elif line:
            segments.append(_parse(words_of(line), f"{path}:{number}"))
    if not segments:
        raise InputError(f"{path}: no segment in the file; expected lines `RECORDING CHANNEL SPEAKER START END WORDS`")
    return Stm(segments, definitions)


def write_stm(path: Path, stm: Stm, decimals: int = 3) -> None:
    """Write definitions, then segments sorted by recording, channel and start, atomically.

    InputError: a field that the format cannot hold, a time that is not finite or negative, a segment without length.
    """
    with atomic_file(Path(path)) as file:
        for one in stm.definitions:
            texts = (one.id, one.heading, one.description)
            if any(_UNWRITABLE.search(text) for text in texts):
                raise InputError(f"{path}: {one.kind} {one.id}: quotes and line breaks cannot be written")
            file.write(f';; {one.kind} "{one.id}" "{one.heading}" "{one.description}"\n')
        for segment in sorted(stm.segments, key=lambda one: (*one.stream, one.start)):
            fault = _unwritable(segment) or _fault(segment)
            if fault:
                raise InputError(f"{path}: segment of {segment.recording} at {segment.start:g} s: {fault}")
            labels = [f"<{','.join(segment.labels)}>"] if segment.labels else []
            times = [f"{time:.{decimals}f}" for time in (segment.start, segment.end)]
            if times[0] == times[1]:
                raise InputError(f"{path}: segment of {segment.recording} at {segment.start:g} s is too short to write")
            fields = [segment.recording, segment.channel, segment.speaker, *times, *labels, *segment.words]
            file.write(" ".join(fields) + "\n")


def check_disjoint(segments: Iterable[StmSegment], place: str) -> None:
    """Refuse segments that overlap in one recording and channel (InputError names both): a time must be in one."""
    for channel in by_channel(segments).values():
        for one, other in pairwise(channel):
            if other.start < one.end:
                raise InputError(
                    f"{place}: segments of {one.recording} {one.channel} overlap: {one.speaker} {one.start:g} to "
                    f"{one.end:g} s and {other.speaker} {other.start:g} to {other.end:g} s; give each speaker a "
                    "channel, cut them, or score with --metric cpwer"
                )


def by_channel(segments: Iterable[StmSegment]) -> dict[tuple[str, str], list[StmSegment]]:
    """Segments of each recording and channel (`StmSegment.stream`), sorted by time."""
    ordered = sorted(segments, key=lambda one: (*one.stream, one.start, one.end))
    return {key: list(group) for key, group in groupby(ordered, key=lambda one: one.stream)}


def is_ignore_mark(word: str) -> bool:
    """True for the word that puts a segment's time out of bounds for scoring, in capitals or not."""
    return word.upper() == IGNORED


def _parse(fields: list[str], place: str) -> StmSegment:
    if len(fields) < 5:
        raise InputError(
            f"{place}: expected `RECORDING CHANNEL SPEAKER START END WORDS`, found {len(fields)} fields "
            "(is the speaker missing?)"
        )
    recording, channel, speaker, *times = fields[:5]
    labels: tuple[str, ...] = ()
    words = fields[5:]
    if words and words[0].startswith("<") and words[0].endswith(">"):
        labels, words = tuple(words[0][1:-1].split(",")), words[1:]
    start, end = (_seconds(text, what, place) for text, what in zip(times, ("start", "end"), strict=True))
    segment = StmSegment(recording, channel, speaker, start, end, tuple(words), labels)
    fault = _fault(segment)
    if fault:
        raise InputError(f"{place}: {fault}")
    return segment


def _seconds(text: str, what: str, place: str) -> float:
    try:
        return decimal_number(text)
    except ValueError:
        raise InputError(
            f"{place}: {what}: expected seconds in field {4 if what == 'start' else 5}, found {text!r} "
            "(is the speaker missing before the times?)"
        ) from None


def _unwritable(segment: StmSegment) -> str:
    """The fault of fields that no line can hold; those that were read are words already."""
    names = (("recording", segment.recording), ("channel", segment.channel), ("speaker", segment.speaker))
    for what, token in (*names, *(("word", word) for word in segment.words)):
        if not is_word(token):
            return f"{what}: {token!r} is not one word without spaces"
    return ""


def _fault(segment: StmSegment) -> str:
    if segment.recording.startswith(";;"):
        return "a recording that begins with ;; would be a comment"
    for what, seconds in (("start", segment.start), ("end", segment.end)):
        if not math.isfinite(seconds) or seconds < 0:
            return f"{what}: expected seconds from 0, found {seconds:g}"
    if segment.end <= segment.start:
        return f"expected an end after the start, found {segment.start:g} to {segment.end:g} s"
    if not segment.ignored and any(map(is_ignore_mark, segment.words)):
        return f"{IGNORED} stands among other words"
    first = segment.words[0] if segment.words else ""
    if not segment.labels and first.startswith("<") and first.endswith(">"):
        return f"the first word {first} would be read as labels; put labels before it"
    if any(set(label) & set("<>, ") or (label and not is_word(label)) for label in segment.labels):
        return f"labels {segment.labels} cannot be written between angle brackets"
    return ""
