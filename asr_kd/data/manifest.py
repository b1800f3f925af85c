"""Utterances, and the Lhotse manifests that they are kept in.

A split is two files of one folder, `SPLIT_recordings.jsonl.gz` and `SPLIT_supervisions.jsonl.gz`. Audio that
lies inside the folder is written relative to it, so that a folder with its audio can be moved.
"""

import gzip
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.text_tables import read_lines

_RECORDINGS = "_recordings.jsonl"
_SUPERVISIONS = "_supervisions.jsonl"
_SOURCE_UTTERANCE, _SOURCE_SPEAKER = "source_utterance", "source_speaker"  # Lhotse's custom fields of a copy


@dataclass(frozen=True, slots=True)
class Source:
    """The utterance that a copy at another speed was made of, and its speaker."""

    utterance: str
    speaker: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """One transcribed stretch of audio; `start`, `duration` and `recording_duration` in seconds.

    `channel` (from 0) of `channels` in the file; None where nobody has chosen one. `recording` and
    `recording_duration` are for utterances that are not a recording of their own. `speed`: how much faster than its
    file it is played; all times are as it is played. `source`: what a copy at another speed is a copy of, None for
    speech of the corpus itself.
    """

    id: str
    speaker: str
    text: str
    audio: Path
    start: float
    duration: float
    sampling_rate: int
    channel: int | None = 0
    channels: int = 1
    recording: str = ""
    recording_duration: float = 0.0
    speed: float = 1.0
    source: Source | None = None

    @property
    def recording_id(self) -> str:
        return self.recording or self.id

    @property
    def recording_samples(self) -> int:
        """Samples per channel of the whole recording, as it is played."""
        return round((self.recording_duration or self.start + self.duration) * self.sampling_rate)


def read_manifest(folder: Path, split: str) -> list[Utterance]:
    """Read the utterances of one split, sorted by id.

    Raises InputError, with file and line, for a missing folder or split, a line that is not a Lhotse record,
    an utterance whose recording is missing, and an id that occurs twice.
    """
    utterances: dict[str, Utterance] = {}
    for where, utterance in iterate_manifest(folder, split):
        if utterance.id in utterances:
            raise InputError(f"{where}: utterance {utterance.id} occurs twice; ids must be unique")
        utterances[utterance.id] = utterance
    if not utterances:
        raise InputError(f"{Path(folder)}: no utterances in split {split}")
    return [utterances[utterance_id] for utterance_id in sorted(utterances)]


def iterate_manifest(folder: Path, split: str) -> Iterator[tuple[str, Utterance]]:
    """Yield (file:line, utterance) in the order of the file, ids that occur twice included.

    Raises InputError as `read_manifest` does.
    """
    folder = Path(folder)
    recordings_path, supervisions_path = _paths(folder, split)
    recordings: dict[str, tuple[_Recording, Path]] = {}
    for line, recording in _read_records(recordings_path, _Recording):
        if recording.id in recordings:
            raise InputError(f"{recordings_path}:{line}: recording {recording.id} occurs twice")
        recordings[recording.id] = (recording, _audio_path(recording, folder, f"{recordings_path}:{line}"))
    for line, supervision in _read_records(supervisions_path, _Supervision):
        where = f"{supervisions_path}:{line}"
        if supervision.recording_id not in recordings:
            missing = supervision.recording_id
            raise InputError(f"{where}: recording {missing} is not in {recordings_path.name}")
        recording, audio = recordings[supervision.recording_id]
        yield where, _to_utterance(supervision, recording, audio, where)


def write_manifest(folder: Path, split: str, utterances: Iterable[Utterance]) -> None:
    """Write one split; the same utterances give the same bytes.

    Raises InputError for an empty split, an id that occurs twice, a name that cannot be a file's, and two
    utterances that say different things of one recording.
    """
    check_split_name(split)
    folder = Path(folder)
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if not ordered:
        raise InputError(f"{folder}: split {split} would have no utterances")
    recordings: dict[str, dict[str, Any]] = {}
    supervisions: dict[str, dict[str, Any]] = {}
    for utterance in ordered:
        if utterance.id in supervisions:
            raise InputError(f"{folder}: utterance {utterance.id} occurs twice in split {split}")
        recording = _recording_record(utterance, folder)
        if recordings.setdefault(recording["id"], recording) != recording:
            raise InputError(f"{folder}: recording {recording['id']} of utterance {utterance.id} ({split}) "
                             "differs in file, rate, channels or duration from another utterance's")
        supervisions[utterance.id] = _supervision_record(utterance)
    audio = _lines((recordings[name] for name in sorted(recordings)), folder)
    speech = _lines(supervisions.values(), folder)
    _write_gzip(folder / f"{split}{_RECORDINGS}.gz", audio)
    _write_gzip(folder / f"{split}{_SUPERVISIONS}.gz", speech)


