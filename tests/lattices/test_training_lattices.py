"""Lattices for training on disk: what goes in comes out, what does not belong together is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.errors import InputError
from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.store import DATA, LatticeStoreWriter
from asr_kd.lattices.training_lattices import TrainingLattices, TrainingUtterance, write_utterances
from tests.lattices.random_lattice import random_lattice
from tests.lattices.random_word_lattice import assert_same_paths

UTTERANCES = {f"u{i}": TrainingUtterance(i + 1, 10 * i, None if i == 1 else 2.5 * i) for i in range(3)}
LATTICES = {name: determinize(random_lattice(number, frames=number + 1), 5.0, 0.1)
            for number, name in enumerate(UTTERANCES)}


def write(folder: Path, **description: Any) -> None:
    with LatticeStoreWriter(folder, {"hmm": "treeA", "made_of": "abc", **description}) as writer:
        for name, lattice in LATTICES.items():
            writer.add(name, lattice)
    write_utterances(folder, UTTERANCES)


def test_lattices_and_what_is_known_of_them_come_back(tmp_path: Path) -> None:
    write(tmp_path)
    found = TrainingLattices.open(tmp_path, "treeA")
    assert found.utterances == UTTERANCES and found.digest == "abc"
    for name, lattice in LATTICES.items():
        assert_same_paths(found.lattices.word_lattice(name), lattice)


def test_lattices_of_another_model_are_refused_with_both_names(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(InputError, match="the model treeA, to be used with the model treeB"):
        TrainingLattices.open(tmp_path, "treeB")


def test_decoded_lattices_are_refused(tmp_path: Path) -> None:
    with LatticeStoreWriter(tmp_path, {"hmm": "treeA"}) as writer:
        writer.add("u0", LATTICES["u0"])
    with pytest.raises(InputError, match="no lattices for training; a stage of kind training-lattices"):
        TrainingLattices.open(tmp_path, "treeA")


def without(name: str) -> str:
    return json.dumps({known: vars(utterance) for known, utterance in UTTERANCES.items() if known != name})


@pytest.mark.parametrize(("content", "message"), [
    (None, "no such file"),
    ("{", "JSON"),
    ("[]", "damaged"),
    ('{"u0": 3}', "damaged"),
    ('{"u0": {"frames": 3}}', "damaged"),
    (without("u2"), "not the utterances of the lattices"),
])
def test_a_missing_or_damaged_list_of_utterances_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    write(tmp_path)
    path = tmp_path / "utterances.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"utterances\.json.*{message}"):
        TrainingLattices.open(tmp_path, "treeA")


def test_lattices_that_were_cut_off_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    content = (tmp_path / DATA).read_bytes()
    (tmp_path / DATA).write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"lattices\.bin: damaged"):
        TrainingLattices.open(tmp_path, "treeA")
