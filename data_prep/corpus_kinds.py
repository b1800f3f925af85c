"""Recognise the kind of a corpus, and collect the facts that a recipe for it needs."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_kd.core.errors import InputError, messages_of_stage
from asr_kd.core.text_tables import words_of
from asr_kd.data.audio import AudioError, read_header
from data_prep.kaldi import find_data_directories, read_audio_paths, read_kaldi

SPLITS = ("train", "dev", "test")
# Where data directories of a split other than by its own name are looked for.
_CALLED = {
    "train": re.compile(r"train|tr\d*([_-].*)?", re.IGNORECASE),
    "dev": re.compile(r"dev|valid|val([_-]|$)|cv([_-]|$)", re.IGNORECASE),
    "test": re.compile(r"test|eval", re.IGNORECASE),
}
_LISTENED_TO = 20  # audio files of each split


@dataclass(frozen=True)
class CorpusFacts:
    """Facts of a corpus that go into a recipe for it.

    `prepare` is the kind of its preparing stage; `folders` maps the splits train, dev and test to
    their folders; `root` is what holds the audio, where that is not the corpus folder;
    `sampling_rate` is the most frequent one in Hz, `resample` says that there are others, `mix_down`
    that there is audio of several channels. `training_words` are each once, of train.
    """

    prepare: str
    folders: Mapping[str, str]
    root: Path | None
    sampling_rate: int
    resample: bool
    mix_down: bool
    training_speakers: int
    training_utterances: int
    training_words: frozenset[str]


@dataclass(frozen=True)
class CorpusKind:
    """A layout of corpora: how its folder is recognised, and how it is looked at.

    `look(corpus, folders)`: `folders` are those that the user has named for some of the splits.
    """

    name: str
    recognise: Callable[[Path], bool]
    look: Callable[[Path, Mapping[str, str]], CorpusFacts]


def look_at_corpus(corpus: Path, folders: Mapping[str, str] | None = None) -> CorpusFacts:
    """Facts of the corpus in a folder; InputError where it is of no known kind, or faulty."""
    if not corpus.is_dir():
        raise InputError(f"{corpus}: no such folder; --corpus expects the folder of the corpus")
    for kind in KINDS:
        if kind.recognise(corpus):
            return kind.look(corpus, folders or {})
    inner = [path.name for path in sorted(corpus.iterdir()) if path.is_dir() and _is_kaldi(path)]
    hint = f"; there are some in {corpus / inner[0]}" if inner else ""
    raise InputError(
        f"{corpus}: no corpus of a known kind ({', '.join(kind.name for kind in KINDS)}): expected "
        f"folders train, dev and test with wav.scp, text and utt2spk{hint}"
    )


def _is_kaldi(corpus: Path) -> bool:
    return any((folder / "wav.scp").is_file() for folder in (corpus, *corpus.iterdir()))


def _look_at_kaldi(corpus: Path, named: Mapping[str, str]) -> CorpusFacts:
    folders = choose_folders(corpus, sorted(find_data_directories(corpus)), named)
    paths = {split: read_audio_paths(corpus / folder) for split, folder in folders.items()}
    root = _audio_root(corpus, [path for of_split in paths.values() for path in of_split])
    splits = [f"{split}={folder}" for split, folder in folders.items()]
    with messages_of_stage("prepare"):  # whose settings the new recipe will have
        tables = read_kaldi(corpus, splits=splits, root=root)
    files = [(root or corpus) / path for of_split in paths.values() for path in _spread(of_split)]
    rates, channels = _listen(files)
    rate, _ = rates.most_common(1)[0]
    train = tables["train"]
    return CorpusFacts(
        prepare="prepare-kaldi",
        folders=folders,
        root=root,
        sampling_rate=rate,
        resample=len(rates) > 1,
        mix_down=max(channels) > 1,
        training_speakers=len(set(train.speakers.values())),
        training_utterances=len(train.texts),
        training_words=frozenset(w for text in train.texts.values() for w in words_of(text)),
    )


KINDS = (CorpusKind("Kaldi data directories", _is_kaldi, _look_at_kaldi),)


def choose_folders(corpus: Path, found: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Split -> folder, for train, dev and test: as named, else of that name, else the only one that
    is called alike (`train_clean_5`, `valid`, `eval92`).

    InputError where a split has no folder or several.
    """
    chosen: dict[str, str] = {}
    for split in SPLITS:
        alike = [name for name in found if _CALLED[split].match(name)]
        if split in named:
            alike = [named[split]] if named[split] in found else []
        elif split in found:
            alike = [split]
        if len(alike) != 1:
            which = (
                f"{', '.join(alike)} might each be it" if alike else f"there are {', '.join(found)}"
            )
            raise InputError(
                f"{corpus}: no folder for the split {split}: {which}; say which by --split "
                f"{split}=FOLDER. A recipe needs three: train to learn from, dev to choose weights "
                "on, test for the figures, without a speaker in common"
            )
        chosen[split] = alike[0]
    if len(set(chosen.values())) < len(chosen):
        raise InputError(
            f"{corpus}: the splits {', '.join(f'{s} ({f})' for s, f in chosen.items())} share a "
            "folder; what is scored must not be trained on"
        )
    return chosen


def _audio_root(corpus: Path, paths: Sequence[str]) -> Path | None:
    """The folder that holds audio which is named by absolute paths outside of the corpus."""
    absolute = [path for path in paths if Path(path).is_absolute()]
    if len(absolute) < len(paths) or all(
        Path(p).is_relative_to(corpus.resolve()) for p in absolute
    ):
        return None
    return Path(os.path.commonpath([os.path.dirname(path) for path in absolute]))


def _spread(paths: Sequence[str]) -> list[str]:
    """A few of the paths, from the first to the last."""
    step = max(1, len(paths) // _LISTENED_TO)
    return list(paths[::step])


def _listen(files: Sequence[Path]) -> tuple[Counter[int], set[int]]:
    """Count the sampling rates, and collect the numbers of channels, of the audio that can be read."""
    rates: Counter[int] = Counter()
    channels: set[int] = set()
    fault = "there is none"
    for file in files:
        try:
            header = read_header(file)
        except AudioError as error:
            fault = f"{error.path}: {error.reason}"
            continue
        rates[header.sampling_rate] += 1
        channels.add(header.channels)
    if not rates:
        raise InputError(f"none of {len(files)} audio files can be read: {fault}")
    return rates, channels
