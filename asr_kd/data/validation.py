"""Finding what is wrong with a manifest before a recipe stumbles over it."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import words_of
from asr_kd.data.audio import AudioError, AudioHeader, AudioOptions, audio_options, read_audio, read_header
from asr_kd.data.manifest import Utterance, iterate_manifest, list_splits

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".snd", ".w64", ".rf64",
                   ".caf", ".sph"}
_FULL_SCALE = 32767
_MUCH_CLIPPED = 0.001  # of the samples


_Entries = dict[str, list[tuple[str, Utterance]]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault; `kind` is a short fixed phrase, `item` an utterance, a speaker or an audio file."""

    kind: str
    item: str
    detail: str


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """The content of one split."""

    utterances: int
    speakers: int
    words: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Problems and warnings of a manifest, and the size of its splits."""

    splits: dict[str, SplitCounts]
    problems: list[Problem]
    warnings: list[Problem]

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
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": [asdict(warning) for warning in self.warnings],
        }


def validate_manifest(
    manifest: Path, *, untranscribed: bool = False, min_duration: float = 0.1, max_duration: float = 120.0,
    resample: bool = False, mix_down: bool = False, sampling_rate: int | None = None, workers: int | None = None,
) -> ValidationReport:
    """Check every split in the folder `manifest`, or the one split whose supervisions file it is.

    Looks for utterances shorter than `min_duration` or longer than `max_duration` seconds or outside of their
    recording, other sampling rates than `sampling_rate` in Hz (default: that of most utterances; `resample` permits
    others), several channels of which none is chosen (`mix_down` permits them), ids that occur twice, a speaker in
    two splits or none, empty transcripts, one and the same audio of two speakers, and audio that is missing,
    unreadable, truncated, digital silence, not finite, or not what the manifest says. Clipped audio, and audio that
    occurs twice, are warnings.

    `untranscribed`: transcripts and speakers are not looked for, and `manifest` may also be a folder of audio files.
    All audio is decoded, in `workers` threads. Raises InputError where the manifest itself cannot be
    read, or no duration lies within the limits.
    """
    if not 0 <= min_duration <= max_duration:
        raise InputError(f"durations from {min_duration} to {max_duration} s: expected 0 <= shortest <= longest")
    options = audio_options(resample, mix_down, sampling_rate)
    unreadable: list[Problem] = []
    if untranscribed and _is_audio_folder(Path(manifest)):
        entries, unreadable = _audio_folder(Path(manifest), workers)
    else:
        folder, splits = _splits(Path(manifest))
        entries = {split: list(iterate_manifest(folder, split)) for split in splits}
    everything = [utterance for of_split in entries.values() for _, utterance in of_split]
    if not everything and not unreadable:
        raise InputError(f"{manifest}: no utterances in it")
    of_audio, warnings = _check_audio(everything, workers)
    problems = [
        *unreadable,
        *_check_ids(entries),
        *([] if untranscribed else [*_check_speakers(entries), *_check_transcripts(everything)]),
        *_check_durations(everything, min_duration, max_duration),
        *_check_sampling_rates(everything, options),
        *_check_channels(everything, options),
        *of_audio,
    ]
    return ValidationReport({split: _count(u for _, u in entries[split]) for split in entries}, problems, warnings)


def _splits(manifest: Path) -> tuple[Path, list[str]]:
    if manifest.is_file():
        name, found, _ = manifest.name.partition("_supervisions.jsonl")
        if not found:
            raise InputError(f"{manifest}: expected a folder of manifests or a SPLIT_supervisions.jsonl.gz")
        return manifest.parent, [name]
    return manifest, list_splits(manifest)


def _is_audio_folder(folder: Path) -> bool:
    """True where there is no manifest in a folder, so that it can only be one of audio."""
    return folder.is_dir() and not any("_supervisions.jsonl" in path.name for path in folder.iterdir())


def _audio_folder(folder: Path, workers: int | None) -> tuple[_Entries, list[Problem]]:
    """Each audio file below a folder as an utterance of a split of the folder's name, and those that are unreadable."""
    paths = [path for path in list_files(folder) if path.suffix.lower() in AUDIO_SUFFIXES]
    if not paths:
        raise InputError(f"{folder}: no manifest and no audio file in it")

    def header(path: Path) -> AudioHeader | AudioError:
        try:
            return read_header(path)
        except AudioError as error:
            return error

    entries, unreadable = [], []
    for path, found in zip(paths, map_threads(header, paths, workers, "headers", "file"), strict=True):
        if isinstance(found, AudioError):
            unreadable.append(Problem(found.reason, str(path), found.detail))
            continue
        entries.append((str(path), Utterance(
            id=str(path.relative_to(folder)), speaker="", text="", audio=path, start=0.0, duration=found.duration,
            sampling_rate=found.sampling_rate, channel=0 if found.channels == 1 else None, channels=found.channels)))
    return {folder.resolve().name: entries}, unreadable


