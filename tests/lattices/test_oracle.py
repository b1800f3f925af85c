"""Oracle errors against all paths, and the counts of lattices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from asr_kd.core.errors import InputError
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.oracle import lattice_statistics, oracle_errors
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_lattice import random_lattice
from tests.lattices.random_word_lattice import labelled_paths, random_word_lattice

REFERENCES = st.lists(st.integers(-1, 4).filter(lambda word: word != 0), max_size=7)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**6), REFERENCES, st.booleans())
def test_oracle_is_the_path_nearest_to_the_reference(seed: int, reference: list[int], compact: bool) -> None:
    lattice = random_word_lattice(seed) if compact else random_lattice(seed, frames=5)
    readings = {words for (words, _), *_ in labelled_paths(lattice)}
    oracle = oracle_errors(lattice, reference)
    assert oracle.errors == min(Levenshtein.distance(words, reference) for words in readings)
    assert tuple(oracle.words) in readings
    assert Levenshtein.distance(oracle.words, reference) == oracle.errors
    assert len(oracle.words) - len(reference) == oracle.insertions - oracle.deletions
    assert min(oracle.insertions, oracle.deletions, oracle.substitutions) >= 0


def test_a_table_of_gigabytes_is_refused() -> None:
    with pytest.raises(InputError, match="9001 states of a lattice against 9000 reference words are too many"):
        oracle_errors(line(*range(1, 9001)), range(1, 9001))


def line(*words: int) -> WordLattice:
    """One path."""
    n = len(words)
    ids = np.arange(n, dtype=np.int32)
    none = np.zeros(n + 1, np.int32)
    return WordLattice(
        np.arange(n + 1, dtype=np.int32), np.append(ids, [n, n]).astype(np.int32), ids + 1, np.array(words, np.int32),
        np.zeros(n, np.float32), np.zeros(n, np.float32), ids, ids + 1,
        np.where(np.arange(n + 1) == n, 0, np.inf).astype(np.float32), np.zeros(n + 1, np.float32), none, none, ids + 1)


@pytest.mark.parametrize(
    ("words", "reference", "counts"),
    [
        ([1, 2, 3], [1, 2, 3], (0, 0, 0)),
        ([1, 2, 3], [1, 3], (1, 0, 0)),
        ([1, 3], [1, 2, 3], (0, 1, 0)),
        ([1, 4, 3], [1, 2, 3], (0, 0, 1)),
        ([1, 2], [2, 3], (1, 1, 0)),
        ([], [2, 3], (0, 2, 0)),
        ([2, 3], [], (2, 0, 0)),
        ([0, 2, 0], [2], (0, 0, 0)),
        ([2, 2], [-1, -1], (0, 0, 2)),
    ],
)
def test_errors_are_told_apart(words: list[int], reference: list[int], counts: tuple[int, int, int]) -> None:
    oracle = oracle_errors(line(*words), reference)
    assert (oracle.insertions, oracle.deletions, oracle.substitutions) == counts
    assert oracle.words == [word for word in words if word]


def test_a_lattice_without_states_has_the_empty_path_only() -> None:
    full = random_lattice(0)
    empty = Lattice(*(np.zeros(0, getattr(full, name).dtype) for name in full.__dataclass_fields__))
    assert oracle_errors(empty, [1, 2]).deletions == 2
    assert set(lattice_statistics(empty).values()) == {0}


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_statistics_count_what_is_there(seed: int) -> None:
    lattice = random_lattice(seed, frames=5)
    statistics = lattice_statistics(lattice)
    assert statistics["frames"] == 5 and statistics["states"] == lattice.num_states
    assert statistics["arcs_per_frame"] == lattice.num_arcs / 5
    crossing = [sum(1 for arc, source in enumerate(lattice.sources)
                    if lattice.frames[source] <= frame < lattice.frames[lattice.targets[arc]]) for frame in range(5)]
    assert statistics["depth"] == pytest.approx(np.mean(crossing))
    word_lattice = random_word_lattice(seed)
    final = np.isfinite(word_lattice.final_graph_costs)
    spans = [(word_lattice.frames[s], word_lattice.frames[t])
             for s, t in zip(word_lattice.sources, word_lattice.targets, strict=True)]
    spans += [(frame, 6) for frame in word_lattice.frames[final]]
    crossing = [sum(begin <= frame < end for begin, end in spans) for frame in range(6)]
    assert lattice_statistics(word_lattice)["depth"] == pytest.approx(np.mean(crossing))
