"""A small set of speech in whatever form people have it: manifests, a Kaldi directory, a list, a folder of audio."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files
from asr_kd.core.reading import parsing
from asr_kd.core.text_tables import read_lines
from asr_kd.data.audio import AudioError, read_header
from asr_kd.data.manifest import Utterance, list_splits, read_manifest
from asr_kd.data.validation import AUDIO_SUFFIXES
from asr_kd.scoring.transcripts import read_transcripts
from data_prep.kaldi import prepare_kaldi

SPLIT = "adaptation"
_AUDIO_KEYS = ("audio", "audio_filepath", "path")
_TEXT_KEYS = ("text", "transcript")


@dataclass(frozen=True)
class SpeechInput:
    """Utterances of a set; text is empty where no transcript is known. drops: audio that could not be read."""

    utterances: list[Utterance]
    drops: Drops


def read_speech(
    speech: Path, scratch: Path, *, split: str | None = None, transcripts: Path | None = None,
    speaker: str | None = None,
) -> SpeechInput:
    """Read a set of speech.

    speech: a folder of manifests, with `split` where there are several; a Kaldi data directory; a list of JSON lines
    with `audio`, and where known `text`, `speaker`, `id`, `start` and `duration` (seconds), paths relative to the list;
    or a folder of audio files, each a recording of its own, whose transcripts stand in `transcripts` or in a file of
    the same name that ends in .txt. `speaker` names the speaker of speech that does not say whose it is (default: the
    name of the folder or list). `scratch`: folder for manifests made on the way.

    InputError: none of these, no audio, transcripts of other utterances.
    """
    speech = Path(speech)
    if not speech.exists():
        raise InputError(f"{speech}: no such file or folder; expected manifests, a Kaldi data directory, a list of "
                         "JSON lines or a folder of audio")
    is_manifests = speech.is_dir() and any(speech.glob("*_supervisions.jsonl*"))
    if split is not None and not is_manifests:
        raise InputError(f"{speech}: has no splits, it is no folder of manifests; leave out --split")
    if is_manifests:
        utterances, drops = _of_manifests(speech, split), None
    elif speech.is_dir() and (speech / "wav.scp").is_file():
        utterances, drops = _of_kaldi(speech, scratch)
    elif speech.is_file():
        utterances, drops = _measured(_listed(speech, speaker or speech.stem))
    else:
        utterances, drops = _measured(_of_audio(speech, speaker or speech.name))
    if transcripts is not None:
        utterances = _with_transcripts(utterances, transcripts)
    return SpeechInput(utterances, drops or Drops(len(utterances), cap=1.0))


def _of_manifests(folder: Path, split: str | None) -> list[Utterance]:
    splits = list_splits(folder)
    if split is None and len(splits) > 1:
        raise InputError(f"{folder}: holds the splits {', '.join(splits)}; say which by --split")
    return read_manifest(folder, split or splits[0])


def _of_kaldi(folder: Path, scratch: Path) -> tuple[list[Utterance], Drops]:
    prepared = prepare_kaldi(folder, scratch, max_dropped=1.0)
    (of_folder,) = prepared.values()
    return read_manifest(scratch, of_folder.split), of_folder.drops


def _listed(path: Path, speaker: str) -> Iterator[tuple[Utterance, float | None]]:
    ids: set[str] = set()
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        with parsing(Path(where), "line of JSON", 'expected {"audio": "FILE", "text": "WORDS"}'):
            row = json.loads(line)
        audio = _first(row, _AUDIO_KEYS) if isinstance(row, dict) else None
        if not isinstance(audio, str):
            raise InputError(f'{where}: no audio; expected {{"audio": "FILE", "text": "WORDS"}}')
        name = str(row.get("id") or Path(audio).stem)
        if name in ids:
            raise InputError(f"{where}: utterance {name} occurs twice; give each an id of its own")
        ids.add(name)
        start, duration = row.get("start", row.get("offset", 0.0)), row.get("duration")
        if not _is_time(start) or not (duration is None or _is_time(duration)):
            raise InputError(f"{where}: start and duration are seconds, found {start!r} and {duration!r}")
        text = _first(row, _TEXT_KEYS) or ""
        if not isinstance(text, str):
            raise InputError(f"{where}: text is words, found {text!r}")
        yield Utterance(
            name, str(row.get("speaker") or speaker), " ".join(text.split()), path.parent / audio, float(start),
            0.0, 1), None if duration is None else float(duration)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key)), None)


def _of_audio(folder: Path, speaker: str) -> Iterator[tuple[Utterance, float | None]]:
    paths = [path for path in list_files(folder) if path.suffix.lower() in AUDIO_SUFFIXES]
    if not paths:
        raise InputError(f"{folder}: no audio file in it, no manifest and no wav.scp")
    stems = Counter(path.stem for path in paths)
    names = [path.stem if stems[path.stem] == 1 else "-".join(path.relative_to(folder).with_suffix("").parts)
             for path in paths]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise InputError(f"{folder}: two audio files would be the utterance {repeated}; rename one of them")
    for path, name in zip(paths, names, strict=True):
        text = path.with_suffix(".txt")
        lines = [line for _, line in read_lines(text)] if text.is_file() else []
        words = " ".join(" ".join(lines).split())
        yield Utterance(name, speaker, words, path, 0.0, 0.0, 1), None


def _measured(utterances: Iterator[tuple[Utterance, float | None]]) -> tuple[list[Utterance], Drops]:
    """Utterances with durations and rates of their files; those whose audio cannot be read are dropped."""
    listed = list(utterances)
    if not listed:
        raise InputError("the list of speech is empty; expected a line of JSON for each utterance")
    drops = Drops(len(listed), cap=1.0)
    kept = []
    for utterance, duration in listed:
        try:
            header = read_header(utterance.audio)
        except AudioError as error:
            drops.drop(utterance.id, error.reason, error.detail, utterance.audio)
            continue
        left = header.duration - utterance.start
        if utterance.start < 0 or left <= 0 or (duration is not None and not 0 < duration <= left + 0.01):
            drops.drop(utterance.id, "times outside of the audio",
                       f"from {utterance.start:g} s on, the file has {header.duration:.2f} s")
            continue
        kept.append(replace(
            utterance, duration=left if duration is None else min(duration, left), sampling_rate=header.sampling_rate,
            channel=0 if header.channels == 1 else None, channels=header.channels,
            recording_duration=header.duration))
    drops.check()
    return kept, drops


def _with_transcripts(utterances: list[Utterance], path: Path) -> list[Utterance]:
    """The utterances with the words of a file of transcripts; those that it does not have are left without."""
    ids = {utterance.id for utterance in utterances}
    words = read_transcripts(path, ids=ids).words
    if not ids & words.keys():
        known, given = sorted(ids)[0], sorted(words)[0]
        raise InputError(f"{path}: has no transcript of these utterances; the first of the file is {given}, the first "
                         f"of the speech {known}")
    return [replace(utterance, text=" ".join(words.get(utterance.id, []))) for utterance in utterances]
