"""A model as a machine of integer states, for search and lattices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from asr_kd.lm.model import BEGIN, END, NgramModel


@dataclass(frozen=True)
class LanguageModelStates:
    """States are the histories that some n-gram lengthens; state 0 is the empty one, whose arcs hold every word.

    start: the state after `<s>`. Arcs of state s are those from offsets[s] (int64) to offsets[s + 1], sorted by word:
    words int32, log_probs float64 (natural, backoffs of histories that are no state added), next_states int32.
    backoff_states int32, backoff_log_probs float64: where a state goes for a word that it has no arc with.
    labels: int32, the caller's word id -> id in `words` (-1: not in the model), end: the id of `</s>` in `words`.
    """

    start: int
    offsets: np.ndarray
    words: np.ndarray
    log_probs: np.ndarray
    next_states: np.ndarray
    backoff_states: np.ndarray
    backoff_log_probs: np.ndarray
    labels: np.ndarray
    end: int

    @staticmethod
    def build(model: NgramModel, words: Sequence[str] | None = None) -> "LanguageModelStates":
        """words: the caller's id -> word (0 = epsilon), as `build_grammar` takes it; None: the model's own.

        Words that the model lacks become its unknown word, if it has one.
        """
        return _build(model, words)

    @property
    def num_states(self) -> int:
        return len(self.backoff_states)

    def step(self, state: int, word: int) -> tuple[int, float]:
        """The next state and ln p(word | state) for a word id of the caller's; (0, -inf) for one not in the model."""
        next_state, log_prob = advance(self.offsets, self.words, self.log_probs, self.next_states,
                                       self.backoff_states, self.backoff_log_probs, state, int(self.labels[word]))
        return int(next_state), float(log_prob)

    def final_log_prob(self, state: int) -> float:
        """ln p(</s> | state)."""
        return float(advance(self.offsets, self.words, self.log_probs, self.next_states, self.backoff_states,
                             self.backoff_log_probs, state, self.end)[1])


@njit(nogil=True, cache=True)
def advance(
    offsets: np.ndarray, words: np.ndarray, log_probs: np.ndarray, next_states: np.ndarray,
    backoff_states: np.ndarray, backoff_log_probs: np.ndarray, state: int, word: int,
) -> tuple[int, float]:
    """One step over the arrays of `LanguageModelStates`, `word` a label: next state and log-probability."""
    total = 0.0
    while True:
        low, high = offsets[state], offsets[state + 1]
        while low < high:
            middle = (low + high) // 2
            if words[middle] < word:
                low = middle + 1
            else:
                high = middle
        if low < offsets[state + 1] and words[low] == word:
            return next_states[low], total + log_probs[low]
        if state == 0:
            return 0, -np.inf
        total += backoff_log_probs[state]
        state = backoff_states[state]


def _build(model: NgramModel, words: Sequence[str] | None) -> LanguageModelStates:
    begin, end = model.word_id[BEGIN], model.word_id[END]
    state_of, num_states = _number_states(model)
    backoff_states, backoff_log_probs = np.zeros(num_states, np.int32), np.zeros(num_states)
    start = 0
    parts: list[tuple[np.ndarray, ...]] = []
    for n, ngrams in enumerate(model.orders, 1):
        states, last = state_of[n - 1], ngrams.words[:, -1]
        shorter, cost = _enter_suffix(model, ngrams.words, state_of)
        is_state = states >= 0
        backoff_states[states[is_state]] = shorter[is_state]
        backoff_log_probs[states[is_state]] = (ngrams.backoffs + cost)[is_state]
        target = np.where(is_state, states, shorter)
        if n == 1:
            start = int(target[np.flatnonzero(last == begin)[0]])
        target[last == end] = 0  # nothing follows
        extra = np.where(is_state | (last == end), 0.0, cost + ngrams.backoffs)
        histories = model.index.levels[n - 1].histories
        source = state_of[n - 2][histories] if n > 1 else histories
        predicted = last != begin
        parts.append((source[predicted], last[predicted], (ngrams.log_probs + extra)[predicted], target[predicted]))

    source, label, log_prob, target = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((label, source))
    offsets = np.concatenate(([0], np.cumsum(np.bincount(source, minlength=num_states))))
    labels = np.arange(len(model.words), dtype=np.int32)
    if words is not None:
        labels = model.map_words(words)
        labels[0] = -1
    return LanguageModelStates(start, offsets, label[order], log_prob[order], target[order].astype(np.int32),
                               backoff_states, backoff_log_probs, labels, end)


def _number_states(model: NgramModel) -> tuple[list[np.ndarray], int]:
    """For each order the state of each n-gram, -1 where nothing lengthens it; the number of states."""
    numbered, count = [], 1
    for n, ngrams in enumerate(model.orders, 1):
        states = np.full(len(ngrams), -1, np.int64)
        if n < model.order:
            histories = np.unique(model.index.levels[n].histories)
            states[histories] = count + np.arange(len(histories))
            count += len(histories)
        numbered.append(states)
    return numbered, count


def _enter_suffix(
    model: NgramModel, table: np.ndarray, state_of: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The state of the longest proper suffix of each n-gram that is one, and the backoffs of those passed over."""
    found, cost, missing = np.zeros(len(table), np.int64), np.zeros(len(table)), np.ones(len(table), bool)
    suffixes = model.index.find_suffixes(table)[: table.shape[1] - 1]
    for n in range(len(suffixes), 0, -1):
        rows = suffixes[n - 1]
        states = np.where(rows >= 0, state_of[n - 1][rows], -1)
        hit = missing & (states >= 0)
        found[hit] = states[hit]
        missing &= ~hit
        passed = missing & (rows >= 0)
        cost[passed] += model.orders[n - 1].backoffs[rows[passed]]
    return found, cost
