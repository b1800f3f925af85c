"""Kaldi data directories: read into manifests, and written out of them.

Files of a data directory: `wav.scp`, `text`, `utt2spk`, optional `segments`; the others are not
needed. Unlike Kaldi, durations and sampling rates come from the audio itself, any audio that
libsndfile reads will do, relative paths belong to a root, and a directory whose files do not fit
together is refused, not repaired.
"""

import math
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError, option_name
from asr_kd.core.files import atomic_file
from asr_kd.core.opening import resolved
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import decimal_number, first_field, is_word, read_table_lines, words_of
from asr_kd.data.audio import AudioError, AudioHeader, AudioOptions, audio_options, read_header
from asr_kd.data.manifest import Utterance, check_split_name, list_splits, read_manifest, write_manifest
from data_prep.prepared import PreparedSplit, log_dropped, write_dropped

_MAX_OVERSHOOT = 0.5  # seconds that a segment may end after its recording; Kaldi's extract-segments
_LONGEST_NAME = 255  # bytes, of a file's name


@dataclass(frozen=True, slots=True)
class KaldiTables:
    """Words and speaker of each utterance of a data directory."""

    texts: dict[str, str]
    speakers: dict[str, str]


def prepare_kaldi(
    corpus: Path,
    output: Path,
    *,
    splits: list[str] | None = None,
    root: Path | None = None,
    allow_pipes: bool = False,
    max_dropped: float = 0.05,
    resample: bool = False,
    mix_down: bool = False,
    sampling_rate: int | None = None,
    workers: int | None = None,
) -> dict[str, PreparedSplit]:
    """Write manifests of the Kaldi data directories in `corpus` (one split each) into the folder
    `output`.

    `corpus` holds a data directory per split, or is one itself. `splits` chooses some by name;
    `NAME=FOLDER` is the data directory FOLDER as the split NAME. Paths in wav.scp that are relative
    belong to `root` (default: `corpus`); absolute ones are taken as they are. Neither may leave
    `root`. Commands in wav.scp are run only with `allow_pipes`; what they print is kept in
    `output`.

    Raises InputError, with file and line, for files that are missing, not UTF-8, malformed or do
    not fit together. Utterances with unusable audio are dropped by reason, and named in
    `output/dropped.jsonl`; WorkError above the share `max_dropped` of a split.

    Audio of any rate and number of channels is taken in, for the features to convert. With
    `sampling_rate` (Hz) other rates are dropped unless `resample`, several channels unless
    `mix_down`.
    """
    output = Path(output)
    if not 0 <= max_dropped <= 1:
        raise InputError(f"max_dropped is {max_dropped}: expected a share from 0 to 1")
    audio = audio_options(resample, mix_down, sampling_rate)
    directories = _read(Path(corpus), splits, root, allow_pipes)
    prepared = {}
    manifests = {}
    for directory in directories:
        utterances, drops = directory.measure(output, max_dropped, audio, workers)
        log_dropped(directory.split, drops)
        drops.check()
        manifests[directory.split] = utterances
        prepared[directory.split] = PreparedSplit.of(directory.split, utterances, drops)
    for split, utterances in manifests.items():
        write_manifest(output, split, utterances)
    write_dropped(output, prepared.values())
    return prepared


def read_kaldi(
    corpus: Path,
    *,
    splits: list[str] | None = None,
    root: Path | None = None,
    allow_pipes: bool = False,
) -> dict[str, KaldiTables]:
    """The tables of each split, checked as `prepare_kaldi` does before it opens any audio."""
    return {
        directory.split: KaldiTables(directory.texts, directory.speakers)
        for directory in _read(Path(corpus), splits, root, allow_pipes)
    }


def _read(
    corpus: Path, splits: list[str] | None, root: Path | None, allow_pipes: bool
) -> list["_DataDirectory"]:
    root = corpus if root is None else Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {option_name('root')} names the one that paths in wav.scp are "
                         "relative to")
    found = _find(corpus, splits)
    for split in found:
        check_split_name(split)
    return [
        _DataDirectory.read(split, path, root, allow_pipes) for split, path in found.items()
    ]


