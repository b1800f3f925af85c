"""The lattice store: what goes in comes out, damage is refused."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lattices.determinization import determinize
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.store import DATA, INDEX, LatticeStore, LatticeStoreWriter
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import random_lattice


def write(folder: Path, count: int = 3) -> dict[str, Lattice]:
    lattices = {f"utt{i}": random_lattice(i, frames=i + 1) for i in range(count)}
    with LatticeStoreWriter(folder, {"graph": "abc"}, "states") as writer:
        for utterance_id, lattice in lattices.items():
            writer.add(utterance_id, lattice)
    return lattices


def assert_equal(first: Lattice | WordLattice, second: Lattice | WordLattice) -> None:
    assert type(first) is type(second)
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
def test_lattices_come_back_unchanged(tmp_path_factory: pytest.TempPathFactory, seeds: list[int]) -> None:
    folder = tmp_path_factory.mktemp("store")
    with LatticeStoreWriter(folder, {}, "states") as writer:
        for seed in seeds:
            writer.add(str(seed), random_lattice(seed))
    store = LatticeStore.open(folder)
    assert store.ids == [str(seed) for seed in seeds]
    for seed in seeds:
        assert_equal(store[str(seed)], random_lattice(seed))


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True), scale=st.sampled_from([1, 90_000]))
def test_word_lattices_come_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], scale: int,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    lattices = {str(seed): determinize(random_lattice(seed), 8.0, 0.1) for seed in seeds}
    lattices = {i: replace(x, words=x.words * scale, transition_ids=x.transition_ids * scale)
                for i, x in lattices.items()}
    with LatticeStoreWriter(folder, {}) as writer:
        for utterance_id, lattice in lattices.items():
            writer.add(utterance_id, lattice)
    store = LatticeStore.open(folder)
    assert store.kind == "words"
    for utterance_id, lattice in lattices.items():
        assert_equal(store.word_lattice(utterance_id), lattice)


def test_an_empty_word_lattice_comes_back(tmp_path: Path) -> None:
    none, costs = np.zeros(0, np.int32), np.zeros(0, np.float32)
    empty = WordLattice(none, np.zeros(1, np.int32), none, none, costs, costs, none, none, costs, costs, none, none,
                        none)
    with LatticeStoreWriter(tmp_path, {}) as writer:
        writer.add("u", empty)
    assert_equal(LatticeStore.open(tmp_path)["u"], empty)


def test_lattices_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    with LatticeStoreWriter(tmp_path, {}) as writer, pytest.raises(ValueError, match="not a lattice of words"):
        writer.add("u", random_lattice(0))
    write(tmp_path)
    with pytest.raises(InputError, match="lattices of states, word lattices are needed"):
        LatticeStore.open(tmp_path).word_lattice("utt0")


def test_large_labels_and_steps_come_back(tmp_path: Path) -> None:
    lattice = random_lattice(5)
    large = Lattice(lattice.frames, lattice.offsets, lattice.final_costs, lattice.targets,
                    lattice.transition_ids * 100_000, lattice.words * 300, lattice.graph_costs, lattice.acoustic_costs)
    with LatticeStoreWriter(tmp_path, {}, "states") as writer:
        writer.add("u", large)
    assert_equal(LatticeStore.open(tmp_path)["u"], large)


def test_description_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    store = LatticeStore.open(tmp_path)
    assert store.description == {"graph": "abc"}
    assert "utt1" in store and "utt9" not in store and len(store) == 3


def test_an_id_given_twice_and_a_broken_lattice_are_refused(tmp_path: Path) -> None:
    lattice = random_lattice(0)
    with LatticeStoreWriter(tmp_path, {}, "states") as writer:
        writer.add("u", lattice)
        with pytest.raises(ValueError, match="u is in the store"):
            writer.add("u", lattice)
        broken = Lattice(lattice.frames, lattice.offsets, lattice.final_costs, lattice.targets * 0,
                         lattice.transition_ids, lattice.words, lattice.graph_costs, lattice.acoustic_costs)
        with pytest.raises(ValueError, match="higher state"):
            writer.add("v", broken)


def test_an_interrupted_store_cannot_be_opened(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(RuntimeError), LatticeStoreWriter(tmp_path, {}, "states") as writer:
        writer.add("u", random_lattice(0))
        raise RuntimeError
    with pytest.raises(InputError, match=INDEX):
        LatticeStore.open(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "missing", "index"])
def test_a_damaged_store_is_refused(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    data = tmp_path / DATA
    content = data.read_bytes()
    if damage == "missing":
        data.unlink()
    elif damage == "index":
        (tmp_path / INDEX).write_text('{"version": 2, "lattices": {"u": [1, 2]}, "bytes": 3}')
    else:
        data.write_bytes({"cut": content[:-1], "header": b"?" + content[1:], "empty": b""}[damage])
    with pytest.raises(InputError, match=r"lattices\.(bin|json): .*(decode again|no such file)"):
        LatticeStore.open(tmp_path)


def test_a_flipped_bit_is_noticed_and_the_utterance_named(tmp_path: Path) -> None:
    lattices = write(tmp_path)
    data = tmp_path / DATA
    content = bytearray(data.read_bytes())
    content[-3] ^= 4
    data.write_bytes(bytes(content))
    store = LatticeStore.open(tmp_path)
    assert_equal(store["utt0"], lattices["utt0"])
    with pytest.raises(InputError, match="utt2: damaged lattice"):
        store["utt2"]
