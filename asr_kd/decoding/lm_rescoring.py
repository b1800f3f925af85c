"""Word lattices with the costs of another language model, without searching again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.errors import InputError
from asr_kd.core.files import copy_file, write_json
from asr_kd.core.parallel import map_threads
from asr_kd.decoding.graph import LEXICON
from asr_kd.decoding.split import WORDS, open_decoded
from asr_kd.graph.grammar_fst import build_grammar
from asr_kd.lattices.store import LatticeStoreWriter
from asr_kd.lattices.word_lattice import WordLattice
from asr_kd.lm.model import NgramModel

# Costs of histories that differ by less are the same: the grammar has them in single precision.
_DECIMALS = 5


@dataclass(frozen=True)
class Histories:
    """States of a grammar after the same words, each with its cost above the least; a state of `GrammarScores`."""

    states: tuple[tuple[int, float], ...]
    steps: "dict[int, tuple[Histories | None, float]]" = field(default_factory=dict, compare=False)


class GrammarScores:
    """Costs of word sequences in the grammar G of a language model, as a decoding graph with it has them.

    A path of G may back off where a longer n-gram is known, and where that is cheaper the search takes it. So the
    cost of words is the least over all ways to back off, and a state is the set of histories that may be the best.
    """

    def __init__(self, model: NgramModel, words: list[str]) -> None:
        """`words`: id -> word of the graph (0 = epsilon), the lexicon's; a last `#0` does not matter."""
        words = words[:-1] if words[-1] == "#0" else words
        fst = build_grammar(model, words).fst
        backoff = len(words)
        self.path = model.path
        self.words = words
        self._offsets = fst.offsets
        order = np.lexsort((fst.arcs["ilabel"], fst.sources))
        self._labels = fst.arcs["ilabel"][order].astype(np.int64)
        self._costs = fst.arcs["weight"][order].astype(np.float64)
        self._targets = fst.arcs["nextstate"][order].astype(np.int64)
        self._finals = fst.finals.astype(np.float64)
        self._backoff = backoff
        self._known: dict[tuple[tuple[int, int], ...], Histories] = {}
        self.start = self._closed({int(fst.start): 0.0})[0]

    def step(self, state: Histories, word: int) -> tuple[Histories | None, float]:
        """The state behind a word and the word's cost; (None, infinity) where the model lacks the word."""
        if word not in state.steps:
            reached: dict[int, float] = {}
            for history, cost in state.states:
                arc = self._arc(history, word)
                if arc >= 0:
                    target = int(self._targets[arc])
                    reached[target] = min(reached.get(target, np.inf), cost + float(self._costs[arc]))
            state.steps[word] = self._closed(reached) if reached else (None, np.inf)
        return state.steps[word]

    def final_cost(self, state: Histories) -> float:
        """The cost of the sentence's end."""
        return min(cost + float(self._finals[history]) for history, cost in state.states)

    def _arc(self, state: int, label: int) -> int:
        begin, end = int(self._offsets[state]), int(self._offsets[state + 1])
        arc = begin + int(np.searchsorted(self._labels[begin:end], label))
        return arc if arc < end and self._labels[arc] == label else -1

    def _closed(self, reached: dict[int, float]) -> tuple[Histories, float]:
        """The state of these histories and all that they back off to, and the least cost."""
        found = dict(reached)
        for history, cost in reached.items():
            while (arc := self._arc(history, self._backoff)) >= 0:
                history, cost = int(self._targets[arc]), cost + float(self._costs[arc])
                if cost >= found.get(history, np.inf):
                    break
                found[history] = cost
        least = min(found.values())
        states = tuple((history, found[history] - least) for history in sorted(found))
        key = tuple((history, round(cost * 10**_DECIMALS)) for history, cost in states)
        return self._known.setdefault(key, Histories(states)), least


