"""cpWER: streams of a meeting's hypothesis matched to the reference's speakers, whatever they are called (MeetEval).

Watanabe et al., CHiME-6 (2020): the words of each speaker are concatenated, and the streams are assigned to speakers
so that there are the fewest errors. A recording is a session; its channels are not told apart in the reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.data.ctm import read_ctm
from asr_kd.data.stm import Stm, read_stm
from asr_kd.scoring.hypotheses import FileFormat, file_format
from asr_kd.scoring.notation import refuse_notation
from asr_kd.scoring.sclite import check_size
from asr_kd.scoring.text_filter import TextFilter
from asr_kd.scoring.wer import ErrorCounts, Words, first_ids

Streams = Mapping[str, Words]
"""Words of each speaker or stream of one recording, in the order of time."""

# Reference words times hypothesis words of a recording: MeetEval compares each stream with each speaker.
_MOST_CELLS = 1 << 31


@dataclass(frozen=True)
class MeetingErrors:
    """Errors of one recording, and which stream stands for which speaker (None: nobody, nothing)."""

    counts: ErrorCounts
    assignment: tuple[tuple[str | None, str | None], ...]


def cp_errors(reference: Streams, hypothesis: Streams) -> MeetingErrors:
    """cpWER counts of one recording; InputError: MeetEval is not installed, more than 20 speakers or streams,
    too many words."""
    cp_word_error_rate = _meeteval().cp_word_error_rate
    if not hypothesis or not reference:
        words = sum(len(words) for words in reference.values())
        recognised = sum(len(words) for words in hypothesis.values())
        alone: list[tuple[str | None, str | None]] = [(speaker, None) for speaker in reference]
        alone += [(None, stream) for stream in hypothesis]
        return MeetingErrors(ErrorCounts(words, 0, words, recognised), tuple(alone))
    if max(len(reference), len(hypothesis)) > 20:
        raise InputError(
            f"cpwer: {len(reference)} speakers and {len(hypothesis)} streams in one recording; expected at most 20"
        )
    check_size(sum(map(len, reference.values())), sum(map(len, hypothesis.values())), _MOST_CELLS)
    found = cp_word_error_rate(
        {speaker: " ".join(words) for speaker, words in reference.items()},
        {stream: " ".join(words) for stream, words in hypothesis.items()},
        reference_sort=False, hypothesis_sort=False,
    )
    counts = ErrorCounts(found.length, found.substitutions, found.deletions, found.insertions)
    return MeetingErrors(counts, tuple(found.assignment))


def read_meetings(path: Path, format: FileFormat | None, text_filter: TextFilter) -> dict[str, dict[str, Words]]:
    """Recording -> speaker or stream -> words, from an STM (its speakers) or a CTM (its channels are the streams).

    InputError: another format, a segment out of bounds for scoring, words that the filter refuses.
    """
    kind = file_format(path, format)
    if kind == "stm":
        recordings = _by_speaker(read_stm(path), str(path))
    elif kind == "ctm":
        recordings = {}
        channels: dict[tuple[str, str], str] = {}
        for word in sorted(read_ctm(path), key=lambda one: one.start):
            channel = channels.setdefault(word.stream, word.channel)
            recordings.setdefault(word.utterance, {}).setdefault(channel, []).append(word.word)
    else:
        raise InputError(f"{path}: --metric cpwer expects an STM, or a CTM whose channels are streams (.stm, .ctm)")
    for name, streams in recordings.items():
        refuse_notation(streams, f"{path}: {name}", bracketed=kind == "stm")
    return {name: dict(text_filter.texts(streams, f"{path}: {name}")) for name, streams in recordings.items()}


def score_meetings(
    references: Mapping[str, Streams], hypotheses: Mapping[str, Streams], place: str
) -> dict[str, MeetingErrors]:
    """Errors per recording; one without hypothesis is all deletions. InputError: unknown recordings."""
    unknown = hypotheses.keys() - references.keys()
    if unknown:
        raise InputError(
            f"{place}: {len(unknown)} of {len(hypotheses)} recordings are not in the reference ({first_ids(unknown)}); "
            f"the reference has {first_ids(references)}"
        )
    return {name: cp_errors(streams, hypotheses.get(name, {})) for name, streams in sorted(references.items())}


def _by_speaker(stm: Stm, place: str) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for segment in sorted(stm.segments, key=lambda one: (one.start, one.end)):
        if segment.ignored:
            raise InputError(
                f"{place}: {segment.recording} {segment.start:g} to {segment.end:g} s is out of bounds for scoring, "
                "which cpwer does not know; leave that time out of reference and hypothesis"
            )
        found.setdefault(segment.recording, {}).setdefault(segment.speaker, []).extend(segment.words)
    return found


def _meeteval() -> Any:
    try:
        return import_module("meeteval.wer")
    except ImportError as error:
        raise InputError(
            f"--metric cpwer needs MeetEval, which cannot be imported ({error}); install the extra: pip install "
            "'asr-kd[meetings]' (built from source: needs a compiler)"
        ) from None
