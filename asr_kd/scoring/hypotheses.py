"""References and hypotheses of any format, as words by the reference's utterance ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from asr_kd.core.errors import InputError
from asr_kd.data.ctm import CtmWord, read_ctm
from asr_kd.data.stm import Stm, read_stm
from asr_kd.scoring.notation import (
    OptionalWords,
    check_notation,
    first_reading,
    refuse_notation,
    warn_of_braces,
)
from asr_kd.scoring.segments import cut_by_segments, segment_texts
from asr_kd.scoring.text_filter import TextFilter
from asr_kd.scoring.transcripts import Transcripts, read_transcripts, read_utt2spk, trn_id, trn_speaker, with_kaldi_ids
from asr_kd.scoring.wer import Words, check_ids, first_ids

FileFormat = Literal["text", "trn", "ctm", "stm"]


@dataclass(frozen=True)
class Reference:
    """Words by utterance id as they are written, and who speaks.

    Where `unit` is "utterance" no speaker is known and each utterance stands for itself. `known` is what utt2spk
    says; `segments` the file itself where it is an STM, whose segments' ids are the utterances'. `notation` are the
    utterances with alternatives or optional words, `optional_words` says how words in brackets are taken.
    """

    texts: Mapping[str, Words]
    speakers: Mapping[str, str]
    unit: str
    known: Mapping[str, str] = field(default_factory=dict)
    segments: Stm | None = None
    notation: frozenset[str] = frozenset()
    optional_words: OptionalWords = "literal"

    @property
    def num_words(self) -> int:
        """Words of the set, the first one of alternatives."""
        return sum(
            len(first_reading(words) if utterance in self.notation else words)
            for utterance, words in self.texts.items()
        )


@dataclass(frozen=True)
class Hypotheses:
    """Words by utterance id, filtered; and what a CTM says besides.

    `confidences` are those of the words, None where the file has none. `outside` are the words (with confidence) in
    no segment of an STM reference, by the speaker for whom they are insertions; `ignored` counts words whose time is
    out of bounds for scoring.
    """

    words: Mapping[str, Words]
    confidences: Mapping[str, Sequence[float]] | None = None
    outside: Mapping[str, Sequence[CtmWord]] = field(default_factory=dict)
    ignored: int = 0

    def part(self, kept: set[str], speakers: Mapping[str, str]) -> "Hypotheses":
        """The utterances of `kept`, and the words in no segment of their speakers."""
        confidences = self.confidences
        present = {speakers[utterance] for utterance in kept}
        return Hypotheses(
            {utterance: words for utterance, words in self.words.items() if utterance in kept},
            None if confidences is None else {key: value for key, value in confidences.items() if key in kept},
            {speaker: words for speaker, words in self.outside.items() if speaker in present},
            self.ignored,
        )


def file_format(path: Path, given: FileFormat | None) -> FileFormat | None:
    """The format given, else what the name says (`.ctm`, `.stm`, `.trn`, `.gz` behind it or not), else None."""
    if given is not None:
        return given
    suffixes = [suffix for suffix in Path(path).suffixes if suffix != ".gz"]
    known: dict[str, FileFormat] = {".ctm": "ctm", ".stm": "stm", ".trn": "trn"}
    return known.get(suffixes[-1]) if suffixes else None


def read_hypotheses(
    path: Path, format: FileFormat | None, reference: Reference, text_filter: TextFilter, partial: bool = False
) -> Hypotheses:
    """Read hypotheses of any format by the reference's ids; a CTM is cut by time where the reference is an STM.

    Against another reference the first field of a CTM is the utterance's id. InputError: unreadable files, ids that
    the reference has not, an STM without one of its speakers (but for `partial`), an utterance on two channels, words
    that the filter refuses.
    """
    kind = file_format(path, format)
    if kind == "ctm":
        hypotheses = _from_ctm(read_ctm(path), reference.segments, text_filter, str(path))
    elif kind == "stm":
        stm = read_stm(path)
        if not partial:
            _check_speakers(path, stm, reference)
        hypotheses = _from_texts(path, kind, segment_texts(stm, str(path))[0], reference, text_filter)
    else:
        read = read_transcripts(path, kind, _known_ids(reference.texts, reference.speakers))
        texts = with_kaldi_ids(read, reference.known)
        hypotheses = _from_texts(path, read.format, texts, reference, text_filter)
    check_ids(reference.texts, hypotheses.words, str(path))
    return hypotheses


def read_reference(
    path: Path, format: FileFormat | None = None, utt2spk: Path | None = None, optional_words: OptionalWords = "refuse"
) -> Reference:
    """Read a reference of any format; STM and trn with NIST's notation (`scoring.notation`).

    InputError: unreadable files, utterances without speaker, notation that cannot be read, words in brackets where
    `optional_words` does not say how they are taken.
    """
    kind = file_format(path, format)
    if kind == "stm":
        if utt2spk is not None:
            raise InputError(f"{utt2spk}: the STM reference {path} names its own speakers; leave --utt2spk out")
        stm = read_stm(path)
        texts, speakers = segment_texts(stm, str(path))
        notation = check_notation(texts, optional_words, str(path))
        return Reference(texts, speakers, "speaker", {}, stm, notation, optional_words)
    if kind == "ctm":
        by_utterance = _by_utterance(read_ctm(path), str(path))
        read = Transcripts({key: [word.word for word in words] for key, words in by_utterance.items()}, "text")
    else:
        named = read_utt2spk(utt2spk) if utt2spk is not None else {}
        read = read_transcripts(path, kind, _known_ids(named, named))
    beside = Path(path).parent / "utt2spk"
    if utt2spk is None and read.format == "text" and beside.is_file():
        utt2spk = beside
    known = read_utt2spk(utt2spk) if utt2spk is not None else {}
    references = with_kaldi_ids(read, known)
    speakers, unit = _resolve_speakers(references, read, known, utt2spk)
    if read.format == "trn":
        notation = check_notation(references, optional_words, str(path))
        return Reference(references, speakers, unit, known, None, notation, optional_words)
    warn_of_braces(references, path)
    return Reference(references, speakers, unit, known)


def _from_texts(
    path: Path, kind: FileFormat, texts: Mapping[str, Words], reference: Reference, text_filter: TextFilter
) -> Hypotheses:
    if kind != "text":
        refuse_notation(texts, str(path), bracketed=reference.optional_words == "deletable")
    return Hypotheses(text_filter.texts(texts, path))


def _known_ids(utterances: Iterable[str], speakers: Mapping[str, str]) -> set[str]:
    """Ids that files of these utterances may have, those of trn among them."""
    return {name for utterance in utterances for name in (utterance, trn_id(utterance, speakers.get(utterance)))}


def _check_speakers(path: Path, hypothesis: Stm, reference: Reference) -> None:
    missing: dict[str, int] = {}
    for utterance, words in reference.texts.items():
        speaker = reference.speakers[utterance]
        if reference.unit == "speaker" and speaker not in hypothesis.speakers:
            missing[speaker] = missing.get(speaker, 0) + len(words)
    if missing:
        raise InputError(
            f"{path}: no segment of {len(missing)} of the reference's {len(set(reference.speakers.values()))} speakers "
            f"({first_ids(missing)}; {sum(missing.values())} words); expected the reference's segments and speakers: "
            "score other segments as a CTM, other speakers by --metric cpwer, a part with --partial"
        )


def _resolve_speakers(
    references: Mapping[str, Words], file: Transcripts, known: Mapping[str, str], utt2spk: Path | None
) -> tuple[dict[str, str], str]:
    if known:
        orphans = [utterance for utterance in references if utterance not in known]
        if orphans:
            raise InputError(
                f"{utt2spk}: no speaker for {len(orphans)} of {len(references)} reference utterances "
                f"({first_ids(orphans)}); add them, or give another file by --utt2spk"
            )
        return {utterance: known[utterance] for utterance in references}, "speaker"
    if file.format == "trn":
        found = {utterance: trn_speaker(utterance) for utterance in references}
        speakers = {utterance: speaker for utterance, speaker in found.items() if speaker is not None}
        if len(speakers) == len(references):
            return speakers, "speaker"
    return {utterance: utterance for utterance in references}, "utterance"


def _from_ctm(words: Sequence[CtmWord], segments: Stm | None, text_filter: TextFilter, place: str) -> Hypotheses:
    if segments is not None:
        cut = cut_by_segments(words, segments, place)
        by_utterance, outside, ignored = cut.words, cut.outside, cut.ignored
    else:
        by_utterance, outside, ignored = _by_utterance(words, place), {}, 0
    kept = {
        key: [(text, word) for word in entries if (text := _filtered(word, text_filter, place))]
        for key, entries in by_utterance.items()
    }
    outside = {
        speaker: [word for word in entries if _filtered(word, text_filter, place)]
        for speaker, entries in outside.items()
    }
    confidences = {key: [word.confidence for _, word in pairs] for key, pairs in kept.items()}
    known = all(value is not None for values in confidences.values() for value in values)
    return Hypotheses(
        {key: [text for text, _ in pairs] for key, pairs in kept.items()},
        confidences if known else None,  # type: ignore[arg-type]
        outside,
        ignored,
    )


def _by_utterance(words: Sequence[CtmWord], place: str) -> dict[str, list[CtmWord]]:
    found: dict[str, list[CtmWord]] = {}
    for word in words:
        entries = found.setdefault(word.utterance, [])
        if entries and entries[0].stream != word.stream:
            raise InputError(
                f"{place}: utterance {word.utterance} has words on channels {entries[0].channel} and {word.channel}; "
                "expected one channel an utterance, or an STM reference, whose segments have channels"
            )
        entries.append(word)
    return found


def _filtered(word: CtmWord, text_filter: TextFilter, place: str) -> str:
    try:
        return text_filter.word(word.word)
    except InputError as error:
        raise InputError(f"{place}: {word.utterance} at {word.start:g} s: {error}") from None
