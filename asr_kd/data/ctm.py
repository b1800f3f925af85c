"""CTM files: words (or phones) with times and confidences, `UTT CHANNEL START DURATION WORD [CONFIDENCE]` (NIST)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.text_tables import decimal_number, is_word, read_rows

_ALTERNATIVES = {"<ALT_BEGIN>", "<ALT>", "<ALT_END>"}


@dataclass(frozen=True, slots=True)
class CtmWord:
    """One word of a recording (or utterance) and channel; times in seconds, confidence (0 to 1 where we wrote it) or
    none."""

    utterance: str
    channel: str
    start: float
    duration: float
    word: str
    confidence: float | None = None

    @property
    def stream(self) -> tuple[str, str]:
        """Recording and channel as they are compared: channel `a` is `A`."""
        return self.utterance, channel_key(self.channel)

    @property
    def end(self) -> float:
        return self.start + self.duration

    @property
    def midpoint(self) -> float:
        return self.start + self.duration / 2


def read_ctm(path: Path) -> list[CtmWord]:
    """Read a CTM file, `.gz` too, in its order; lines that begin with `;;` are comments.

    A confidence can be `NA` (None) or any number, as sclite takes it; a type and a speaker behind it are left out.
    Channels that differ in case only are one. InputError with file and line: not 5 to 8 fields, a time that is no
    number, not finite or negative, a confidence that is no number, a word that starts before the one above it in
    its recording and channel, alternatives (`<ALT_BEGIN>`: one of them has to be chosen first), bytes that are not
    UTF-8, no word at all.
    """
    words: list[CtmWord] = []
    last: dict[tuple[str, str], tuple[float, int]] = {}
    for number, fields in read_rows(Path(path)):
        if fields[0].startswith(";;"):
            continue
        place = f"{path}:{number}"
        if fields[4:5] and fields[4].upper() in _ALTERNATIVES:
            raise InputError(f"{place}: alternatives (<ALT_BEGIN>) are not read; leave one of them in the file")
        if not 5 <= len(fields) <= 8:
            raise InputError(
                f"{place}: expected `UTT CHANNEL START DURATION WORD [CONFIDENCE]`, found {len(fields)} fields"
            )
        start = _number(fields[2], "start", place)
        duration = _number(fields[3], "duration", place)
        confidence = None if len(fields) < 6 else _confidence(fields[5], place)
        word = CtmWord(fields[0], fields[1], start, duration, fields[4], confidence)
        fault = _fault_of_times(word)
        if fault:
            raise InputError(f"{place}: {fault}")
        stream = word.stream
        before, line_before = last.get(stream, (0.0, 0))
        if start < before:
            raise InputError(
                f"{place}: the CTM goes back in time: {word.utterance} {word.channel} starts at {fields[2]} s, after "
                f"{before:g} s on line {line_before}; sort it by recording, channel and start"
            )
        last[stream] = start, number
        words.append(word)
    if not words:
        raise InputError(f"{path}: no word in the file; expected lines `UTT CHANNEL START DURATION WORD [CONFIDENCE]`")
    return words


def write_ctm(path: Path, entries: Iterable[CtmWord], decimals: int = 3) -> None:
    """Write entries sorted by utterance, channel and start, atomically; times with `decimals`, confidences with six.

    InputError: a field that is empty or has spaces, a time that is not finite or negative, a confidence outside 0..1.
    """
    with atomic_file(Path(path)) as file:
        for entry in sorted(entries, key=lambda entry: (*entry.stream, entry.start)):
            file.write(ctm_line(entry, decimals, path))


def ctm_line(entry: CtmWord, decimals: int = 3, path: Path | str = "CTM") -> str:
    """One entry as a line of the file `path`; InputError as of `write_ctm`."""
    fault = _unwritable(entry) or _fault_of_times(entry)
    if not fault and entry.confidence is not None and not 0 <= entry.confidence <= 1:
        fault = f"confidence: expected 0 to 1, found {entry.confidence:g}"
    if fault:
        raise InputError(f"{path}: utterance {entry.utterance}: {fault}")
    confidence = "" if entry.confidence is None else f" {entry.confidence:.6f}"
    return (f"{entry.utterance} {entry.channel} {entry.start:.{decimals}f} {entry.duration:.{decimals}f} {entry.word}"
            f"{confidence}\n")


def channel_key(channel: str) -> str:
    """The channel as channels are compared: `a` is `A`."""
    return channel.casefold()


def _confidence(text: str, place: str) -> float | None:
    if text.upper() == "NA":
        return None
    confidence = _number(text, "confidence", place)
    if not math.isfinite(confidence):
        raise InputError(f"{place}: confidence: expected a finite number or NA, found {text}")
    return confidence


def _number(text: str, what: str, place: str) -> float:
    try:
        return decimal_number(text)
    except ValueError:
        raise InputError(f"{place}: {what}: expected a number, found {text!r}") from None


def _unwritable(entry: CtmWord) -> str:
    """The fault of fields that no line can hold; those that were read are words already."""
    for what, token in (("utterance", entry.utterance), ("channel", entry.channel), ("word", entry.word)):
        if not is_word(token):
            return f"{what}: {token!r} is not one word without spaces"
    if entry.utterance.startswith(";;"):
        return "an utterance that begins with ;; would be a comment"
    if entry.word.upper() in _ALTERNATIVES:
        return f"{entry.word} marks alternatives, it is no word"
    return ""


def _fault_of_times(entry: CtmWord) -> str:
    for what, seconds in (("start", entry.start), ("duration", entry.duration)):
        if not 0 <= seconds < math.inf:
            return f"{what}: expected seconds from 0, found {seconds:g}"
    return ""
