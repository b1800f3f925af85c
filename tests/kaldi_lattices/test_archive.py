"""Kaldi's lattice archives: what goes in comes out, whatever the form; kaldifst as the other party."""

import gzip
import shutil
import struct
from dataclasses import fields, replace
from pathlib import Path

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.kaldi_lattices.archive import read_lattices, read_word_lattices, write_lattices
from asr_kd.kaldi_lattices.text_form import lattice_text
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import random_lattice
from tests.lattices.random_word_lattice import assert_same_paths, labelled_paths, random_word_lattice

SEEDS = st.integers(0, 10**6)
FORMS = pytest.mark.parametrize("text", [True, False], ids=["text", "binary"])


RUNS = {"begins", "ends", "final_begins", "final_ends", "transition_ids"}


def assert_equal(first: Lattice | WordLattice, second: Lattice | WordLattice) -> None:
    """The same arrays; where the runs of a word lattice lie is no part of it."""
    assert type(first) is type(second)
    assert second.fault() is None
    places: set[str] = set()
    if isinstance(first, WordLattice) and isinstance(second, WordLattice):
        places = RUNS
        for state in range(first.num_states):
            np.testing.assert_array_equal(first.final_run(state), second.final_run(state))
        for arc in range(first.num_arcs):
            np.testing.assert_array_equal(first.run(arc), second.run(arc))
    for field in fields(first):
        if field.name not in places:
            a, b = getattr(first, field.name), getattr(second, field.name)
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@FORMS
@settings(max_examples=40, deadline=None)
@given(seeds=st.lists(SEEDS, max_size=3, unique=True), frames=st.integers(1, 6))
def test_lattices_come_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, text: bool, seeds: list[int], frames: int
) -> None:
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    lattices = [(f"utt{seed}", random_lattice(seed, frames=frames)) for seed in seeds]
    assert write_lattices(path, lattices, text=text) == len(seeds)
    read = list(read_lattices(path))
    assert [key for key, _ in read] == [key for key, _ in lattices]
    for (_, lattice), (_, again) in zip(lattices, read, strict=True):
        assert_equal(lattice, again)


@FORMS
@settings(max_examples=60, deadline=None)
@given(seeds=st.lists(SEEDS, max_size=3, unique=True), states=st.integers(2, 7))
def test_word_lattices_come_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, text: bool, seeds: list[int], states: int
) -> None:
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    lattices = [(f"utt{seed}", random_word_lattice(seed, states=states)) for seed in seeds]
    write_lattices(path, lattices, text=text)
    read = list(read_word_lattices(path))
    assert [key for key, _ in read] == [key for key, _ in lattices]
    for (_, lattice), (_, again) in zip(lattices, read, strict=True):
        if sum(len(lattice.run(arc)) > 1 for arc in range(lattice.num_arcs)) or lattice.final_ends.any():
            assert_equal(lattice, again)
        else:
            assert_same_paths(lattice, again)


@FORMS
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_either_kind_is_read_as_the_other_with_the_same_paths(
    tmp_path_factory: pytest.TempPathFactory, text: bool, seed: int
) -> None:
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    compact, plain = random_word_lattice(seed), random_lattice(seed)
    write_lattices(path, [("c", compact)], text=text)
    [(_, expanded)] = read_lattices(path)
    write_lattices(path, [("p", plain)], text=text)
    [(_, joined)] = read_word_lattices(path)
    assert expanded.fault() is None and joined.fault() is None
    assert_same_paths(compact, expanded)
    assert_same_paths(plain, joined)
    assert joined.num_arcs <= plain.num_arcs


def renumbered(text: str, seed: int) -> str:
    """The same lattice with other state numbers and its lines in another order, the start's first."""
    lines = [line.split("\t") for line in text.splitlines()]
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(1000)
    new = []
    for line in lines:
        is_arc = len(line) > 2
        states = [str(numbers[int(state)]) for state in line[: 1 + is_arc]]
        new.append("\t".join(states + line[1 + is_arc :]))
    first, *rest = new
    return "\n".join([first, *(rest[i] for i in rng.permutation(len(rest)))]) + "\n"


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, compact=st.booleans())
def test_states_in_any_order_are_sorted(
    tmp_path_factory: pytest.TempPathFactory, seed: int, compact: bool
) -> None:
    path = tmp_path_factory.mktemp("ark") / "lat.ark"
    lattice = random_word_lattice(seed) if compact else random_lattice(seed)
    path.write_text(f"u \n{renumbered(lattice_text(lattice), seed)}\n")
    [(_, again)] = read_word_lattices(path) if compact else read_lattices(path)
    assert again.fault() is None
    assert_same_paths(lattice, again)


