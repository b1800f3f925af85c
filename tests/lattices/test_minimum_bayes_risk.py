"""Sausage statistics: against all paths where these are exact, against a plain version everywhere."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.minimum_bayes_risk import minimum_bayes_risk
from asr_kd.lattices.word_lattice import WordLattice
from tests.lattices.random_word_lattice import labelled_paths, random_word_lattice

DELTA = 1e-5


def slots(*choices: dict[int, float], frames: int = 10) -> WordLattice:
    """A row of states, between each two of them one arc a word (0: none) with its probability."""
    words = np.array([word for choice in choices for word in choice], np.int32)
    costs = -np.log([p for choice in choices for p in choice.values()]).astype(np.float32)
    counts = [len(choice) for choice in choices]
    states = len(choices) + 1
    none = np.zeros(states, np.int32)
    source = np.repeat(np.arange(states - 1, dtype=np.int32), counts)
    return WordLattice(
        np.arange(states, dtype=np.int32) * frames, np.concatenate([[0], np.cumsum(counts), [sum(counts)]]).astype(
            np.int32)[: states + 1], source + 1, words, costs, np.zeros_like(costs), source * frames,
        (source + 1) * frames, np.where(np.arange(states) == states - 1, 0, np.inf).astype(np.float32),
        np.zeros(states, np.float32), none, none, np.ones((states - 1) * frames, np.int32))


def posteriors_of(lattice: WordLattice, scale: float) -> dict[tuple[int, ...], float]:
    """Posterior of each word sequence."""
    paths = labelled_paths(lattice)
    scores = np.array([-(graph + scale * acoustic) for _, graph, acoustic in paths])
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for (labels, *_), p in zip(paths, np.exp(scores - np.logaddexp.reduce(scores)), strict=True):
        found[labels[0]] += float(p)
    return found


def test_one_path_is_certain_and_has_its_times() -> None:
    lattice = slots({3: 1.0}, {0: 1.0}, {2: 1.0}, {3: 1.0})
    assert lattice.fault() is None
    result = minimum_bayes_risk(lattice, 0.1)
    assert result.words == [3, 2, 3]
    assert result.confidences == pytest.approx([1.0, 1.0, 1.0])
    assert result.times == [(0.0, 10.0), (20.0, 30.0), (30.0, 40.0)]
    assert result.risk == pytest.approx(0.0, abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=3), min_size=1, max_size=5))
def test_in_a_row_of_slots_confidences_and_risk_are_exact(weights: list[list[int]]) -> None:
    # Words differ between slots, so that there is one way to align two paths.
    choices = [{10 * i + j + 1: weight / sum(slot) for j, weight in enumerate(slot)}
               for i, slot in enumerate(weights)]
    lattice = slots(*choices)
    result = minimum_bayes_risk(lattice, 0.1)
    assert len(result.words) == len(choices)
    for i, (word, choice) in enumerate(zip(result.words, choices, strict=True)):
        assert choice[word] == max(choice.values())
        assert result.confidences[i] == pytest.approx(choice[word], abs=1e-5)
        assert result.times[i] == pytest.approx((10 * i, 10 * i + 10), abs=1e-9)
        assert dict(result.bins[2 * i + 1]) == pytest.approx(choice, abs=1e-5)
    assert result.risk == pytest.approx(sum(1 - max(choice.values()) for choice in choices), abs=1e-3)


def test_deletions_and_insertions_are_places_too() -> None:
    lattice = slots({1: 1.0}, {2: 0.7, 0: 0.3}, {3: 1.0})
    result = minimum_bayes_risk(lattice, 0.1)
    assert result.words == [1, 2, 3]
    assert result.confidences == pytest.approx([1.0, 0.7, 1.0], abs=1e-4)
    assert dict(result.bins[3]) == pytest.approx({2: 0.7, 0: 0.3}, abs=1e-4)
    rare = minimum_bayes_risk(slots({1: 1.0}, {2: 0.3, 0: 0.7}, {3: 1.0}), 0.1)
    assert rare.words == [1, 3]
    # An insertion penalty takes from words: 0.7 e^-1 : 0.3.
    fewer = minimum_bayes_risk(lattice, 0.1, insertion_penalty=1.0)
    share = 0.7 * np.exp(-1) / (0.7 * np.exp(-1) + 0.3)
    assert fewer.words == [1, 3]
    assert dict(fewer.bins[2])[2] == pytest.approx(share, abs=1e-4)


def branches(*paths: tuple[list[int], float]) -> WordLattice:
    """Each path on its own from start to end."""
    length = max(len(words) for words, _ in paths)
    rows, frames, number = [], [0], 1
    last = 1 + sum(length - 1 for _ in paths)
    for words, p in paths:
        padded = [*words, *[0] * (length - len(words))]
        state = 0
        for i, word in enumerate(padded):
            target = last if i == length - 1 else number
            rows.append((state, target, word, -np.log(p) if i == 0 else 0.0, i))
            if i < length - 1:
                frames.append(i + 1)
                state, number = number, number + 1
    order = np.argsort(np.array([*frames, length]), kind="stable")
    rank = np.argsort(order)
    rows.sort(key=lambda row: rank[row[0]])
    sources = rank[[row[0] for row in rows]]
    states, places = last + 1, np.array([row[4] for row in rows], np.int32)
    none = np.zeros(states, np.int32)
    return WordLattice(
        np.sort(np.array([*frames, length])).astype(np.int32),
        np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=states))]).astype(np.int32),
        rank[[row[1] for row in rows]].astype(np.int32), np.array([row[2] for row in rows], np.int32),
        np.array([row[3] for row in rows], np.float32), np.zeros(len(rows), np.float32), places, places + 1,
        np.where(np.arange(states) == states - 1, 0, np.inf).astype(np.float32), np.zeros(states, np.float32), none,
        none, np.ones(length, np.int32))


def test_the_words_of_least_risk_need_not_be_the_likeliest_sentence() -> None:
    lattice = branches(([1, 2], 0.4), ([3, 4], 0.3), ([3, 5], 0.3))
    assert lattice.fault() is None
    best = minimum_bayes_risk(lattice, 0.1, decode_mbr=False)
    assert best.words == [1, 2]
    assert best.confidences == pytest.approx([0.4, 0.4], abs=1e-4)
    least = minimum_bayes_risk(lattice, 0.1)
    assert least.words == [3, 2]
    assert least.confidences == pytest.approx([0.6, 0.4], abs=1e-4)
    assert (best.risk, least.risk) == (pytest.approx(1.2, abs=1e-3), pytest.approx(1.0, abs=1e-3))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.booleans())
def test_risk_bounds_the_expected_errors_and_falls(seed: int, decode: bool) -> None:
    lattice = random_word_lattice(seed)
    result = minimum_bayes_risk(lattice, 0.1, decode_mbr=decode)
    exact = sum(p * Levenshtein.distance(words, result.words) for words, p in posteriors_of(lattice, 0.1).items())
    assert result.risk >= exact - 1e-6
    assert result.risk <= minimum_bayes_risk(lattice, 0.1, decode_mbr=False).risk + 1e-3
    for place in result.bins:
        assert sum(p for _, p in place) == pytest.approx(1.0, abs=1e-9)
    assert all(a[1] <= b[0] + 1e-9 for a, b in zip(result.times, result.times[1:], strict=False))
    assert all(0 <= begin <= end <= lattice.num_frames for begin, end in result.times)


def plain_statistics(lattice: WordLattice, reference: list[int], scale: float) -> tuple[list[dict[int, float]], float]:
    """Figure 5 of the paper with Kaldi's correction, word by word: bins of the places, expected errors."""
    last = lattice.num_states
    entering: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for arc, source in enumerate(lattice.sources.tolist()):
        score = -(float(lattice.graph_costs[arc]) + scale * float(lattice.acoustic_costs[arc]))
        entering[int(lattice.targets[arc])].append((source, int(lattice.words[arc]), score))
    for state in np.flatnonzero(np.isfinite(lattice.final_graph_costs)).tolist():
        score = -(float(lattice.final_graph_costs[state]) + scale * float(lattice.final_acoustic_costs[state]))
        entering[last].append((state, 0, score))
    q_end = len(reference)
    forward = {0: 0.0}
    distance: dict[tuple[int, int], float] = defaultdict(float)
    for q in range(q_end):
        distance[0, q + 1] = distance[0, q] + (reference[q] != 0)

    def on_arc(source: int, word: int) -> tuple[list[float], list[str]]:
        skip = 0.0 if word == 0 else 1 + DELTA
        found, ways = [distance[source, 0] + skip], [""]
        for q, r in enumerate(reference, 1):
            options = {"here": distance[source, q - 1] + (word != r), "skipped": distance[source, q] + skip,
                       "passed": found[-1] + (r != 0)}
            least = min(options.values())
            ways.append(next(name for name, value in options.items() if value <= least + 1e-9))
            found.append(options[ways[-1]])
        return found, ways

    share: dict[tuple[int, int], float] = {}
    for state in range(1, last + 1):
        forward[state] = float(np.logaddexp.reduce([forward[s] + score for s, _, score in entering[state]]))
        for i, (source, word, score) in enumerate(entering[state]):
            share[state, i] = float(np.exp(forward[source] + score - forward[state]))
            for q, value in enumerate(on_arc(source, word)[0]):
                distance[state, q] += share[state, i] * value
    left: dict[tuple[int, int], float] = defaultdict(float)
    left[last, q_end] = 1.0
    bins: list[dict[int, float]] = [defaultdict(float) for _ in reference]
    for state in range(last, 0, -1):
        for i, (source, word, _) in enumerate(entering[state]):
            ways = on_arc(source, word)[1]
            passed = 0.0
            for q in range(q_end, -1, -1):
                mass = passed + share[state, i] * left[state, q]
                passed = 0.0
                if q == 0:
                    left[source, 0] += mass
                elif ways[q] == "here":
                    left[source, q - 1] += mass
                    bins[q - 1][word] += mass
                elif ways[q] == "skipped":
                    left[source, q] += mass
                else:
                    passed = mass
                    bins[q - 1][0] += mass
    passed = 0.0
    for q in range(q_end, 0, -1):
        passed += left[0, q]
        bins[q - 1][0] += passed
    return bins, distance[last, q_end]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