def write_kaldi(
    manifests: Path, output: Path, *, splits: list[str] | None = None, root: Path | None = None
) -> None:
    """Write Kaldi data directories `output/SPLIT` out of the manifests in a folder.

    wav.scp, text, utt2spk, spk2utt, utt2dur, and segments where an utterance is a part of its
    recording. Audio paths are absolute, or relative to `root`. Raises InputError for what Kaldi's
    files cannot hold: an id with white space, no speaker, several channels, audio outside of
    `root`.
    """
    manifests, output = Path(manifests), Path(output)
    contents = {split: read_manifest(manifests, split) for split in splits or list_splits(manifests)}
    tables = {split: _to_tables(utterances, root) for split, utterances in contents.items()}
    for split, files in tables.items():
        for name, lines in files.items():
            with atomic_file(output / split / name) as file:
                file.writelines(f"{line}\n" for line in sorted(lines))


@dataclass(frozen=True, slots=True)
class _Segment:
    recording: str
    start: float
    end: float | None  # None: to the end of the recording
    where: str


@dataclass(frozen=True, slots=True)
class _DataDirectory:
    """One data directory whose tables fit together."""

    split: str
    wavs: dict[str, Path | str]  # a command where it is a str
    texts: dict[str, str]
    speakers: dict[str, str]
    segments: dict[str, _Segment]

    @classmethod
    def read(cls, split: str, folder: Path, root: Path, allow_pipes: bool) -> "_DataDirectory":
        wav_path, text_path = folder / "wav.scp", folder / "text"
        wav_lines = _read_table(wav_path, "a path")
        paths = [value for value, _ in wav_lines.values()]
        wavs = {name: _wav(value, where, root, allow_pipes, paths) for name, (value, where) in wav_lines.items()}
        text_lines = _read_table(text_path, "")
        speaker_lines = _read_table(folder / "utt2spk", "a speaker")
        for utterance, (speaker, where) in speaker_lines.items():
            if not is_word(speaker):
                raise InputError(f"{where}: utterance {utterance} has more than one speaker: {speaker!r}")
        if (folder / "segments").exists():
            segment_lines = _read_table(folder / "segments", "a recording, start and end")
            segments = {name: _segment(value, where) for name, (value, where) in segment_lines.items()}
            _check_same_ids(text_lines, text_path, segment_lines, folder / "segments")
            for utterance, segment in segments.items():
                if segment.recording not in wavs:
                    raise InputError(f"{segment.where}: recording {segment.recording} of utterance {utterance} "
                                     f"is not in {wav_path}")
        else:
            segments = {name: _Segment(name, 0.0, None, where) for name, (_, where) in wav_lines.items()}
            _check_same_ids(text_lines, text_path, wav_lines, wav_path)
        _check_same_ids(text_lines, text_path, speaker_lines, folder / "utt2spk")
        return cls(
            split=split,
            wavs=wavs,
            texts={name: " ".join(words_of(value)) for name, (value, _) in text_lines.items()},
            speakers={name: value for name, (value, _) in speaker_lines.items()},
            segments=segments,
        )

    def measure(
        self, output: Path, max_dropped: float, audio: AudioOptions, workers: int | None
    ) -> tuple[list[Utterance], Drops]:
        """Read the header of every recording; the utterances, and what was dropped."""
        recordings = sorted({segment.recording for segment in self.segments.values()})

        def look(recording: str) -> tuple[Path, AudioHeader] | AudioError:
            wav = self.wavs[recording]
            try:
                path = wav if isinstance(wav, Path) else _run_pipe(wav, self._pipe_file(output, recording))
                header = read_header(path)
                if audio.sampling_rate is not None:
                    audio.check(path, header.sampling_rate, header.channels)
                return path, header
            except AudioError as error:
                return error

        looked = map_threads(look, recordings, workers, description=f"{self.split}: audio", unit="file")
        headers = dict(zip(recordings, looked, strict=True))
        drops = Drops(len(self.segments), cap=max_dropped)
        utterances = []
        for name, segment in self.segments.items():
            found = headers[segment.recording]
            if isinstance(found, AudioError):
                drops.drop(name, found.reason, found.detail, found.path)
                continue
            path, header = found
            end = header.duration if segment.end is None else segment.end
            if segment.start >= header.duration or end > header.duration + _MAX_OVERSHOOT:
                detail = f"{segment.where}: {segment.start} to {end} s of {header.duration:.3f} s"
                drops.drop(name, "segment after the end of its recording", detail, path)
                continue
            utterances.append(Utterance(
                id=name,
                speaker=self.speakers[name],
                text=self.texts[name],
                audio=path.absolute(),
                start=segment.start,
                duration=min(end, header.duration) - segment.start,
                sampling_rate=header.sampling_rate,
                channel=0 if header.channels == 1 else None,
                channels=header.channels,
                recording=segment.recording if segment.recording != name else "",
                recording_duration=header.duration,
            ))
        return utterances, drops

    def _pipe_file(self, output: Path, recording: str) -> Path:
        return output / f"{self.split}_audio" / f"{quote(recording, safe='')}.wav"


