"""H: from transition-ids to phones in context, and the self-loops added to HCLG at the end."""

from collections.abc import Sequence

import kaldifst
import numpy as np

from asr_kd.graph.fst import Fst, make_arcs
from asr_kd.hmm.topology import Topology
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.hmm.tree import DecisionTree


def build_transition_fst(
    windows: Sequence[Sequence[int]],
    topology: Topology,
    tree: DecisionTree,
    transitions: TransitionModel,
    transition_scale: float = 1.0,
) -> Fst:
    """Ha: input labels are transition-ids (no self-loops), output labels indices into `windows`.

    `windows[k]` is a phone in context, `[-n]` a disambiguation symbol (its input label is above the transition-ids),
    `[0]` one for the beginning of an utterance, `[]` nothing. Costs are the transition probabilities given that the
    state is left, times `transition_scale`. As Kaldi's `make-h-transducer`; windows with the same pdfs share states.
    """
    costs = -transition_scale * _log_probs_of_leaving(transitions)
    rows: list[tuple[int, int, int, float, int]] = []
    entries: dict[tuple[int, tuple[int, ...]], list[tuple[int, float, int]]] = {}
    states = 1
    for index, window in enumerate(windows):
        if not window:
            continue
        if len(window) == 1 and window[0] <= 0:
            rows.append((0, transitions.num_transition_ids + 1 - window[0], index, 0.0, 0))
            continue
        phone = window[tree.central_position]
        hmm = topology.states(phone)
        pdfs = tuple([tree.pdf_id(window, state.pdf_class) for state in hmm])
        if (phone, pdfs) not in entries:
            # State 0 of the HMM and its final state are both Ha's state 0; a way back into state 0 needs a copy.
            again = any(to == 0 for number, state in enumerate(hmm) if number for to, _ in state.arcs)
            number_of = {0: states + len(hmm) - 1, len(hmm): 0, **{i: states + i - 1 for i in range(1, len(hmm))}}
            states += len(hmm) - 1 + again
            arcs_of = []
            for number, state in enumerate(hmm):
                arcs = [(transitions.transition_id(phone, number, pdfs[number], i), number_of[to])
                        for i, (to, _) in enumerate(state.arcs) if to != number]
                arcs_of.append([(tid, float(costs[tid]), to) for tid, to in arcs])
            entries[phone, pdfs] = arcs_of[0]
            for number in range(0 if again else 1, len(hmm)):
                rows.extend((number_of[number], tid, 0, cost, to) for tid, cost, to in arcs_of[number])
        rows.extend((0, tid, index, cost, to) for tid, cost, to in entries[phone, pdfs])
    return Fst.from_lists(0, {0: 0.0}, rows)


def without_disambiguation(fst: Fst, transitions: TransitionModel) -> Fst:
    """The transducer with input labels above the transition-ids made epsilon (`fstrmsymbols`)."""
    arcs = fst.arcs.copy()
    arcs["ilabel"][arcs["ilabel"] > transitions.num_transition_ids] = 0
    return Fst.from_arcs(fst.start, fst.finals, fst.sources, arcs)


def add_self_loops(fst: Fst, transitions: TransitionModel, self_loop_scale: float = 0.1) -> Fst:
    """HCLG from HCLGa: behind each arc with a transition-id the self-loop of the HMM state that it leaves.

    As Kaldi's `add-self-loops --reorder=true`: costs of staying and leaving are times `self_loop_scale`; states
    entered from several HMM states (or also by epsilon) get one state before them for each.
    """
    loop_of = transitions.self_loop_of
    log_loop = np.where(loop_of > 0, transitions.log_probs[loop_of], -np.inf)
    log_leave = np.log1p(-np.exp(log_loop))
    arcs, sources = fst.arcs.copy(), fst.sources
    tids = arcs["ilabel"]
    arcs["weight"] -= (self_loop_scale * log_leave[tids] * (tids > 0)).astype(np.float32)

    # (state, HMM state entered from): 0 stands for epsilon, and for the start state's beginning.
    loops = np.where(tids > 0, loop_of[tids], 0).astype(np.int64)
    width = transitions.num_transition_ids + 1
    pairs = np.concatenate([arcs["nextstate"].astype(np.int64) * width + loops, [fst.start * width]])
    unique, which = np.unique(pairs, return_inverse=True)
    states, loop = np.divmod(unique, width)
    alone = np.bincount(states, minlength=fst.num_states)[states] == 1
    new = (loop > 0) & ~alone
    target = states.copy()
    target[new] = fst.num_states + np.arange(new.sum())
    arcs["nextstate"] = target[which[:-1]]

    looping = loop > 0
    loop_arcs = make_arcs(loop[looping], np.zeros(looping.sum()), -self_loop_scale * log_loop[loop[looping]],
                          target[looping])
    # A state with a single way out is copied, which saves the search an epsilon; others are entered by epsilon.
    ways_out = np.diff(fst.offsets) + np.isfinite(fst.finals)
    copied = new & (ways_out[states] <= 1)
    entered = new & ~copied
    lengths = np.diff(fst.offsets)[states[copied]]
    copies = np.repeat(fst.offsets[states[copied]] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    none = np.zeros(entered.sum())
    finals = np.full(fst.num_states + new.sum(), np.inf, np.float32)
    finals[: fst.num_states] = fst.finals
    finals[target[copied]] = fst.finals[states[copied]]
    result = Fst.from_arcs(
        fst.start, finals,
        np.concatenate([sources, target[looping], target[entered], np.repeat(target[copied], lengths)]),
        np.concatenate([arcs, loop_arcs, make_arcs(none, none, none, states[entered]), arcs[copies]]))
    trimmed = result.to_kaldifst()
    kaldifst.connect(trimmed)
    return Fst.from_kaldifst(trimmed)


def _log_probs_of_leaving(transitions: TransitionModel) -> np.ndarray:
    """log p(arc | the state is left), per transition-id; not meant for self-loops."""
    loop_of = transitions.self_loop_of
    stay = np.where(loop_of > 0, np.exp(transitions.log_probs[loop_of]), 0.0)
    return transitions.log_probs - np.log1p(-stay)