@example(833)  # Two ways are equally good but for rounding.
def test_statistics_are_those_of_the_plain_version(seed: int) -> None:
    lattice = random_word_lattice(seed, states=6)
    result = minimum_bayes_risk(lattice, 0.1)
    reference = [0]
    for word in result.words:
        reference += [word, 0]
    bins, risk = plain_statistics(lattice, reference, 0.1)
    assert result.risk == pytest.approx(risk, abs=1e-9)
    assert len(result.bins) == len(bins)
    for place, expected in zip(result.bins, bins, strict=True):
        assert dict(place) == pytest.approx({word: p for word, p in expected.items() if p > 0}, abs=1e-9)


def test_words_from_elsewhere_keep_their_places() -> None:
    lattice = slots({1: 0.6, 2: 0.4}, {3: 1.0})
    result = minimum_bayes_risk(lattice, 0.1, words=[2, 99], decode_mbr=False)
    assert result.words == [2, 99]
    assert result.confidences == pytest.approx([0.4, 0.0], abs=1e-4)
    assert result.times[1] == pytest.approx((10, 20), abs=1e-6)
    assert minimum_bayes_risk(lattice, 0.1, words=[2, 99]).words == [1, 3]


def test_a_lattice_without_states_has_no_words() -> None:
    from asr_kd.lattices.chains import join_chains

    empty = Lattice(*(np.zeros(n, t) for n, t in
                      [(0, np.int32), (1, np.int32), (0, np.float32), (0, np.int32), (0, np.int32), (0, np.int32),
                       (0, np.float32), (0, np.float32)]))
    result = minimum_bayes_risk(join_chains(empty), 0.1)
    assert result.words == [] and result.bins == [] and result.risk == 0
