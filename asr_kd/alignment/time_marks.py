"""Phones and words of alignments with their times, as CTM and TextGrid files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from asr_kd.alignment.boundaries import phone_segments
from asr_kd.alignment.word_segments import word_segments
from asr_kd.core.errors import InputError
from asr_kd.core.progress import progress
from asr_kd.data.ctm import CtmWord, ctm_line
from asr_kd.data.textgrid import textgrid_text
from asr_kd.hmm.model import HmmModel

Format = Literal["ctm", "textgrid", "ids"]

PHONES_CTM, WORDS_CTM = "phones.ctm", "words.ctm"
TRANSITION_IDS, PDF_IDS = "transition_ids.txt", "pdf_ids.txt"
TEXTGRIDS = "textgrid"


@dataclass(frozen=True)
class TimeMarks:
    """The phones and the words of one utterance in order, in seconds from its beginning.

    Phones cover every frame, silence too; words leave out the optional silence between them. As in Kaldi's CTM
    files, frame t stands for the time from t to t + 1 frame shifts.
    """

    phones: list[CtmWord]
    words: list[CtmWord]

    @property
    def end(self) -> float:
        return self.phones[-1].end if self.phones else 0.0


def time_marks(
    utterance: str, alignment: np.ndarray, words: Sequence[str], model: HmmModel, frame_shift: float = 0.01
) -> TimeMarks:
    """Phones and words of transition-ids `(frames,)`; `words` is the transcript, `frame_shift` is in seconds.

    A word that was aligned as the unknown word keeps its own spelling. InputError where the alignment is not of this
    model, or does not spell the transcript.
    """
    segments = phone_segments(alignment, model.transitions)
    ids, _ = model.lexicon.word_ids({utterance: words}, map_unknown=True)
    try:
        spelt = word_segments(segments, ids[utterance], model.lexicon)
    except InputError as error:
        raise InputError(f"{utterance}: {error}") from error
    symbols = model.phones.symbols
    return TimeMarks(
        _entries(utterance, [symbols[p] for p in segments.phones], segments.starts, segments.frames, frame_shift),
        _entries(utterance, words, spelt.starts, spelt.frames, frame_shift))


def write_time_marks(
    folder: Path,
    alignments: Mapping[str, np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    model: HmmModel,
    formats: Sequence[Format] = ("ctm", "textgrid"),
    frame_shift: float = 0.01,
    durations: Mapping[str, float] | None = None,
) -> None:
    """Write the time marks of all alignments to an existing folder, utterance by utterance.

    ctm: `phones.ctm` and `words.ctm`, channel 1. textgrid: `textgrid/ID.TextGrid` with the tiers words and phones, as
    long as `durations` says (id -> seconds; default: as the frames). ids: `transition_ids.txt` and `pdf_ids.txt`,
    Kaldi's text archives of integers. Errors as of `time_marks`.
    """
    durations = durations or {}
    folder = Path(folder)
    decimals = 3 if round(frame_shift, 3) == frame_shift else 6
    names = {"ctm": (PHONES_CTM, WORDS_CTM), "ids": (TRANSITION_IDS, PDF_IDS)}
    with ExitStack() as stack:
        files = {name: stack.enter_context(open(folder / name, "w", encoding="utf-8"))
                 for kind in formats for name in names.get(kind, ())}
        if "textgrid" in formats:
            (folder / TEXTGRIDS).mkdir(exist_ok=True)
        for utterance in progress(sorted(alignments), len(alignments), "times", "utt"):
            ids = alignments[utterance]
            if "ids" in formats:
                for name, numbers in ((TRANSITION_IDS, ids), (PDF_IDS, model.transitions.pdf_ids[ids])):
                    files[name].write(f"{utterance} {' '.join(map(str, numbers.tolist()))}\n")
            if "ctm" not in formats and "textgrid" not in formats:
                continue
            marks = time_marks(utterance, ids, transcripts[utterance], model, frame_shift)
            if "ctm" in formats:
                for name, entries in ((PHONES_CTM, marks.phones), (WORDS_CTM, marks.words)):
                    files[name].writelines(ctm_line(entry, decimals, name) for entry in entries)
            if "textgrid" in formats:
                path = folder / TEXTGRIDS / f"{_file_name(utterance)}.TextGrid"
                tiers = {"words": _intervals(marks.words), "phones": _intervals(marks.phones)}
                duration = max(marks.end, durations.get(utterance, 0.0))
                path.write_text(textgrid_text(tiers, duration, 6, path), encoding="utf-8")


def _entries(utterance: str, labels: Sequence[str], starts: np.ndarray, frames: np.ndarray, frame_shift: float
             ) -> list[CtmWord]:
    # Rounded, so that no sum of products of frame shifts misses the next start by a bit.
    return [CtmWord(utterance, "1", round(start * frame_shift, 9), round(length * frame_shift, 9), label)
            for label, start, length in zip(labels, starts.tolist(), frames.tolist(), strict=True)]


def _intervals(entries: Sequence[CtmWord]) -> Iterator[tuple[float, float, str]]:
    return ((entry.start, entry.end, entry.word) for entry in entries)


def _file_name(utterance: str) -> str:
    """The id, with what would leave the folder or hide the file written as in URLs."""
    name = utterance.replace("%", "%25").replace("/", "%2F")
    return f"%2E{name[1:]}" if name.startswith(".") else name