def rescore_lm(lattice: WordLattice, old: GrammarScores, new: GrammarScores) -> WordLattice:
    """The lattice with `new`'s costs in the place of `old`'s, the model of the graph that it was decoded with.

    Only G's part of the graph costs changes; those of transitions and pronunciations, the acoustic costs and the
    transition-ids stay. States are split where the models tell histories apart. Paths with words that `new` lacks
    disappear; the lattice is without states where all do. InputError: `old` lacks words of the lattice.
    """
    if lattice.num_states == 0:
        return lattice
    pairs: list[dict[tuple[Histories, Histories], int]] = [{} for _ in range(lattice.num_states)]
    pairs[0][old.start, new.start] = 0
    # The states of each lattice state are complete when its turn comes, for arcs lead to higher states.
    keys: list[list[tuple[Histories, Histories]]] = [[] for _ in range(lattice.num_states)]
    keys[0].append((old.start, new.start))
    arcs: list[tuple[int, int, int, int, int, float]] = []
    finals: list[tuple[int, int, float]] = []
    for state in range(lattice.num_states):
        for rank, (before, after) in enumerate(keys[state]):
            if np.isfinite(lattice.final_graph_costs[state]):
                change = new.final_cost(after) - old.final_cost(before)
                finals.append((state, rank, float(lattice.final_graph_costs[state]) + change))
            for arc in range(lattice.offsets[state], lattice.offsets[state + 1]):
                word, target = int(lattice.words[arc]), int(lattice.targets[arc])
                change = 0.0
                next_before: Histories | None = before
                next_after: Histories | None = after
                if word:
                    next_before, old_cost = old.step(before, word)
                    next_after, new_cost = new.step(after, word)
                    if next_before is None:
                        raise InputError(f"{old.path}: the word {_name(old, word)} of the lattice is not in this "
                                         "language model; the lattice was decoded with another one")
                    change = new_cost - old_cost
                if next_before is None or next_after is None:
                    continue
                number = pairs[target].setdefault((next_before, next_after), len(keys[target]))
                if number == len(keys[target]):
                    keys[target].append((next_before, next_after))
                arcs.append((state, rank, target, number, arc, float(lattice.graph_costs[arc]) + change))
    return _built(lattice, [len(found) for found in keys], arcs, finals)


def rescore_lm_split(
    folder: Path, old: NgramModel, new: NgramModel, output: Path, workers: int | None = None
) -> dict[str, Any]:
    """Write the lattices of a decoded folder with `new`'s costs for those of `old`, the model of its graph.

    `output` can then be rescored with any LM weight and insertion penalty as `folder` can. Returns utterances, arcs
    before and after, and the ids of utterances of which `new` leaves nothing (they keep a lattice without states).
    InputError: another `old` than the graph's, missing or damaged files, lattices of states.
    """
    store, words = open_decoded(folder)
    decoded_with = store.description.get("lm")
    if decoded_with and decoded_with != old.digest:
        raise InputError(f"{folder}: decoded with the language model {decoded_with}, but {old.path} is {old.digest}")
    before, after = GrammarScores(old, words), GrammarScores(new, words)
    emptied: list[str] = []
    arcs = [0, 0]

    def work(utterance_id: str) -> tuple[WordLattice, WordLattice]:
        lattice = store.word_lattice(utterance_id)
        return lattice, rescore_lm(lattice, before, after)

    with LatticeStoreWriter(output, {**store.description, "lm": new.digest}) as writer:
        for utterance_id, (lattice, rescored) in zip(
                store.ids, map_threads(work, store.ids, workers, description="rescoring"), strict=True):
            writer.add(utterance_id, rescored)
            arcs = [arcs[0] + lattice.num_arcs, arcs[1] + rescored.num_arcs]
            if lattice.num_states and not rescored.num_states:
                emptied.append(utterance_id)
    write_json(Path(output) / WORDS, words)
    if (Path(folder) / LEXICON).is_file():
        copy_file(Path(folder) / LEXICON, Path(output) / LEXICON)
    return {"utterances": len(store), "arcs_before": arcs[0], "arcs_after": arcs[1], "emptied": emptied}


def _name(scores: GrammarScores, word: int) -> str:
    return repr(scores.words[word]) if word < len(scores.words) else str(word)


def _built(
    lattice: WordLattice, copies: list[int], arcs: list[tuple[int, int, int, int, int, float]],
    finals: list[tuple[int, int, float]],
) -> WordLattice:
    """Arrays from (state, copy, target, copy, arc, graph cost) and (final state, copy, graph cost), no dead ends."""
    firsts = np.concatenate([[0], np.cumsum(copies)])
    original = np.repeat(np.arange(lattice.num_states), copies)
    table = np.array([row[:5] for row in arcs], np.int64).reshape(-1, 5)
    sources, targets = firsts[table[:, 0]] + table[:, 1], firsts[table[:, 2]] + table[:, 3]
    graph_costs = np.array([row[5] for row in arcs], np.float32)
    final_graph = np.full(len(original), np.inf, np.float32)
    for state, copy, cost in finals:
        final_graph[firsts[state] + copy] = cost
    alive = np.isfinite(final_graph)
    for source, target in zip(sources[::-1].tolist(), targets[::-1].tolist(), strict=True):
        alive[source] |= alive[target]
    kept = alive[sources] & alive[targets]
    number = np.cumsum(alive) - 1
    of_states, of_arcs = original[alive], table[kept, 4]
    counts = np.bincount(number[sources[kept]], minlength=len(of_states))
    return WordLattice(
        lattice.frames[of_states], np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        number[targets[kept]].astype(np.int32), lattice.words[of_arcs], graph_costs[kept],
        lattice.acoustic_costs[of_arcs], lattice.begins[of_arcs], lattice.ends[of_arcs], final_graph[alive],
        np.where(np.isfinite(final_graph[alive]), lattice.final_acoustic_costs[of_states], 0).astype(np.float32),
        lattice.final_begins[of_states], lattice.final_ends[of_states], lattice.transition_ids)