def kaldifst_lattice(lattice: Lattice) -> kaldifst.Lattice:
    fst = kaldifst.Lattice()
    for _ in range(lattice.num_states):
        fst.add_state()
    fst.start = 0
    for arc, source in enumerate(lattice.sources.tolist()):
        weight = kaldifst.LatticeWeight(float(lattice.graph_costs[arc]), float(lattice.acoustic_costs[arc]))
        fst.add_arc(source, kaldifst.LatticeArc(int(lattice.transition_ids[arc]), int(lattice.words[arc]), weight,
                                                int(lattice.targets[arc])))
    for state in np.flatnonzero(np.isfinite(lattice.final_costs)).tolist():
        fst.set_final(state, kaldifst.LatticeWeight(float(lattice.final_costs[state]), 0.0))
    return fst


@pytest.mark.parametrize("seed", range(5))
def test_kaldifst_reads_what_we_write(tmp_path: Path, seed: int) -> None:
    lattice = random_lattice(seed, frames=5)
    write_lattices(tmp_path / "lat.ark", [("utt1", lattice)])
    content = (tmp_path / "lat.ark").read_bytes()
    assert content.startswith(b"utt1 \xd6\xfd\xb2\x7e")
    (tmp_path / "one.fst").write_bytes(content[len(b"utt1 ") :])
    fst = kaldifst.Lattice.read(str(tmp_path / "one.fst"))
    assert fst.start == 0
    assert str(fst).split() == str(kaldifst_lattice(lattice)).split()


@pytest.mark.parametrize("seed", range(5))
def test_we_read_what_kaldifst_writes(tmp_path: Path, seed: int) -> None:
    lattices = [random_lattice(seed, frames=5), random_lattice(seed + 100, frames=3)]
    content = b""
    for key, lattice in zip([b"a ", b"b "], lattices, strict=True):
        kaldifst_lattice(lattice).write(str(tmp_path / "one.fst"))
        content += key + (tmp_path / "one.fst").read_bytes()
    (tmp_path / "lat.ark").write_bytes(content)
    read = list(read_lattices(tmp_path / "lat.ark"))
    assert [key for key, _ in read] == ["a", "b"]
    for lattice, (_, again) in zip(lattices, read, strict=True):
        assert_equal(lattice, again)


COMPACT_BYTES = b"".join([
    b"utt1 ", struct.pack("<i", 2125659606), struct.pack("<i", 6), b"vector", struct.pack("<i", 16),
    b"compactlattice44", struct.pack("<iiQqqq", 2, 0, 3, 1, 3, 0),
    # State 0: final, costs 0.5 and 2, transition-ids 7 8; no arcs.
    struct.pack("<ffi2i", 0.5, 2.0, 2, 7, 8), struct.pack("<q", 0),
    # State 1, the start: not final; two arcs with word 5 to state 0 (transition-id 3) and word 6 to state 2 (3 4).
    struct.pack("<ffi", np.inf, np.inf, 0), struct.pack("<q", 2),
    struct.pack("<iiffi1ii", 5, 5, 1.5, 2.5, 1, 3, 0), struct.pack("<iiffi2ii", 6, 6, 3.5, -4.5, 2, 3, 4, 2),
    # State 2: final, costs 0 and 0, transition-id 9; no arcs.
    struct.pack("<ffi1i", 0.0, 0.0, 1, 9), struct.pack("<q", 0)])


def test_a_compact_lattice_assembled_by_hand_is_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "lat.ark").write_bytes(COMPACT_BYTES)
    [(key, lattice)] = read_word_lattices(tmp_path / "lat.ark")
    assert key == "utt1"
    assert labelled_paths(lattice) == [(((5,), (3, 7, 8)), 2.0, 4.5), (((6,), (3, 4, 9)), 3.5, -4.5)]
    [(_, expanded)] = read_lattices(tmp_path / "lat.ark")
    assert labelled_paths(expanded) == labelled_paths(lattice)
    # Its states in our order, 1 0 2, are written with the same bytes but for their numbers.
    write_lattices(tmp_path / "again.ark", [(key, lattice)])
    again = (tmp_path / "again.ark").read_bytes()
    assert len(again) == len(COMPACT_BYTES)
    [(_, lattice_again)] = read_word_lattices(tmp_path / "again.ark")
    assert_equal(lattice, lattice_again)
    body = again[again.index(b"compactlattice44") + 16 :]
    assert body[:40] == struct.pack("<iiQqqq", 2, 0, 3, 0, 3, 0)
    assert body[40:52] == struct.pack("<ffi", np.inf, np.inf, 0)
    assert body[60:88] == struct.pack("<iiffi1ii", 5, 5, 1.5, 2.5, 1, 3, 1)