def find_data_directories(corpus: Path) -> dict[str, Path]:
    """The Kaldi data directories that `corpus` is or holds, by their names; InputError where there
    is none."""
    if not corpus.is_dir():
        raise InputError(f"{corpus}: no such folder; expected Kaldi data directories in it")
    if (corpus / "wav.scp").exists():
        found = {resolved(corpus).name: corpus}
    else:
        found = {path.name: path for path in sorted(corpus.iterdir()) if (path / "wav.scp").exists()}
    if not found:
        raise InputError(f"{corpus}: no Kaldi data directory; expected wav.scp in it or in its sub-folders")
    return found


def read_audio_paths(folder: Path) -> list[str]:
    """Read the paths in the wav.scp of a data directory as they stand there; InputError for a command."""
    values = _read_table(folder / "wav.scp", "a path")
    for value, where in values.values():
        if value.endswith("|"):
            raise InputError(f"{where}: is a command, not a path: {value!r}; write what it prints into "
                             "an audio file")
    return [value for value, _ in values.values()]


def _find(corpus: Path, splits: list[str] | None) -> dict[str, Path]:
    """Split -> data directory of those that are chosen; InputError for one that is not there, and
    for one twice."""
    found = find_data_directories(corpus)
    if not splits:
        return found
    chosen: dict[str, Path] = {}
    for assignment in splits:
        split, _, folder = assignment.partition("=")
        folder = folder or split
        if folder not in found:
            raise InputError(f"{corpus}: no data directory {folder}; there are {', '.join(found)}")
        if split in chosen:
            raise InputError(f"the split {split} is given twice, as {chosen[split].name} and as {folder}")
        chosen[split] = found[folder]
    return chosen


def _read_table(path: Path, value: str) -> dict[str, tuple[str, str]]:
    """Id -> (rest of the line, file:line); `value` names the rest where there must be one."""
    table: dict[str, tuple[str, str]] = {}
    for number, line in read_table_lines(path):
        where = f"{path}:{number}"
        name, rest = first_field(line)
        if not name:
            raise InputError(f"{where}: empty line; expected an id{' and ' + value if value else ''}")
        if value and not rest:
            raise InputError(f"{where}: only {name!r}; expected an id and {value}")
        if name in table:
            raise InputError(f"{where}: {name} occurs twice, first at {table[name][1]}; ids must be unique")
        table[name] = (rest, where)
    if not table:
        raise InputError(f"{path}: empty file")
    return table


def _check_same_ids(
    table: dict[str, tuple[str, str]], path: Path, other: dict[str, tuple[str, str]], other_path: Path
) -> None:
    for have, lack, lack_path in ((table, other, other_path), (other, table, path)):
        for name, (_, where) in have.items():
            if name not in lack:
                raise InputError(f"{where}: utterance {name} is not in {lack_path}; both must have the same ids")


