"""Finding what is wrong with a manifest before a recipe stumbles over it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import words_of
from asr_kd.data.audio import AudioError, AudioHeader, read_audio, read_header
from asr_kd.data.manifest import Utterance, iterate_manifest, list_splits


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault; `kind` is a short fixed phrase, `item` an utterance, a speaker or an audio file."""

    kind: str
    item: str
    detail: str


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What one split holds."""

    utterances: int
    speakers: int
    words: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """All problems of a manifest, and the size of its splits."""

    splits: dict[str, SplitCounts]
    problems: list[Problem]

    @property
    def by_kind(self) -> dict[str, int]:
        """Kind of problem -> count, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "splits": {split: {name: getattr(counts, name) for name in counts.__slots__}
                       for split, counts in self.splits.items()},
            "problems_by_kind": self.by_kind,
            "problems": [{"kind": p.kind, "item": p.item, "detail": p.detail} for p in self.problems],
        }


def validate_manifest(
    manifest: Path, *, min_duration: float = 0.1, max_duration: float = 120.0, workers: int | None = None
) -> ValidationReport:
    """Check every split in the folder `manifest`, or the one split whose supervisions file it is.

    Looks for utterances shorter than `min_duration` or longer than `max_duration` seconds or outside of their
    recording, more than one sampling rate, ids that occur twice, a speaker in two splits or none, empty
    transcripts, and audio that is missing, unreadable, truncated, digital silence, or not what the manifest says.
    All audio is decoded, in `workers` threads. Raises InputError where the manifest itself cannot be
    read, or no duration lies within the limits.
    """
    if not 0 <= min_duration <= max_duration:
        raise InputError(f"durations from {min_duration} to {max_duration} s: expected 0 <= shortest <= longest")
    folder, splits = _splits(Path(manifest))
    entries = {split: list(iterate_manifest(folder, split)) for split in splits}
    everything = [utterance for split in splits for _, utterance in entries[split]]
    if not everything:
        raise InputError(f"{folder}: no utterances in it")
    problems = [
        *_check_ids(entries),
        *_check_speakers(entries),
        *_check_transcripts(everything),
        *_check_durations(everything, min_duration, max_duration),
        *_check_sampling_rates(everything),
        *_check_audio(everything, workers),
    ]
    return ValidationReport({split: _count(u for _, u in entries[split]) for split in splits}, problems)


_Entries = dict[str, list[tuple[str, Utterance]]]


def _splits(manifest: Path) -> tuple[Path, list[str]]:
    if manifest.is_file():
        name, found, _ = manifest.name.partition("_supervisions.jsonl")
        if not found:
            raise InputError(f"{manifest}: expected a folder of manifests or a SPLIT_supervisions.jsonl.gz")
        return manifest.parent, [name]
    return manifest, list_splits(manifest)


def _count(utterances: Iterable[Utterance]) -> SplitCounts:
    utterances = list(utterances)
    return SplitCounts(
        utterances=len(utterances),
        speakers=len({utterance.speaker for utterance in utterances}),
        words=sum(len(words_of(utterance.text)) for utterance in utterances),
        seconds=round(sum(utterance.duration for utterance in utterances), 3),
    )


def _check_ids(entries: _Entries) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for split_entries in entries.values():
        for where, utterance in split_entries:
            if utterance.id in first:
                yield Problem("duplicate id", utterance.id, f"{where}, first at {first[utterance.id]}")
            else:
                first[utterance.id] = where


def _check_speakers(entries: _Entries) -> Iterator[Problem]:
    splits_of = defaultdict(set)
    for split, split_entries in entries.items():
        for where, utterance in split_entries:
            if utterance.speaker:
                splits_of[utterance.speaker].add(split)
            else:
                yield Problem("no speaker", utterance.id, where)
    for speaker, splits in sorted(splits_of.items()):
        if len(splits) > 1:
            yield Problem("speaker in several splits", speaker, ", ".join(sorted(splits)))


def _check_transcripts(utterances: list[Utterance]) -> Iterator[Problem]:
    for utterance in utterances:
        if not words_of(utterance.text):
            yield Problem("empty transcript", utterance.id, str(utterance.audio))


def _check_durations(utterances: list[Utterance], shortest: float, longest: float) -> Iterator[Problem]:
    for utterance in utterances:
        duration = utterance.duration
        if not shortest <= duration <= longest:
            detail = f"{duration:.3f} s, expected {shortest} to {longest} s"
            yield Problem("duration", utterance.id, detail)
        rate, end = utterance.sampling_rate, utterance.start + duration
        if round(end * rate) > utterance.recording_samples + 1:
            detail = f"ends at {end:.3f} s, its recording at {utterance.recording_samples / rate:.3f} s"
            yield Problem("outside of its recording", utterance.id, detail)


def _check_sampling_rates(utterances: list[Utterance]) -> Iterator[Problem]:
    rates = Counter(utterance.sampling_rate for utterance in utterances)
    usual = rates.most_common(1)[0][0]
    for utterance in utterances:
        if utterance.sampling_rate != usual:
            detail = f"{utterance.sampling_rate} Hz, most utterances have {usual} Hz"
            yield Problem("sampling rate", utterance.id, detail)


def _check_audio(utterances: list[Utterance], workers: int | None) -> Iterator[Problem]:
    by_file: dict[Path, Utterance] = {}
    for utterance in utterances:
        by_file.setdefault(utterance.audio, utterance)
    decoded = map_threads(_decode, by_file, workers, description="decoding", unit="file")
    for utterance, found in zip(by_file.values(), decoded, strict=True):
        item = str(utterance.audio)
        if isinstance(found, AudioError):
            yield Problem(found.reason, item, f"{found.detail} (utterance {utterance.id})")
            continue
        header, silent = found
        if silent:
            yield Problem("silent audio", item, f"every sample is the same (utterance {utterance.id})")
        samples = round(utterance.recording_samples * utterance.speed)
        if utterance.speed != 1 and abs(samples - header.samples) <= 1:
            samples = header.samples  # one was lost in rounding
        stated = AudioHeader(utterance.sampling_rate, utterance.channels, samples)
        if header != stated:
            yield Problem("not what the manifest says", item, f"{header}, the manifest has {stated}")


def _decode(path: Path) -> tuple[AudioHeader, bool] | AudioError:
    """What decoding all of a file finds: its size, and whether there is nothing but digital silence in it."""
    try:
        header = read_header(path)
        samples, _ = read_audio(path, mix_down=True)
        return AudioHeader(header.sampling_rate, header.channels, len(samples)), not np.ptp(samples)
    except AudioError as error:
        return error