def test_final_states_of_a_state_level_lattice_may_have_acoustic_costs(tmp_path: Path) -> None:
    (tmp_path / "lat.txt").write_text("u \n0\t1\t5\t1\t1,2\n0\t2\t6\t2\t3,4\n1\t0.5,10\n2\t0.25,0\n\n")
    [(_, lattice)] = read_lattices(tmp_path / "lat.txt")
    assert lattice.fault() is None and lattice.num_frames == 1
    assert labelled_paths(lattice) == [(((1,), (5,)), 1.5, 12.0), (((2,), (6,)), 3.25, 4.0)]


@FORMS
def test_empty_lattices_pass(tmp_path: Path, text: bool) -> None:
    empty = random_lattice(0)
    empty = Lattice(*(getattr(empty, field.name)[:0] for field in fields(empty)))
    empty = replace(empty, offsets=np.zeros(1, np.int32))
    write_lattices(tmp_path / "lat.ark", [("a", empty), ("b", random_lattice(1)), ("c", empty)], text=text)
    read = list(read_lattices(tmp_path / "lat.ark"))
    assert [key for key, _ in read] == ["a", "b", "c"]
    assert_equal(empty, read[0][1])
    assert_equal(random_lattice(1), read[1][1])
    assert [lattice.num_states for _, lattice in read_word_lattices(tmp_path / "lat.ark")][::2] == [0, 0]


@FORMS
def test_a_compressed_archive_is_read(tmp_path: Path, text: bool) -> None:
    lattices = [(f"u{seed}", random_lattice(seed, frames=30, width=9)) for seed in range(3)]
    write_lattices(tmp_path / "lat.1", lattices, text=text)
    with gzip.open(tmp_path / "lat.1.gz", "wb") as file:
        file.write((tmp_path / "lat.1").read_bytes())
    for (_, lattice), (_, again) in zip(lattices, read_lattices(tmp_path / "lat.1.gz"), strict=True):
        assert_equal(lattice, again)


@FORMS
def test_a_script_gives_any_order_and_moves_with_its_folder(tmp_path: Path, text: bool) -> None:
    folder = tmp_path / "here"
    lattices = {f"u{seed}": random_word_lattice(seed, frames=9) for seed in range(6)}
    for part in range(2):
        write_lattices(folder / f"lat.{part}.ark", list(lattices.items())[3 * part : 3 * part + 3], text=text,
                       scp=folder / f"lat.{part}.scp")
    lines = [line for part in range(2) for line in (folder / f"lat.{part}.scp").read_text().splitlines()]
    (folder / "lat.scp").write_text("\n".join(lines[i] for i in (5, 0, 3, 1, 4, 2)) + "\n")
    shutil.move(folder, tmp_path / "there")
    read = list(read_word_lattices(tmp_path / "there" / "lat.scp"))
    assert [key for key, _ in read] == ["u5", "u0", "u3", "u1", "u4", "u2"]
    for key, lattice in read:
        assert_same_paths(lattice, lattices[key])


def test_one_utterance_at_a_time(tmp_path: Path) -> None:
    write_lattices(tmp_path / "lat.ark", [("a", random_lattice(1)), ("b", random_lattice(2))])
    content = (tmp_path / "lat.ark").read_bytes()
    (tmp_path / "lat.ark").write_bytes(content[:-4])
    reader = read_lattices(tmp_path / "lat.ark")
    assert_equal(next(reader)[1], random_lattice(1))
    with pytest.raises(InputError, match=r"lat\.ark: byte \d+: b: cut off"):
        next(reader)


def test_what_breaks_the_rules_is_not_written(tmp_path: Path) -> None:
    lattice = random_lattice(0)
    broken = replace(lattice, targets=lattice.targets * 0)
    with pytest.raises(InputError, match="u: an arc does not lead"):
        write_lattices(tmp_path / "lat.ark", [("v", lattice), ("u", broken)])
    with pytest.raises(InputError, match="'a b': expected one word"):
        write_lattices(tmp_path / "lat.ark", [("a b", lattice)])
    assert list(tmp_path.iterdir()) == []