def _count(utterances: Iterable[Utterance]) -> SplitCounts:
    utterances = list(utterances)
    return SplitCounts(
        utterances=len(utterances),
        speakers=len({utterance.speaker for utterance in utterances if utterance.speaker}),
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


def _check_sampling_rates(utterances: list[Utterance], options: AudioOptions) -> Iterator[Problem]:
    rates = Counter(utterance.sampling_rate for utterance in utterances)
    if options.resample or not rates:
        return
    usual = options.sampling_rate or rates.most_common(1)[0][0]
    counts = ", ".join(f"{count} of {rate} Hz" for rate, count in rates.most_common())
    for utterance in utterances:
        if utterance.sampling_rate != usual:
            detail = f"{utterance.sampling_rate} Hz, expected {usual}; in all {counts}"
            yield Problem("sampling rate", utterance.id, detail)


def _check_channels(utterances: list[Utterance], options: AudioOptions) -> Iterator[Problem]:
    for utterance in utterances:
        if utterance.channel is None and not options.mix_down:
            detail = f"{utterance.channels} channels and none chosen; mixing down is off"
            yield Problem("channels", utterance.id, detail)
        elif utterance.channel is not None and utterance.channel >= utterance.channels:
            detail = f"channel {utterance.channel} is chosen, there are {utterance.channels} (from 0)"
            yield Problem("channels", utterance.id, detail)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Size and content of an audio file; clipped: share of samples in runs at full scale."""

    header: AudioHeader
    is_silent: bool
    clipped: float
    digest: bytes


def _check_audio(utterances: list[Utterance], workers: int | None) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of all audio files."""
    by_file: dict[Path, Utterance] = {}
    for utterance in utterances:
        if utterance.audio not in by_file or utterance.source is None:
            by_file[utterance.audio] = utterance
    decoded = map_threads(_decode, by_file, workers, description="decoding", unit="file")
    problems, warnings = [], []
    first_of: dict[bytes, Utterance] = {}
    for utterance, found in zip(by_file.values(), decoded, strict=True):
        item, name = str(utterance.audio), f"(utterance {utterance.id})"
        if isinstance(found, AudioError):
            problems.append(Problem(found.reason, item, f"{found.detail} {name}"))
            continue
        samples = round(utterance.recording_samples * utterance.speed)
        if utterance.speed != 1 and abs(samples - found.header.samples) <= 1:
            samples = found.header.samples  # one was lost in rounding
        stated = AudioHeader(utterance.sampling_rate, utterance.channels, samples)
        if found.header != stated:
            problems.append(Problem("not what the manifest says", item, f"{found.header}, the manifest has {stated}"))
        if found.clipped > _MUCH_CLIPPED:
            warnings.append(Problem("clipped", item, f"{found.clipped:.1%} of its samples are at full scale {name}"))
        if found.is_silent:
            problems.append(Problem("silent audio", item, f"every sample is the same {name}"))
            continue
        first = first_of.setdefault(found.digest, utterance)
        if first is not utterance:
            kinds = problems if first.speaker != utterance.speaker else warnings
            kind = "same audio of two speakers" if first.speaker != utterance.speaker else "same audio"
            speakers = f"{first.speaker}, {utterance.speaker}; " if first.speaker != utterance.speaker else ""
            kinds.append(Problem(kind, item, f"{speakers}its samples are those of {first.audio} {name}"))
    return problems, warnings


def _decode(path: Path) -> _Decoded | AudioError:
    """Decode all of a file and find out what is in it."""
    try:
        header = read_header(path)
        samples, _ = read_audio(path, mix_down=True)
    except AudioError as error:
        return error
    is_full = (samples >= _FULL_SCALE) | (samples <= -_FULL_SCALE)
    in_run = is_full[:-2] & is_full[1:-1] & is_full[2:]
    return _Decoded(
        AudioHeader(header.sampling_rate, header.channels, len(samples)),
        is_silent=not np.ptp(samples),
        clipped=float(in_run.mean()) if len(in_run) else 0.0,
        digest=hashlib.blake2b(samples.data.cast("B"), digest_size=16).digest(),
    )
