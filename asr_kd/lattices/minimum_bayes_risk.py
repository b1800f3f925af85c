"""The words of least expected error in a lattice, with times and confidences: sausage statistics.

Xu, Povey, Mangu, Zhu, "Minimum Bayes Risk decoding and system combination based on a recursion for edit distance",
Computer Speech and Language 2011, figures 4 to 6 and appendix C, with the two corrections of Kaldi's lat/sausages.cc:
the small penalty of wordless arcs only where they cost anything, and the times of deletions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.lattices.word_lattice import WordLattice

_DELTA = 1e-5
_ITERATIONS = 100
# Ways whose expected distances differ by less are equally good: the order of a sum must not choose among them.
_TIE = 1e-9


@dataclass(frozen=True)
class MinimumBayesRisk:
    """Words with their confidences.

    words: word ids; times: begin and end of each in frames, not overlapping; confidences: each word's posterior in
    its place, 0 to 1; risk: expected word errors of the words; bins: for each place, between words too, the (word,
    posterior) pairs that compete there, the likeliest first and summing to one, word 0 for none.
    """

    words: list[int]
    times: list[tuple[float, float]]
    confidences: list[float]
    risk: float
    bins: list[list[tuple[int, float]]]


def minimum_bayes_risk(
    lattice: WordLattice,
    acoustic_scale: float,
    lm_scale: float = 1.0,
    insertion_penalty: float = 0.0,
    words: Sequence[int] | None = None,
    decode_mbr: bool = True,
) -> MinimumBayesRisk:
    """The words with the least expected edit distance to the lattice's paths (Kaldi's lattice-to-ctm-conf).

    Paths weigh exp(-(lm_scale · graph + acoustic_scale · acoustic + insertion_penalty · words)). The search begins
    at `words` (default: the best path) and improves them; without `decode_mbr` it leaves them and only gives times
    and confidences. Times are those of the lattice's arcs, exact where arcs are aligned with words. The lattice should
    be determinised: where a word sequence has many alignments, their sum weighs more than the words deserve. A
    lattice without states has no words.
    """
    if lattice.num_states == 0:
        return MinimumBayesRisk([], [], [], 0.0, [])
    arcs = _arcs(lattice, acoustic_scale, lm_scale, insertion_penalty)
    sources, targets, labels, scores, begins, ends = arcs
    states = lattice.num_states + 1
    if words is None:
        words = _best_words(sources, targets, labels, scores, states).tolist()
    vocabulary = np.unique(np.concatenate([[0], labels, np.asarray(words, np.int64)]))
    places = np.searchsorted(vocabulary, labels)
    weights = _weights(sources, targets, scores, states)
    current = _with_gaps(np.searchsorted(vocabulary, np.asarray(words, np.int64)))
    for iteration in range(_ITERATIONS + 1):
        gamma, tau_begin, tau_end, risk = _statistics(
            sources, targets, places, weights, begins, ends, current, states, len(vocabulary))
        # The present word stays where another is no likelier, so that the search ends.
        at = np.arange(len(current))
        best = np.where(gamma.max(1) > gamma[at, current], gamma.argmax(1), current)
        if not decode_mbr or iteration == _ITERATIONS or (best == current).all():
            break
        current = _with_gaps(best[best > 0])
    return _result(vocabulary, current, gamma, tau_begin, tau_end, risk, lattice.num_frames)


def _arcs(lattice: WordLattice, acoustic_scale: float, lm_scale: float, penalty: float) -> tuple[np.ndarray, ...]:
    """Sources, targets, words, scores, begin and end frames of the arcs, by target; ends lead to one more state."""
    finals = np.flatnonzero(np.isfinite(lattice.final_graph_costs))
    sources = np.concatenate([lattice.sources, finals])
    targets = np.concatenate([lattice.targets, np.full(len(finals), lattice.num_states)])
    words = np.concatenate([lattice.words, np.zeros(len(finals), np.int32)]).astype(np.int64)
    graph = np.concatenate([lattice.graph_costs, lattice.final_graph_costs[finals]]).astype(np.float64)
    acoustic = np.concatenate([lattice.acoustic_costs, lattice.final_acoustic_costs[finals]]).astype(np.float64)
    scores = -(lm_scale * graph + acoustic_scale * acoustic + penalty * (words > 0))
    frames = np.append(lattice.frames, lattice.num_frames).astype(np.float64)
    order = np.argsort(targets, kind="stable")
    return (sources[order].astype(np.int64), targets[order].astype(np.int64), words[order], scores[order],
            frames[sources][order], frames[targets][order])


def _with_gaps(words: np.ndarray) -> np.ndarray:
    """The words with a place for none before, between and after them."""
    gaps = np.zeros(2 * len(words) + 1, np.int64)
    gaps[1::2] = words
    return gaps


def _result(
    vocabulary: np.ndarray, current: np.ndarray, gamma: np.ndarray, tau_begin: np.ndarray, tau_end: np.ndarray,
    risk: float, frames: int,
) -> MinimumBayesRisk:
    words, times, confidences, bins = [], [], [], []
    for place, word in enumerate(current):
        here = gamma[place]
        order = np.lexsort((-vocabulary, -here))
        bins.append([(int(vocabulary[w]), float(here[w])) for w in order if here[w] > 0])
        if word == 0:
            continue
        timed = word if here[word] > 0 else order[0]
        words.append(int(vocabulary[word]))
        confidences.append(min(1.0, float(here[word])))
        # A mean of frames may round to just behind the last one.
        begin, end = np.minimum([tau_begin[place, timed], tau_end[place, timed]] / here[timed], frames)
        times.append((float(begin), float(end)))
        _separate(times)
    return MinimumBayesRisk(words, times, confidences, float(risk), bins)


def _separate(times: list[tuple[float, float]]) -> None:
    """Part the time of two overlapping last words by their durations, as Kaldi does."""
    if len(times) < 2 or times[-2][1] <= times[-1][0]:
        return
    (first_begin, first_end), (second_begin, second_end) = times[-2:]
    left = max(times[-3][1] if len(times) > 2 else 0.0, min(first_begin, second_begin))
    right = max(first_end, second_end)
    first, second = first_end - first_begin, second_end - second_begin
    middle = left + (right - left) * first / (first + second) if first > 0 else left
    times[-2:] = [(left, middle), (middle, right)]


@njit(nogil=True, cache=True)
def _best_words(sources, targets, words, scores, states):  # type: ignore[no-untyped-def]
    best = np.full(states, -np.inf)
    arrivals = np.full(states, -1)
    best[0] = 0.0
    for a in range(len(sources)):
        if best[sources[a]] + scores[a] > best[targets[a]]:
            best[targets[a]] = best[sources[a]] + scores[a]
            arrivals[targets[a]] = a
    path = []
    state = states - 1
    while state > 0:
        a = arrivals[state]
        if words[a] > 0:
            path.append(words[a])
        state = sources[a]
    return np.array(path[::-1], np.int64)


@njit(nogil=True, cache=True)
def _weights(sources, targets, scores, states):  # type: ignore[no-untyped-def]
    """Of each arc, its share in the likelihood of all ways to its target."""
    forward = np.full(states, -np.inf)
    forward[0] = 0.0
    for a in range(len(sources)):
        high = max(forward[targets[a]], forward[sources[a]] + scores[a])
        low = min(forward[targets[a]], forward[sources[a]] + scores[a])
        forward[targets[a]] = high + np.log1p(np.exp(low - high)) if high > -np.inf else high
    weights = np.zeros(len(sources))
    for a in range(len(sources)):
        weights[a] = np.exp(forward[sources[a]] + scores[a] - forward[targets[a]])
    return weights


@njit(nogil=True, cache=True)
def _distances(before, word, reference, distances, choices):  # type: ignore[no-untyped-def]
    """Distances behind an arc from those `before` it (figure 4, lines 13 to 18), and which of the three ways."""
    wordless = 0.0 if word == 0 else 1.0 + _DELTA
    distances[0] = before[0] + wordless
    for q in range(1, len(reference) + 1):
        r = reference[q - 1]
        here = before[q - 1] + (0.0 if word == r else 1.0)
        skipped = before[q] + wordless
        passed = distances[q - 1] + (0.0 if r == 0 else 1.0)
        if here <= skipped + _TIE and here <= passed + _TIE:
            distances[q], choices[q] = here, 1
        elif skipped <= passed + _TIE:
            distances[q], choices[q] = skipped, 2
        else:
            distances[q], choices[q] = passed, 3


@njit(nogil=True, cache=True)
def _statistics(  # type: ignore[no-untyped-def]
    sources, targets, words, weights, begins, ends, reference, states, vocabulary
):
    """Figure 5: posteriors of words in places, their summed begin and end frames, and the expected distance."""
    length = len(reference)
    distances = np.zeros((states, length + 1))
    behind = np.zeros(length + 1)
    choices = np.zeros(length + 1, np.int8)
    for q in range(1, length + 1):
        distances[0, q] = distances[0, q - 1] + (0.0 if reference[q - 1] == 0 else 1.0)
    for a in range(len(sources)):
        _distances(distances[sources[a]], words[a], reference, behind, choices)
        distances[targets[a]] += weights[a] * behind

    gamma = np.zeros((length, vocabulary))
    tau_begin, tau_end = np.zeros((length, vocabulary)), np.zeros((length, vocabulary))
    left = np.zeros((states, length + 1))
    left[states - 1, length] = 1.0
    share = np.zeros(length + 1)
    for a in range(len(sources) - 1, -1, -1):
        source, word = sources[a], words[a]
        _distances(distances[source], word, reference, behind, choices)
        share[:] = weights[a] * left[targets[a]]
        for q in range(length, 0, -1):
            if share[q] == 0.0:
                continue
            if choices[q] == 1:
                left[source, q - 1] += share[q]
                gamma[q - 1, word] += share[q]
                tau_begin[q - 1, word] += begins[a] * share[q]
                tau_end[q - 1, word] += ends[a] * share[q]
            elif choices[q] == 2:
                left[source, q] += share[q]
            else:
                share[q - 1] += share[q]
                gamma[q - 1, 0] += share[q]
                tau_begin[q - 1, 0] += ends[a] * share[q]
                tau_end[q - 1, 0] += ends[a] * share[q]
        left[source, 0] += share[0]
    rest = 0.0
    for q in range(length, 0, -1):
        rest += left[0, q]
        gamma[q - 1, 0] += rest
    return gamma, tau_begin, tau_end, distances[states - 1, length]