def check_split_name(split: str) -> None:
    """InputError where a split's name cannot be part of a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", split):
        raise InputError(f"split {split!r}: expected letters, digits, '_', '-' and '.'")


def list_splits(folder: Path) -> list[str]:
    """Names of the splits in a folder, sorted; InputError where there is no such folder or no split in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with {_SUPERVISIONS[1:]}.gz files")
    pattern = re.compile(rf"(.+){_SUPERVISIONS}(?:\.gz)?")
    names = {match[1] for name in os.listdir(folder) if (match := pattern.fullmatch(name))}
    if not names:
        raise InputError(f"{folder}: no manifest in it; expected SPLIT{_SUPERVISIONS}.gz and "
                         f"SPLIT{_RECORDINGS}.gz")
    return sorted(names)


def _paths(folder: Path, split: str) -> tuple[Path, Path]:
    splits = list_splits(folder)
    if split not in splits:
        raise InputError(f"{folder}: no split {split}; there are {', '.join(splits)}")
    found = []
    for kind in (_RECORDINGS, _SUPERVISIONS):
        compressed = folder / f"{split}{kind}.gz"
        found.append(compressed if compressed.exists() else folder / f"{split}{kind}")
    return found[0], found[1]


def _encodable(value: str) -> str:
    for character in value:
        if unicodedata.category(character) == "Cs":
            raise ValueError(f"holds half a character, U+{ord(character):04X}; expected Unicode text")
    return value


def _no_control(value: str) -> str:
    for character in value:
        if unicodedata.category(character) == "Cc":
            raise ValueError(f"holds the control character U+{ord(character):04X}, expected text of one line")
    return _encodable(value)