def _wav(value: str, where: str, root: Path, allow_pipes: bool, paths: Iterable[str]) -> Path | str:
    """The audio file, or the command, of one line of wav.scp; `paths`: those of all lines."""
    if value.startswith("|") or value == "-":
        raise InputError(f"{where}: {value!r} is not an input; expected a path")
    if value.endswith("|"):
        if not allow_pipes:
            raise InputError(f"{where}: is a command, not a path: {value!r}; commands run only with "
                             f"{option_name('allow_pipes')}")
        return value[:-1]
    if any(len(part.encode()) > _LONGEST_NAME for part in value.split("/")):
        raise InputError(f"{where}: {value[:40]!r} cannot be a file's path")
    path = Path(os.path.abspath(root / value))
    if not resolved(path).is_relative_to(resolved(root)):
        folders = [resolved(Path(os.path.abspath(root / one))).parent for one in paths if not one.endswith("|")]
        raise InputError(f"{where}: {value} lies outside of {root}; give by {option_name('root')} a folder above all "
                         f"audio, such as {os.path.commonpath(folders)}")
    return path


def _segment(value: str, where: str) -> _Segment:
    fields = words_of(value)
    try:
        recording, start, end = fields[0], decimal_number(fields[1]), decimal_number(fields[2])
        if len(fields) > 3 or not (math.isfinite(start) and math.isfinite(end)):
            raise ValueError
    except (IndexError, ValueError) as error:
        raise InputError(f"{where}: expected UTTERANCE RECORDING START END in seconds, found {value!r}") from error
    if start < 0 or (end <= start and end != -1):
        raise InputError(f"{where}: segment from {start} to {end} s; expected 0 <= start < end, or end = -1")
    return _Segment(recording, start, None if end == -1 else end, where)


def _run_pipe(command: str, path: Path) -> Path:
    """Run a command of wav.scp, which the user has allowed, and keep the audio that it prints."""
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise AudioError(path, "command failed", f"{command.strip()!r} ended with {done.returncode}: {said}")
    with atomic_file(path, "wb") as file:
        file.write(done.stdout)
    return path


def _to_tables(utterances: Iterable[Utterance], root: Path | None) -> dict[str, list[str]]:
    """File name -> its lines, unsorted."""
    wavs: dict[str, str] = {}
    text, utt2spk, utt2dur, segments = [], [], [], []
    spk2utt: dict[str, list[str]] = {}
    whole = True
    for utterance in utterances:
        for what, name in (("id", utterance.id), ("recording", utterance.recording_id),
                           ("speaker", utterance.speaker)):
            if not is_word(name):
                raise InputError(f"utterance {utterance.id}: {what} is {name!r}; Kaldi's have no white space")
        if utterance.speed != 1:
            raise InputError(f"utterance {utterance.id} is played at {utterance.speed:g} times the speed of its file, "
                             "which wav.scp could say only with a command")
        if utterance.channels != 1:
            raise InputError(f"utterance {utterance.id}: {utterance.audio} has {utterance.channels} channels; "
                             "a Kaldi data directory takes one")
        path = str(utterance.audio.absolute() if root is None else _relative(utterance, root))
        wavs[utterance.recording_id] = f"{utterance.recording_id} {path}"
        text.append(f"{utterance.id} {utterance.text}".rstrip())
        utt2spk.append(f"{utterance.id} {utterance.speaker}")
        utt2dur.append(f"{utterance.id} {utterance.duration:.6g}")
        end = utterance.start + utterance.duration
        segments.append(f"{utterance.id} {utterance.recording_id} {utterance.start:.6f} {end:.6f}")
        spk2utt.setdefault(utterance.speaker, []).append(utterance.id)
        rest = utterance.recording_samples - round(utterance.duration * utterance.sampling_rate)
        whole = whole and utterance.recording_id == utterance.id and rest == 0
    files = {
        "wav.scp": list(wavs.values()),
        "text": text,
        "utt2spk": utt2spk,
        "spk2utt": [f"{speaker} {' '.join(sorted(names))}" for speaker, names in spk2utt.items()],
        "utt2dur": utt2dur,
    }
    return files if whole else {**files, "segments": segments}


def _relative(utterance: Utterance, root: Path) -> Path:
    audio, inside = resolved(utterance.audio), resolved(root)
    if not audio.is_relative_to(inside):
        raise InputError(f"utterance {utterance.id}: {utterance.audio} lies outside of {root}")
    return audio.relative_to(inside)
