"""The HMM of one transcript as small arrays: alternative pronunciations, optional silence, context, states."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree
from asr_kd.lexicon.lexicon import Lexicon

_ANY = -1


@dataclass(frozen=True)
class TrainingGraph:
    """All state sequences of a transcript.

    Graph states are HMM states of phones in context. `pdfs` are the global pdfs that occur, `state_pdf` (states,) is
    an index into them, `loop_ids` (states,) the states' self-loop transition-ids. An arc to state j from `sources[a]`
    with transition-id `transition_ids[a]` (that of the state which it leaves) has index a in
    `begins[j] : begins[j + 1]`; `weights[a]` is its log-probability from the lexicon. `starts` and `start_weights`
    are the first states, `ends`, `end_ids` and `end_weights` the arcs that leave the graph.
    """

    pdfs: np.ndarray
    state_pdf: np.ndarray
    loop_ids: np.ndarray
    begins: np.ndarray
    sources: np.ndarray
    transition_ids: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    start_weights: np.ndarray
    ends: np.ndarray
    end_ids: np.ndarray
    end_weights: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.state_pdf)


class TrainingGraphBuilder:
    """Builds the graphs of transcripts for one lexicon, topology, tree and set of transition-ids."""

    def __init__(self, lexicon: Lexicon, topology: Topology, tree: DecisionTree, transitions: TransitionModel) -> None:
        if (tree.context_width, tree.central_position) not in ((1, 0), (3, 1)):
            raise ValueError("training graphs need a monophone or a triphone tree")
        self._lexicon = lexicon
        self._topology = topology
        self._tree = tree
        self._transitions = transitions
        self._central = tree.central_position
        self._state_cache: dict[tuple[int, int, int], tuple[list[int], list[int]]] = {}
        self._arc_cache: dict[int, tuple[list[tuple[int, int, int]], list[tuple[int, int]]]] = {}
        self._index = {key: i for i, key in enumerate(transitions.tuples)}

    def build(self, words: Sequence[int]) -> TrainingGraph:
        """The graph of a transcript of word ids. An empty transcript is silence."""
        phones, edges, starts, finals = self._phone_network(words)
        nodes, node_edges, node_starts, node_finals = self._in_context(phones, edges, starts, finals)
        return self._expand(nodes, node_edges, node_starts, node_finals)

    def _phone_network(self, words: Sequence[int]) -> tuple[
            list[int], list[tuple[int, int, float]], list[tuple[int, float]], list[tuple[int, float]]]:
        """Phone occurrences, edges (from, to, log-probability), first ones and last ones."""
        lexicon = self._lexicon
        log_silence = math.log(lexicon.silence_probability)
        log_no_silence = math.log(1.0 - lexicon.silence_probability)
        silence = lexicon.phones.optional_silence
        phones = [silence]
        edges: list[tuple[int, int, float]] = []
        starts = [(0, log_silence)]
        word_ends: list[int] = []
        silence_node = 0
        for i, word in enumerate(words):
            ends = []
            for pronunciation in lexicon.pronunciations_of[word]:
                first = len(phones)
                log_prob = math.log(pronunciation.probability)
                phones.extend(pronunciation.phones)
                edges.extend((n, n + 1, 0.0) for n in range(first, len(phones) - 1))
                ends.append(len(phones) - 1)
                edges.append((silence_node, first, log_prob))
                edges.extend((end, first, log_no_silence + log_prob) for end in word_ends)
                if i == 0:
                    starts.append((first, log_no_silence + log_prob))
            word_ends = ends
            silence_node = len(phones)
            phones.append(silence)
            edges.extend((end, silence_node, log_silence) for end in word_ends)
        finals = [(silence_node, 0.0), *((end, log_no_silence) for end in word_ends)]
        return phones, edges, starts, finals

    def _in_context(self, phones: list[int], edges: list[tuple[int, int, float]], starts: list[tuple[int, float]],
                    finals: list[tuple[int, float]]) -> tuple[
            list[tuple[int, int, int]], list[tuple[int, int, float]], list[tuple[int, float]],
            list[tuple[int, float]]]:
        """One node (left, phone, right) for each occurrence and each context that its pdfs depend on."""
        lefts: list[set[int]] = [set() for _ in phones]
        rights: list[set[int]] = [set() for _ in phones]
        for source, target, _ in edges:
            rights[source].add(phones[target])
            lefts[target].add(phones[source])
        for n, _ in starts:
            lefts[n].add(0)
        for n, _ in finals:
            rights[n].add(0)
        nodes: list[tuple[int, int, int]] = []
        by_left: list[dict[int, list[int]]] = []
        by_right: list[dict[int, list[int]]] = []
        depends_on = self._tree.context_positions
        for n, phone in enumerate(phones):
            depends = depends_on[phone] if self._central else ()
            of_left: dict[int, list[int]] = {}
            of_right: dict[int, list[int]] = {}
            for left in sorted(lefts[n]) if 0 in depends else (_ANY,):
                for right in sorted(rights[n]) if 2 in depends else (_ANY,):
                    of_left.setdefault(left, []).append(len(nodes))
                    of_right.setdefault(right, []).append(len(nodes))
                    nodes.append((left, phone, right))
            by_left.append(of_left)
            by_right.append(of_right)
        node_edges: list[tuple[int, int, float]] = []
        for source, target, weight in edges:
            from_nodes = by_right[source].get(_ANY) or by_right[source][phones[target]]
            to_nodes = by_left[target].get(_ANY) or by_left[target][phones[source]]
            node_edges.extend((a, b, weight) for a in from_nodes for b in to_nodes)
        node_starts = [(a, w) for n, w in starts for a in by_left[n].get(_ANY) or by_left[n][0]]
        node_finals = [(a, w) for n, w in finals for a in by_right[n].get(_ANY) or by_right[n][0]]
        return nodes, node_edges, node_starts, node_finals

    def _expand(self, nodes: list[tuple[int, int, int]], edges: list[tuple[int, int, float]],
                starts: list[tuple[int, float]], finals: list[tuple[int, float]]) -> TrainingGraph:
        first_state = []
        pdfs: list[int] = []
        transition_states: list[int] = []
        arcs: list[tuple[int, int, int, float]] = []
        exits: list[list[tuple[int, int]]] = []
        first_ids = self._first_ids
        for node in nodes:
            base = len(pdfs)
            first_state.append(base)
            node_pdfs, node_states = self._states_of(node)
            pdfs.extend(node_pdfs)
            transition_states.extend(node_states)
            inner, leaving = self._arcs_of(node[1])
            arcs.extend((base + to, base + state, first_ids[node_states[state]] + arc, 0.0)
                        for state, arc, to in inner)
            exits.append([(base + state, first_ids[node_states[state]] + arc) for state, arc in leaving])
        arcs.extend((first_state[b], state, tid, weight) for a, b, weight in edges for state, tid in exits[a])
        arcs.sort()
        columns = np.array(arcs).reshape(-1, 4).T
        used, state_pdf = np.unique(np.array(pdfs), return_inverse=True)
        loops = self._loops[np.array(transition_states)]
        ends = [(state, tid, weight) for a, weight in finals for state, tid in exits[a]]
        end_columns = np.array(ends).T
        start_columns = np.array([(first_state[a], weight) for a, weight in starts]).T
        return TrainingGraph(
            used.astype(np.int32), state_pdf.astype(np.int32), loops,
            np.searchsorted(columns[0], np.arange(len(pdfs) + 1)).astype(np.int32),
            columns[1].astype(np.int32), columns[2].astype(np.int32), columns[3].astype(np.float32),
            start_columns[0].astype(np.int32), start_columns[1].astype(np.float32),
            end_columns[0].astype(np.int32), end_columns[1].astype(np.int32), end_columns[2].astype(np.float32))

    def _states_of(self, node: tuple[int, int, int]) -> tuple[list[int], list[int]]:
        """pdfs and transition states of a phone's HMM states in context."""
        if node not in self._state_cache:
            left, phone, right = node
            window = (max(left, 0), phone, max(right, 0)) if self._central else (phone,)
            pdfs = [self._tree.pdf_id(window, s.pdf_class) for s in self._topology.states(phone)]
            self._state_cache[node] = pdfs, [self._index[phone, i, pdf] for i, pdf in enumerate(pdfs)]
        return self._state_cache[node]

    def _arcs_of(self, phone: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
        """Arcs within the HMM but for self-loops (state, arc index, to), and those that leave it (state, arc)."""
        entry = self._topology.entry_of[phone]
        if entry not in self._arc_cache:
            states = self._topology.states(phone)
            arcs = [(i, n, to) for i, state in enumerate(states) for n, (to, _) in enumerate(state.arcs) if to != i]
            self._arc_cache[entry] = ([a for a in arcs if a[2] < len(states)],
                                      [(i, n) for i, n, to in arcs if to == len(states)])
        return self._arc_cache[entry]

    @property
    def _first_ids(self) -> list[int]:
        if not hasattr(self, "_first_id_list"):
            self._first_id_list: list[int] = self._transitions.first_ids.tolist()
        return self._first_id_list

    @property
    def _loops(self) -> np.ndarray:
        if not hasattr(self, "_loop_ids"):
            self._loop_ids = self._transitions.self_loop_of[self._transitions.first_ids[:-1]]
        return self._loop_ids
