"""Recognise the kind of a folder by its files, so that messages can say what was given instead."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json
from asr_kd.core.run_directory import is_run_directory

HMM_MODEL = "an HMM model"
NETWORK = "a network"
GRAPH = "a decoding graph"
FEATURES = "features"
TRANSFORMS = "speaker transforms"
MANIFESTS = "manifests"
LATTICES = "lattices"
_SHOWN = 5


def require_kind(folder: Path | None, kind: str, option: str) -> None:
    """InputError where `folder`, the value of `option`, is another kind of folder than `kind`, or a file.

    The message says what the folder is. A folder that is not there, or of no kind that is known, is for its reader to
    refuse.
    """
    if folder is None or not Path(folder).exists():
        return
    folder = Path(folder)
    if _KINDS[kind](folder):
        return
    name = option.removeprefix("--")
    if folder.is_file():
        raise InputError(f"{folder}: that is a file, expected {kind} as {name} ({_EXPECTED[kind]})")
    if is_run_directory(folder):
        stages = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and _KINDS[kind](path)]
        shown = ", ".join(stages[:_SHOWN]) + (", ..." if len(stages) > _SHOWN else "")
        raise InputError(f"{folder}: that is a run directory, expected {kind} as {name}; its stages of that kind: "
                         f"{shown or 'none'}")
    kinds = list(folder_kinds(folder))
    if kinds:
        raise InputError(f"{folder}: that is {' and '.join(kinds)}, expected {kind} as {name} ({_EXPECTED[kind]})")


def folder_kinds(folder: Path) -> Iterator[str]:
    """Yield what a folder is: an HMM model with speaker transforms is both."""
    yield from (kind for kind, fits in _KINDS.items() if fits(Path(folder)))


def _holds(*names: str) -> Callable[[Path], bool]:
    """True of a folder that has these files, itself or in a folder for each split."""
    def fits(folder: Path) -> bool:
        return any(all((place / name).is_file() for name in names) for place in (folder, *_folders_in(folder)))

    return fits


def _has(*names: str) -> Callable[[Path], bool]:
    """True of a folder that has these files itself."""
    return lambda folder: all((folder / name).is_file() for name in names)


def _below(name: str) -> Callable[[Path], bool]:
    """True of a folder with this file in a folder for each split."""
    return lambda folder: any((place / name).is_file() for place in _folders_in(folder))


def _describes(key: str, *below: str) -> Callable[[Path], bool]:
    """True of a folder whose `model.json`, there or in a folder `below`, has the key."""
    def fits(folder: Path) -> bool:
        return any(key in _read_mapping(place / "model.json") for place in (folder, *(folder / b for b in below)))

    return fits


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _read_mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_transforms(folder: Path) -> bool:
    fits = _holds("transforms.json")
    return fits(folder) or fits(folder / "transforms")


def _is_manifests(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*_supervisions.jsonl*"))


_KINDS: dict[str, Callable[[Path], bool]] = {
    HMM_MODEL: _describes("topology"),
    NETWORK: _describes("architecture", "model"),
    GRAPH: _has("graph.json", "HCLG.fst"),
    FEATURES: _holds("frames.bin", "index.json"),
    TRANSFORMS: _is_transforms,
    MANIFESTS: _is_manifests,
    LATTICES: _has("lattices.json"),
    "a stage with lattices of each split": _below("lattices.json"),
    "alignments": _holds("alignments.json"),
    "soft targets": _holds("soft_targets.json"),
    "a Kaldi data directory": _holds("wav.scp"),
    "a recipe": _holds("recipe.yaml"),
}
_EXPECTED = {
    HMM_MODEL: "a stage such as mono, tri or sat",
    NETWORK: "a stage of kind network or sequence-training",
    GRAPH: "asr-kd graph, or a stage of kind graph",
    FEATURES: "a stage of kind features or adapted-features",
    TRANSFORMS: "a stage of kind first-pass or speaker-adaptive",
    MANIFESTS: "asr-kd prepare, or the stage prepare",
    LATTICES: "a split of a stage of kind decode, or what asr-kd decode wrote",
}
