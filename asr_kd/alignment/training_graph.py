"""The HMM of one transcript as small arrays: alternative pronunciations, optional silence, context, states."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.alignment.training_graph_kernel import HmmArrays, LexiconArrays, StateArrays, TreeArrays, build_arrays
from asr_kd.core.errors import InputError
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree
from asr_kd.lexicon.lexicon import Lexicon


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


class TrainingGraphs(Mapping[str, TrainingGraph]):
    """Utterance -> its training graph, built anew each time that it is asked for: graphs take memory, words do not.

    Building one takes well under a millisecond and releases the interpreter lock.
    """

    def __init__(self, builder: "TrainingGraphBuilder", words: Mapping[str, Sequence[int]]) -> None:
        self._builder = builder
        self._words = {utterance: np.array(words[utterance], dtype=np.int32) for utterance in sorted(words)}

    def __getitem__(self, utterance: str) -> TrainingGraph:
        return self._builder.build(self._words[utterance])

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


class TrainingGraphBuilder:
    """Builds the graphs of transcripts for one lexicon, topology, tree and set of transition-ids.

    InputError where the lexicon has a phone that the topology has not, or the tree a pdf that no transition-id has.
    """

    def __init__(self, lexicon: Lexicon, topology: Topology, tree: DecisionTree, transitions: TransitionModel) -> None:
        if (tree.context_width, tree.central_position) not in ((1, 0), (3, 1)):
            raise ValueError("training graphs need a monophone or a triphone tree")
        if lexicon.phones.num_phones != topology.num_phones:
            raise InputError(f"the lexicon has {lexicon.phones.num_phones} phones, the model {topology.num_phones}; "
                             "the lexicon belongs to another model")
        self._lexicon = _lexicon_arrays(lexicon)
        self._hmms = _hmm_arrays(topology)
        self._tree = _tree_arrays(tree)
        self._states = _state_arrays(transitions)

    def build(self, words: Sequence[int] | np.ndarray) -> TrainingGraph:
        """The graph of a transcript of word ids. An empty transcript is silence."""
        words = np.asarray(words, dtype=np.int32)
        if len(words) and not 1 <= words.min() <= words.max() < len(self._lexicon.first_pronunciations) - 1:
            raise InputError(f"word ids {words.min()}..{words.max()} are not all in the lexicon (1.."
                             f"{len(self._lexicon.first_pronunciations) - 2})")
        arrays = build_arrays(words, self._lexicon, self._hmms, self._tree, self._states)
        if len(arrays[0]) == 0:
            raise InputError("the tree gives a pdf that has no transition-id; they belong to different models")
        return TrainingGraph(*arrays)


def _lexicon_arrays(lexicon: Lexicon) -> LexiconArrays:
    pronunciations = [p for of_word in lexicon.pronunciations_of for p in of_word]
    return LexiconArrays(
        _bounds([len(of_word) for of_word in lexicon.pronunciations_of]),
        _bounds([len(p.phones) for p in pronunciations]),
        np.array([phone for p in pronunciations for phone in p.phones], dtype=np.int32),
        np.log(np.array([p.probability for p in pronunciations], dtype=np.float64)),
        lexicon.phones.optional_silence,
        math.log(lexicon.silence_probability), math.log(1.0 - lexicon.silence_probability))


def _hmm_arrays(topology: Topology) -> HmmArrays:
    inner, leaving = [], []
    for states in topology.entries:
        arcs = [(i, n, to) for i, state in enumerate(states) for n, (to, _) in enumerate(state.arcs) if to != i]
        inner.append([arc for arc in arcs if arc[2] < len(states)])
        leaving.append([arc[:2] for arc in arcs if arc[2] == len(states)])
    return HmmArrays(
        np.array(topology.entry_of, dtype=np.int32),
        _bounds([len(states) for states in topology.entries]),
        np.array([state.pdf_class for states in topology.entries for state in states], dtype=np.int32),
        _bounds([len(arcs) for arcs in inner]),
        np.array([arc for arcs in inner for arc in arcs], dtype=np.int32).reshape(-1, 3),
        _bounds([len(arcs) for arcs in leaving]),
        np.array([arc for arcs in leaving for arc in arcs], dtype=np.int32).reshape(-1, 2))


def _tree_arrays(tree: DecisionTree) -> TreeArrays:
    num_values = 1 + max([tree.roots.shape[0], tree.roots.shape[1], *(max(s, default=0) for s in tree.question_sets)])
    members = np.zeros((max(1, len(tree.question_sets)), num_values), dtype=np.bool_)
    for row, question in zip(members, tree.question_sets, strict=False):
        row[list(question)] = True
    positions = tree.context_positions
    return TreeArrays(tree.roots, tree.keys, tree.questions, tree.yes, tree.no, tree.pdfs, members,
                       tree.central_position, np.array([0 in p for p in positions]),
                       np.array([2 in p for p in positions]))


def _state_arrays(transitions: TransitionModel) -> StateArrays:
    phones, states, pdfs = np.array(transitions.tuples, dtype=np.int64).T
    num_states, num_pdfs = int(states.max()) + 1, int(pdfs.max()) + 1
    return StateArrays((phones * num_states + states) * num_pdfs + pdfs, num_states, num_pdfs,
                        transitions.first_ids, transitions.self_loop_of[transitions.first_ids[:-1]])


def _bounds(sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
