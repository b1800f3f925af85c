"""Imports point down the table of rooms: none up, none sideways."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each room with all the rooms that it may import, itself apart.
_HMM = {"core", "data", "features", "lexicon"}
_ALIGNMENT = {"hmm", *_HMM}
_TIED_STATES = {"alignment", *_ALIGNMENT}
_BOOTSTRAP = {"tied_states", *_TIED_STATES}
_GRAPH = {"hmm", "lm", *_HMM}
_TRAINING = {"models", "core", "data", "features"}
_DISTILLATION = {"training", *_TRAINING}
_SEQUENCE = {"lattices", "distillation", *_DISTILLATION}
_DECODING = {"graph", "alignment", "lattices", "models", *_GRAPH}
_ADAPTATION = {"sequence", "decoding", "scoring", *_SEQUENCE, *_DECODING}
_BUDGET = {"adaptation", *_ADAPTATION}
_STAGES = {"budget", "report", "bootstrap", "kaldi_lattices", *_BUDGET}
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "data": {"core"},
    "features": {"core", "data"},
    "lexicon": {"core", "data"},
    "hmm": _HMM,
    "alignment": _ALIGNMENT,
    "tied_states": _TIED_STATES,
    "bootstrap": _BOOTSTRAP,
    "lm": {"core", "data"},
    "graph": _GRAPH,
    "lattices": {"core"},
    "kaldi_lattices": {"core", "lattices"},
    "models": {"core"},
    "training": _TRAINING,
    "distillation": _DISTILLATION,
    "sequence": _SEQUENCE,
    "decoding": _DECODING,
    "scoring": {"core", "data"},
    "adaptation": _ADAPTATION,
    "budget": _BUDGET,
    "report": {"core", "scoring"},
    # Preparers are called by a stage and by a command, as any room.
    "stages": {"data_prep", *_STAGES},
    "cli": {"data_prep", "stages", *_STAGES},
    "data_prep": {"core", "data"},
}


def test_imports_point_down_the_table_of_rooms() -> None:
    assert list(wrong_imports(ROOT)) == []


def test_every_folder_of_the_package_is_a_room_of_the_table() -> None:
    folders = {path.parent.name for path in (ROOT / "asr_kd").glob("*/*.py")}
    assert folders
    assert folders <= ALLOWED.keys()


def test_the_table_has_no_circle() -> None:
    for room, below in ALLOWED.items():
        assert room not in below
        for lower in below:
            assert room not in ALLOWED[lower], f"{room} and {lower} may import each other"


@pytest.mark.parametrize(
    ("file", "statement", "fault"),
    [
        ("asr_kd/core/files.py", "import asr_kd.data.manifest", "core imports data"),
        ("asr_kd/lattices/lattice.py", "from asr_kd.decoding import search", "lattices imports decoding"),
        ("asr_kd/training/engine.py", "from asr_kd.hmm.tree import DecisionTree", "training imports hmm"),
        ("asr_kd/scoring/wer.py", "def f():\n    from asr_kd import report", "scoring imports report"),
        ("asr_kd/models/dnn.py", "from ..training import engine", "models imports training"),
        ("asr_kd/models/deep/dnn.py", "from ...training.engine import Engine", "models imports training"),
        ("asr_kd/models/dnn.py", "from .. import training as t", "models imports training"),
        ("asr_kd/stages/decode.py", "import asr_kd.cli.score", "stages imports cli"),
        ("asr_kd/data/manifest.py", "from data_prep.kaldi import prepare_kaldi", "data imports data_prep"),
        ("asr_kd/core/runner.py", "import tests.core", "core imports tests"),
        ("asr_kd/features/cmvn.py", "import importlib\nimportlib.import_module('asr_kd.hmm')", "features imports hmm"),
        ("data_prep/ami.py", "import asr_kd.features.spectral as s", "data_prep imports features"),
        ("data_prep/ami.py", "from asr_kd.cli.main import main", "data_prep imports cli"),
    ],
)
def test_a_planted_wrong_import_is_caught(tmp_path: Path, file: str, statement: str, fault: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"import json\n{statement}\n")
    assert [found.split(": ")[1] for found in wrong_imports(tmp_path)] == [fault]


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("asr_kd/core/files.py", "from asr_kd.core.errors import InputError"),
        ("asr_kd/core/files.py", "from asr_kd import core\nfrom . import errors\nfrom .errors import InputError"),
        ("asr_kd/graph/hclg.py", "import asr_kd.hmm.model, asr_kd.features.cmvn, asr_kd_other"),
        ("asr_kd/cli/prepare.py", "from data_prep.kaldi import prepare_kaldi"),
        ("data_prep/ami.py", "from asr_kd.data.manifest import Utterance\nfrom data_prep import kaldi"),
    ],
)
def test_an_import_downwards_is_allowed(tmp_path: Path, file: str, statement: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"{statement}\n")
    assert list(wrong_imports(tmp_path)) == []


def wrong_imports(root: Path) -> Iterator[str]:
    """`file:line: room imports room` for each import below `root` that the table does not allow."""
    for path in sorted([*root.glob("asr_kd/**/*.py"), *root.glob("data_prep/**/*.py")]):
        parts = path.relative_to(root).with_suffix("").parts
        room = room_of(parts)
        if room is None:
            continue
        for line, module in imported_modules(ast.parse(path.read_text(encoding="utf-8")), parts):
            other = room_of(module)
            if other is not None and other != room and other not in ALLOWED[room]:
                yield f"{path.relative_to(root)}:{line}: {room} imports {other}"


def room_of(module: tuple[str, ...]) -> str | None:
    """The room of a module of ours; None for the package itself and for other people's modules."""
    match module:
        case ("asr_kd", room, *_) if room in ALLOWED:
            return room
        case (("data_prep" | "tests") as top, *_):
            return top
    return None


def imported_modules(tree: ast.AST, importer: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, module parts) of every import, wherever in the file it stands; relative ones resolved."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield node.lineno, tuple(name.name.split("."))
            case ast.ImportFrom(module=module, names=names, level=level):
                base = importer[:-level] if level else ()
                for name in names:
                    yield node.lineno, (*base, *(module.split(".") if module else ()), name.name)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, tuple(name.split("."))
