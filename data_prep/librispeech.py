"""LibriSpeech and Mini LibriSpeech, from their own folders.

Layout: `PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac`, and `SPEAKER-CHAPTER.trans.txt` with a line `ID WORDS` for
each utterance; parts are train-clean-100, dev-clean, test-other and so on. Any audio suffix will do, partial downloads
too: what is there is taken. Unlike Kaldi's recipe a speaker is a person, not a person in a chapter, and no part is
renamed.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books",
ICASSP 2015.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import read_lines, words_of
from asr_kd.data.audio import AudioError, AudioHeader, read_header
from asr_kd.data.manifest import Utterance, check_split_name, write_manifest
from data_prep.prepared import PreparedSplit, log_dropped, write_dropped

_TRANSCRIPTS = ".trans.txt"
NO_AUDIO, NO_TRANSCRIPT = "no audio file", "no transcript"


@dataclass(frozen=True, slots=True)
class _Chapter:
    """A folder with the recordings of one speaker and chapter."""

    part: str
    speaker: str
    folder: Path
    texts: Mapping[str, str]
    audio: Mapping[str, Path]


def prepare_librispeech(
    corpus: Path,
    output: Path,
    *,
    parts: list[str] | None = None,
    speakers: Mapping[str, Collection[str]] | None = None,
    max_dropped: float = 0.05,
    workers: int | None = None,
) -> dict[str, PreparedSplit]:
    """Write manifests of LibriSpeech's parts, one split each, into the folder `output`.

    `corpus` holds the parts, or a folder `LibriSpeech` with them. `parts` chooses some. With `speakers` (split ->
    speakers) splits are made of speakers, whatever part they are in. Utterances without audio, audio without a
    transcript and unreadable audio are dropped by reason; WorkError above the share `max_dropped` of a split.

    InputError: no part, a part or speaker that is not there, a malformed line (with file and line).
    """
    chapters = list(find_chapters(corpus, parts))
    splits: dict[str, list[_Chapter]] = {}
    if speakers is None:
        for chapter in chapters:
            splits.setdefault(chapter.part, []).append(chapter)
    else:
        known = {chapter.speaker for chapter in chapters}
        for split, chosen in speakers.items():
            missing = sorted(set(chosen) - known)
            if missing:
                raise InputError(f"{corpus}: no speaker {missing[0]} (split {split}); there are {len(known)} speakers")
            splits[split] = [chapter for chapter in chapters if chapter.speaker in set(chosen)]
    prepared = {}
    manifests = {}
    for split, of_split in splits.items():
        check_split_name(split)
        manifests[split], drops = _measure(split, of_split, max_dropped, workers)
        log_dropped(split, drops)
        drops.check()
        prepared[split] = PreparedSplit.of(split, manifests[split], drops)
    for split, utterances in manifests.items():
        write_manifest(Path(output), split, utterances)
    write_dropped(Path(output), prepared.values())
    return prepared


def find_chapters(corpus: Path, parts: list[str] | None = None) -> Iterator[_Chapter]:
    """Yield the chapters of a corpus, or of some of its parts, sorted. InputError: none, a malformed line."""
    corpus = Path(corpus)
    root = corpus / "LibriSpeech" if (corpus / "LibriSpeech").is_dir() else corpus
    if not root.is_dir():
        raise InputError(f"{corpus}: no such folder; expected LibriSpeech's parts (train-clean-100, dev-clean, ...)")
    transcripts = [path for path in list_files(root) if path.name.endswith(_TRANSCRIPTS)
                   and len(path.relative_to(root).parts) == 4]
    found = sorted({path.relative_to(root).parts[0] for path in transcripts})
    for part in parts or found:
        if part not in found:
            raise InputError(f"{root}: no part {part}; there are: {', '.join(found) or 'none'}")
    if not found:
        raise InputError(f"{root}: no transcripts (PART/SPEAKER/CHAPTER/*{_TRANSCRIPTS}); expected LibriSpeech's parts")
    for path in transcripts:
        part, speaker, _, _ = path.relative_to(root).parts
        if parts is None or part in parts:
            audio = {file.stem: file for file in sorted(path.parent.iterdir()) if not file.name.endswith(_TRANSCRIPTS)}
            yield _Chapter(part, speaker, path.parent, _read_transcripts(path), audio)


def _read_transcripts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in read_lines(path):
        name, *words = words_of(line)
        if not words:
            raise InputError(f"{path}:{number}: expected ID WORDS, found {line!r}")
        if name in texts:
            raise InputError(f"{path}:{number}: utterance {name} occurs twice")
        texts[name] = " ".join(words)
    return texts


def _measure(
    split: str, chapters: list[_Chapter], max_dropped: float, workers: int | None
) -> tuple[list[Utterance], Drops]:
    names = [(chapter, name) for chapter in chapters for name in sorted({*chapter.texts, *chapter.audio})]
    drops = Drops(len(names), cap=max_dropped)

    def look(item: tuple[_Chapter, str]) -> AudioHeader | AudioError | None:
        chapter, name = item
        if name not in chapter.audio or name not in chapter.texts:
            return None
        try:
            return read_header(chapter.audio[name])
        except AudioError as error:
            return error

    utterances = []
    headers = map_threads(look, names, workers, f"{split}: audio", "file")
    for (chapter, name), header in zip(names, headers, strict=True):
        if name not in chapter.audio:
            drops.drop(name, NO_AUDIO, str(chapter.folder))
        elif name not in chapter.texts:
            drops.drop(name, NO_TRANSCRIPT, "", chapter.audio[name])
        elif isinstance(header, AudioError):
            drops.drop(name, header.reason, header.detail, header.path)
        elif header is not None:
            utterances.append(Utterance(
                name, chapter.speaker, chapter.texts[name], chapter.audio[name].absolute(), 0.0, header.duration,
                header.sampling_rate, channel=0 if header.channels == 1 else None, channels=header.channels,
                recording_duration=header.duration))
    return utterances, drops