_Id = Annotated[str, Field(min_length=1), AfterValidator(_no_control)]
_Seconds = Annotated[float, Field(ge=0, le=1e9)]  # 30 years: sums and products stay within range
_Channel = Annotated[int, Field(ge=0, lt=1 << 16)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _AudioSource(_Record):
    type: str
    channels: list[_Channel]
    source: Annotated[str, Field(min_length=1), AfterValidator(_no_control)]


class _Recording(_Record):
    """A Lhotse Recording: one line of a manifest of audio files."""

    id: _Id
    sources: Annotated[list[_AudioSource], Field(min_length=1)]
    sampling_rate: Annotated[int, Field(ge=1, le=10_000_000)]
    num_samples: Annotated[int, Field(ge=1, le=1 << 48)]
    channel_ids: list[_Channel] | None = None
    transforms: list[dict[str, Any]] | None = None

    @property
    def num_channels(self) -> int:
        if self.channel_ids is not None:
            return len(self.channel_ids)
        return len({channel for source in self.sources for channel in source.channels})

    @property
    def speed(self) -> float | None:
        """By Lhotse's transform of that name; None where there are others."""
        if not self.transforms:
            return 1.0
        arguments = self.transforms[0].get("kwargs")
        factor = arguments.get("factor") if isinstance(arguments, dict) else None
        if len(self.transforms) > 1 or self.transforms[0].get("name") != "Speed":
            return None
        return float(factor) if isinstance(factor, int | float) and 0.01 <= factor <= 100 else None


class _Supervision(_Record):
    """A Lhotse SupervisionSegment: one line of a manifest of utterances."""

    id: _Id
    recording_id: _Id
    start: _Seconds
    duration: _Seconds
    channel: _Channel | list[_Channel] = 0
    text: Annotated[str, AfterValidator(_encodable)] | None = None
    speaker: Annotated[str, AfterValidator(_no_control)] | None = None
    custom: dict[str, Any] | None = None


_R = TypeVar("_R", bound=_Record)


def _read_records(path: Path, record_type: type[_R]) -> Iterator[tuple[int, _R]]:
    kind = "Recording" if record_type is _Recording else "SupervisionSegment"
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            yield number, record_type.model_validate(json.loads(line))
        except ValidationError as error:
            raise InputError(f"{path}:{number}: not a Lhotse {kind} ({_describe(error)})") from error
        except (ValueError, RecursionError) as error:
            message = f"{path}:{number}: not a Lhotse {kind} ({error}); expected one JSON object a line"
            raise InputError(message) from error


def _describe(error: ValidationError) -> str:
    """Describe the first fault of a record, such as: duration is -2.5, expected ..."""
    first = error.errors(include_url=False)[0]
    steps = [str(step) for step in first["loc"] if isinstance(step, int) or step.isidentifier()]
    expected = re.sub(r"^\w+ should (be|have) ", "expected ", first["msg"].removeprefix("Value error, "))
    if first["type"] == "missing":
        return f"{'.'.join(steps)} is missing, expected it"
    value = repr(first["input"])
    value = value if len(value) < 60 else value[:60] + "…"
    return f"{'.'.join(steps) or 'the line'} is {value}, {expected}"


def _audio_path(recording: _Recording, folder: Path, where: str) -> Path:
    """The one audio file of a Lhotse recording; relative paths belong to the manifest's folder."""
    if len(recording.sources) != 1 or recording.sources[0].type != "file" or recording.speed is None:
        raise InputError(f"{where}: recording {recording.id} is not one plain audio file; commands, "
                         "addresses, several files, and transforms other than one of speed, are not read")
    path = Path(recording.sources[0].source)
    if path.is_absolute():
        return path
    beside = folder / path
    # Lhotse's own tools write paths relative to the folder that they were run in.
    return path.absolute() if not beside.exists() and path.exists() else beside


def _to_utterance(supervision: _Supervision, recording: _Recording, audio: Path, where: str) -> Utterance:
    channels = supervision.channel if isinstance(supervision.channel, list) else [supervision.channel]
    speed = recording.speed or 1.0
    recording_duration = recording.num_samples / recording.sampling_rate
    whole = recording.id == supervision.id and supervision.start == 0
    if whole and supervision.duration == recording_duration:
        recording_duration = 0.0
    return Utterance(
        id=supervision.id,
        speaker=supervision.speaker or "",
        text=supervision.text or "",
        audio=audio,
        start=supervision.start,
        duration=supervision.duration,
        sampling_rate=recording.sampling_rate,
        channel=channels[0] if len(channels) == 1 else None,
        channels=recording.num_channels,
        recording=recording.id if recording.id != supervision.id else "",
        recording_duration=recording_duration,
        speed=speed,
        source=None if speed == 1 else _source(supervision, speed, where),
    )


def speed_mark(speed: float) -> str:
    """The ending of the names of copies at another speed, as Lhotse writes it."""
    return f"_sp{speed:g}"


def _source(supervision: _Supervision, speed: float, where: str) -> Source:
    """The source of a copy by its custom fields, else by its names, which end with its speed.

    Lhotse's own copies and those of our older manifests have no such fields. Lhotse leaves the speaker as it is.
    """
    custom = supervision.custom or {}
    utterance, speaker = custom.get(_SOURCE_UTTERANCE), custom.get(_SOURCE_SPEAKER)
    if utterance is None and speaker is None:
        ending = re.compile(rf"_sp({re.escape(f'{speed:g}')}|{re.escape(str(speed))})$")
        return Source(ending.sub("", supervision.id), ending.sub("", supervision.speaker or ""))
    if not isinstance(utterance, str) or not isinstance(speaker, str):
        raise InputError(f"{where}: utterance {supervision.id}: custom.{_SOURCE_UTTERANCE} and "
                         f"custom.{_SOURCE_SPEAKER} are {utterance!r} and {speaker!r}, expected two names")
    return Source(utterance, speaker)


def _recording_record(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """A Lhotse Recording, its keys in Lhotse's order."""
    channels = list(range(utterance.channels))
    record: dict[str, Any] = {
        "id": utterance.recording_id,
        "sources": [{"type": "file", "channels": channels, "source": _portable(utterance.audio, folder)}],
        "sampling_rate": utterance.sampling_rate,
        "num_samples": utterance.recording_samples,
        "duration": utterance.recording_samples / utterance.sampling_rate,
        "channel_ids": channels,
    }
    if utterance.speed != 1:
        record["transforms"] = [{"name": "Speed", "kwargs": {"factor": utterance.speed}}]
    return record


def _supervision_record(utterance: Utterance) -> dict[str, Any]:
    """A Lhotse SupervisionSegment, its keys in Lhotse's order."""
    record: dict[str, Any] = {
        "id": utterance.id,
        "recording_id": utterance.recording_id,
        "start": utterance.start,
        "duration": utterance.duration,
        "channel": list(range(utterance.channels)) if utterance.channel is None else utterance.channel,
        "text": utterance.text,
        "speaker": utterance.speaker,
    }
    if utterance.source is not None:
        record["custom"] = {_SOURCE_UTTERANCE: utterance.source.utterance, _SOURCE_SPEAKER: utterance.source.speaker}
    return record


def _portable(audio: Path, folder: Path) -> str:
    absolute = Path(os.path.abspath(audio))
    inside = Path(os.path.abspath(folder))
    return str(absolute.relative_to(inside)) if absolute.is_relative_to(inside) else str(absolute)


def _lines(records: Iterable[dict[str, Any]], folder: Path) -> bytes:
    try:
        return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{folder}: {error.object[error.start:error.end]!r} in a name or text is no character; "
                         "mend the input that it comes from") from error
    except ValueError as error:
        raise InputError(f"{folder}: a time or a speed is not finite, which a manifest cannot hold") from error


def _write_gzip(path: Path, content: bytes) -> None:
    with atomic_file(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
        zipped.write(content)
