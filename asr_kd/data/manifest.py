"""Utterances, and the Lhotse manifests that they are kept in.

A split is two files of one folder, `SPLIT_recordings.jsonl.gz` and `SPLIT_supervisions.jsonl.gz`. Audio that
lies inside the folder is written relative to it, so that a folder with its audio can be moved.
"""

import gzip
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.text_tables import read_lines

_RECORDINGS = "_recordings.jsonl"
_SUPERVISIONS = "_supervisions.jsonl"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One transcribed stretch of audio; `start`, `duration` and `recording_duration` in seconds.

    `channel` (from 0) of `channels` in the file; None where nobody has chosen one. `recording` and
    `recording_duration` are for utterances that are not a recording of their own. `speed`: how much faster than its
    file it is played; all times are as it is played.
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
    recordings: dict[str, Any] = {}
    for line, recording in _read_records(recordings_path, "Recording"):
        if recording.id in recordings:
            raise InputError(f"{recordings_path}:{line}: recording {recording.id} occurs twice")
        recordings[recording.id] = (recording, _audio_path(recording, folder, f"{recordings_path}:{line}"))
    for line, supervision in _read_records(supervisions_path, "SupervisionSegment"):
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
    from lhotse.audio import AudioSource, Recording
    from lhotse.augmentation import Speed
    from lhotse.supervision import SupervisionSegment

    check_split_name(split)
    folder = Path(folder)
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if not ordered:
        raise InputError(f"{folder}: split {split} would have no utterances")
    recordings: dict[str, Recording] = {}
    supervisions: dict[str, SupervisionSegment] = {}
    for utterance in ordered:
        if utterance.id in supervisions:
            raise InputError(f"{folder}: utterance {utterance.id} occurs twice in split {split}")
        channels = list(range(utterance.channels))
        recording = Recording(
            id=utterance.recording_id,
            sources=[AudioSource("file", channels, _portable(utterance.audio, folder))],
            sampling_rate=utterance.sampling_rate,
            num_samples=utterance.recording_samples,
            duration=utterance.recording_samples / utterance.sampling_rate,
            channel_ids=channels,
            transforms=None if utterance.speed == 1 else [Speed(factor=utterance.speed).to_dict()],
        )
        if recordings.setdefault(recording.id, recording) != recording:
            raise InputError(f"{folder}: recording {recording.id} of utterance {utterance.id} ({split}) "
                             "differs in file, rate, channels or duration from another utterance's")
        supervisions[utterance.id] = SupervisionSegment(
            id=utterance.id,
            recording_id=utterance.recording_id,
            start=utterance.start,
            duration=utterance.duration,
            channel=channels if utterance.channel is None else utterance.channel,
            text=utterance.text,
            speaker=utterance.speaker,
        )
    _write_records(folder / f"{split}{_RECORDINGS}.gz", [recordings[name] for name in sorted(recordings)])
    _write_records(folder / f"{split}{_SUPERVISIONS}.gz", supervisions.values())


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


def _read_records(path: Path, kind: str) -> Iterator[tuple[int, Any]]:
    import lhotse

    record_type = getattr(lhotse, kind)
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = record_type.from_dict(json.loads(line))
            _check_types(record)
            yield number, record
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError, RecursionError) as error:
            message = f"{path}:{number}: not a Lhotse {kind} ({error}); expected one JSON object a line"
            raise InputError(message) from error


_TEXTS = ("id", "recording_id", "text", "speaker")
_NUMBERS = ("sampling_rate", "num_samples")


def _check_types(record: Any) -> None:
    """TypeError for a value that Lhotse lets pass, and that nothing here could work with."""
    for name in _TEXTS:
        value = getattr(record, name, "")
        if not isinstance(value, str) and (value is not None or name.endswith("id")):
            raise TypeError(f"{name} is {value!r}, expected text")
    for name in _NUMBERS:
        value = getattr(record, name, 1)
        if not isinstance(value, int) or value < 1:
            raise TypeError(f"{name} is {value!r}, expected a whole number above zero")
    for source in getattr(record, "sources", []):
        if not isinstance(source.source, str):
            raise TypeError(f"source is {source.source!r}, expected a path")


def _audio_path(recording: Any, folder: Path, where: str) -> Path:
    """The one audio file of a Lhotse recording; relative paths belong to the manifest's folder."""
    if len(recording.sources) != 1 or recording.sources[0].type != "file" or _speed(recording) is None:
        raise InputError(f"{where}: recording {recording.id} is not one plain audio file; commands, "
                         "addresses, several files, and transforms other than one of speed, are not read")
    path = Path(recording.sources[0].source)
    if path.is_absolute():
        return path
    beside = folder / path
    # Lhotse's own tools write paths relative to the folder that they were run in.
    return path.absolute() if not beside.exists() and path.exists() else beside


def _speed(recording: Any) -> float | None:
    """By Lhotse's transform of that name; None where there are others."""
    transforms = [one if isinstance(one, dict) else one.to_dict() for one in recording.transforms or []]
    if not transforms:
        return 1.0
    if len(transforms) > 1 or transforms[0]["name"] != "Speed":
        return None
    factor = float(transforms[0]["kwargs"]["factor"])
    return factor if 0 < factor < math.inf else None


def _to_utterance(supervision: Any, recording: Any, audio: Path, where: str) -> Utterance:
    for name in ("start", "duration"):
        value = getattr(supervision, name)
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise InputError(f"{where}: utterance {supervision.id}: {name} is {value!r}, expected seconds")
    channel = supervision.channel
    if isinstance(channel, list):
        channel = channel[0] if len(channel) == 1 else None
    recording_duration = recording.num_samples / recording.sampling_rate
    whole = recording.id == supervision.id and supervision.start == 0
    if whole and supervision.duration == recording_duration:
        recording_duration = 0.0
    return Utterance(
        id=supervision.id,
        speaker=supervision.speaker or "",
        text=supervision.text or "",
        audio=audio,
        start=float(supervision.start),
        duration=float(supervision.duration),
        sampling_rate=recording.sampling_rate,
        channel=channel,
        channels=recording.num_channels,
        recording=recording.id if recording.id != supervision.id else "",
        recording_duration=recording_duration,
        speed=_speed(recording) or 1.0,
    )


def _portable(audio: Path, folder: Path) -> str:
    absolute = Path(os.path.abspath(audio))
    inside = Path(os.path.abspath(folder))
    return str(absolute.relative_to(inside)) if absolute.is_relative_to(inside) else str(absolute)


def _write_records(path: Path, records: Iterable[Any]) -> None:
    with atomic_file(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
        for record in records:
            zipped.write((json.dumps(record.to_dict(), ensure_ascii=False) + "\n").encode())
