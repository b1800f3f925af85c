"""The building of a training graph, compiled: phone network, phones in context, states, arcs."""

from typing import NamedTuple

import numpy as np
from numba import njit

_ANY = -1


class LexiconArrays(NamedTuple):
    """Word w has the pronunciations `first_pronunciations[w:w+2]`, pronunciation p the phones `first_phones[p:p+2]`."""

    first_pronunciations: np.ndarray
    first_phones: np.ndarray
    phones: np.ndarray
    log_probs: np.ndarray
    silence: int
    log_silence: float
    log_no_silence: float


class HmmArrays(NamedTuple):
    """By kind of HMM: pdf classes of its states, arcs within it but for self-loops, arcs that leave it."""

    kind_of: np.ndarray
    first_states: np.ndarray
    pdf_classes: np.ndarray
    first_inner: np.ndarray
    inner: np.ndarray  # (arcs, 3): state, arc, state that it goes to
    first_leaving: np.ndarray
    leaving: np.ndarray  # (arcs, 2): state, arc


class TreeArrays(NamedTuple):
    """`DecisionTree`'s arrays, its questions as a table, and whether a phone's pdfs depend on its neighbours."""

    roots: np.ndarray
    keys: np.ndarray
    questions: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    pdfs: np.ndarray
    members: np.ndarray  # (questions, values) of bool
    central: int
    depends_left: np.ndarray
    depends_right: np.ndarray


class StateArrays(NamedTuple):
    """Transition states, found by `(phone · num_hmm_states + HMM state) · num_pdfs + pdf`, which ascends."""

    keys: np.ndarray
    num_hmm_states: int
    num_pdfs: int
    first_ids: np.ndarray
    loop_ids: np.ndarray


@njit(nogil=True, cache=True)
def build_arrays(words, lexicon, hmms, tree, states):  # type: ignore[no-untyped-def]
    """The arrays of TrainingGraph in their order; the first is empty where a pdf has no transition-id."""
    phones, edges, weights, starts, start_weights, finals, final_weights = _phone_network(words, lexicon)
    left_begins, lefts = _contexts(phones, edges[1], edges[0], starts, tree.depends_left)
    right_begins, rights = _contexts(phones, edges[0], edges[1], finals, tree.depends_right)

    # Nodes: an occurrence of a phone with one left and one right neighbour out of those that matter to its pdfs.
    num = len(phones)
    first_node = np.zeros(num + 1, dtype=np.int32)
    for n in range(num):
        first_node[n + 1] = first_node[n] + (
            (left_begins[n + 1] - left_begins[n]) * (right_begins[n + 1] - right_begins[n]))
    first_state = np.zeros(first_node[num] + 1, dtype=np.int32)
    for n in range(num):
        kind = hmms.kind_of[phones[n]]
        size = hmms.first_states[kind + 1] - hmms.first_states[kind]
        for node in range(first_node[n], first_node[n + 1]):
            first_state[node + 1] = first_state[node] + size

    num_states = first_state[-1]
    pdfs = np.empty(num_states, dtype=np.int32)
    first_ids = np.empty(num_states, dtype=np.int32)
    loop_ids = np.empty(num_states, dtype=np.int32)
    for n in range(num):
        node = first_node[n]
        for left in lefts[left_begins[n] : left_begins[n + 1]]:
            for right in rights[right_begins[n] : right_begins[n + 1]]:
                if not _fill_states(left, phones[n], right, first_state[node], pdfs, first_ids, loop_ids, hmms, tree,
                                    states):
                    pdfs = pdfs[:0]
                    num_states = 0
                node += 1

    targets, sources, ids, arc_weights = _arcs(
        phones, edges, weights, left_begins, lefts, right_begins, rights, first_node, first_state, first_ids, hmms)
    begins = np.zeros(first_state[-1] + 1, dtype=np.int32)
    order = _sorted_by_target(targets, sources, ids, begins)

    node_starts, node_start_weights = _at_edge(starts, start_weights, left_begins, lefts, right_begins, first_node, 1)
    node_finals, node_final_weights = _at_edge(finals, final_weights, right_begins, rights, left_begins, first_node, 0)
    ends, end_ids, end_weights = _leaving(node_finals, node_final_weights, phones, first_node, first_state, first_ids,
                                          hmms)
    used = np.unique(pdfs)
    return (used, np.searchsorted(used, pdfs).astype(np.int32), loop_ids, begins, sources[order], ids[order],
            arc_weights[order], first_state[node_starts], node_start_weights, ends, end_ids, end_weights)


@njit(nogil=True, cache=True)
def _phone_network(words, lexicon):  # type: ignore[no-untyped-def]
    """Occurrences of phones, edges (2, n) with log-probabilities, first and last occurrences with theirs."""
    num_phones = 1
    num_edges = 0
    before = 0
    for word in words:
        prons = range(lexicon.first_pronunciations[word], lexicon.first_pronunciations[word + 1])
        for p in prons:
            size = lexicon.first_phones[p + 1] - lexicon.first_phones[p]
            num_phones += size
            num_edges += size - 1 + 1 + before + 1
        before = len(prons)
        num_phones += 1
    first = lexicon.first_pronunciations[words[0] + 1] - lexicon.first_pronunciations[words[0]] if len(words) else 0
    phones = np.empty(num_phones, dtype=np.int32)
    edges = np.empty((2, num_edges), dtype=np.int32)
    weights = np.empty(num_edges, dtype=np.float64)
    starts = np.zeros(1 + first, dtype=np.int32)
    start_weights = np.full(1 + first, lexicon.log_silence)
    phones[0] = lexicon.silence
    silence_node = 0
    at = 1
    e = 0
    ends = np.empty(0, dtype=np.int32)
    for i in range(len(words)):
        low, high = lexicon.first_pronunciations[words[i]], lexicon.first_pronunciations[words[i] + 1]
        following = np.empty(high - low, dtype=np.int32)
        for p in range(low, high):
            begin = at
            for phone in lexicon.phones[lexicon.first_phones[p] : lexicon.first_phones[p + 1]]:
                if at > begin:
                    edges[0, e], edges[1, e], weights[e] = at - 1, at, 0.0
                    e += 1
                phones[at] = phone
                at += 1
            following[p - low] = at - 1
            edges[0, e], edges[1, e], weights[e] = silence_node, begin, lexicon.log_probs[p]
            e += 1
            for end in ends:
                edges[0, e], edges[1, e], weights[e] = end, begin, lexicon.log_no_silence + lexicon.log_probs[p]
                e += 1
            if i == 0:
                starts[1 + p - low] = begin
                start_weights[1 + p - low] = lexicon.log_no_silence + lexicon.log_probs[p]
        ends = following
        silence_node = at
        phones[at] = lexicon.silence
        at += 1
        for end in ends:
            edges[0, e], edges[1, e], weights[e] = end, silence_node, lexicon.log_silence
            e += 1
    finals = np.empty(1 + len(ends), dtype=np.int32)
    final_weights = np.full(1 + len(ends), lexicon.log_no_silence)
    finals[0], final_weights[0] = silence_node, 0.0
    finals[1:] = ends
    return phones, edges, weights, starts, start_weights, finals, final_weights


@njit(nogil=True, cache=True)
def _contexts(phones, of, neighbours, edge_of_utterance, depends):  # type: ignore[no-untyped-def]
    """For each occurrence the phones beside it on one side, distinct and sorted; just `_ANY` where none matters."""
    num = len(phones)
    counts = np.zeros(num + 1, dtype=np.int32)
    for n in of:
        counts[n + 1] += 1
    for n in edge_of_utterance:
        counts[n + 1] += 1
    slots = np.cumsum(counts)
    values = np.zeros(slots[num], dtype=np.int32)
    filled = slots[:num].copy()
    for e in range(len(of)):
        values[filled[of[e]]] = phones[neighbours[e]]
        filled[of[e]] += 1
    # 0, the edge of the utterance, is what the slots of edge_of_utterance hold already.
    begins = np.zeros(num + 1, dtype=np.int32)
    result = np.empty(slots[num] + num, dtype=np.int32)
    at = 0
    for n in range(num):
        if not depends[phones[n]]:
            result[at] = -1
            at += 1
        else:
            ordered = np.sort(values[slots[n] : slots[n + 1]])
            for i in range(len(ordered)):
                if i == 0 or ordered[i] != ordered[i - 1]:
                    result[at] = ordered[i]
                    at += 1
        begins[n + 1] = at
    return begins, result[:at]


@njit(nogil=True, cache=True)
def _fill_states(left, phone, right, base, pdfs, first_ids, loop_ids, hmms, tree, states):  # type: ignore[no-untyped-def]
    """One node's pdfs and transition-ids; false where a pdf has none."""
    kind = hmms.kind_of[phone]
    for state in range(hmms.first_states[kind + 1] - hmms.first_states[kind]):
        pdf_class = hmms.pdf_classes[hmms.first_states[kind] + state]
        node = tree.roots[phone, pdf_class]
        while tree.keys[node] != -2:
            key = tree.keys[node]
            if key == -1:
                value = pdf_class
            elif key == tree.central:
                value = phone
            else:
                value = max(left if key < tree.central else right, 0)
            node = tree.yes[node] if tree.members[tree.questions[node], value] else tree.no[node]
        pdf = tree.pdfs[node]
        key = (np.int64(phone) * states.num_hmm_states + state) * states.num_pdfs + pdf
        index = np.searchsorted(states.keys, key)
        if pdf >= states.num_pdfs or index == len(states.keys) or states.keys[index] != key:
            return False
        if base + state < len(pdfs):
            pdfs[base + state] = pdf
            first_ids[base + state] = states.first_ids[index]
            loop_ids[base + state] = states.loop_ids[index]
    return True


@njit(nogil=True, cache=True)
def _arcs(phones, edges, weights, left_begins, lefts, right_begins, rights, first_node, first_state, first_ids, hmms):  # type: ignore[no-untyped-def]
    """All arcs, unsorted: those within the phones, and those from phone to phone where the contexts agree."""
    count = 0
    for n in range(len(phones)):
        kind = hmms.kind_of[phones[n]]
        count += (first_node[n + 1] - first_node[n]) * (hmms.first_inner[kind + 1] - hmms.first_inner[kind])
    for e in range(edges.shape[1]):
        a, b = edges[0, e], edges[1, e]
        kind = hmms.kind_of[phones[a]]
        count += ((left_begins[a + 1] - left_begins[a]) * (right_begins[b + 1] - right_begins[b])
                  * (hmms.first_leaving[kind + 1] - hmms.first_leaving[kind]))
    targets = np.empty(count, dtype=np.int32)
    sources = np.empty(count, dtype=np.int32)
    ids = np.empty(count, dtype=np.int32)
    arc_weights = np.zeros(count, dtype=np.float32)
    at = 0
    for n in range(len(phones)):
        kind = hmms.kind_of[phones[n]]
        for node in range(first_node[n], first_node[n + 1]):
            base = first_state[node]
            for i in range(hmms.first_inner[kind], hmms.first_inner[kind + 1]):
                sources[at] = base + hmms.inner[i, 0]
                ids[at] = first_ids[sources[at]] + hmms.inner[i, 1]
                targets[at] = base + hmms.inner[i, 2]
                at += 1
    for e in range(edges.shape[1]):
        a, b = edges[0, e], edges[1, e]
        kind = hmms.kind_of[phones[a]]
        num_right_a = right_begins[a + 1] - right_begins[a]
        num_right_b = right_begins[b + 1] - right_begins[b]
        right = _position(rights, right_begins[a], right_begins[a + 1], phones[b])
        left = _position(lefts, left_begins[b], left_begins[b + 1], phones[a])
        for i in range(left_begins[a + 1] - left_begins[a]):
            base = first_state[first_node[a] + i * num_right_a + right]
            for j in range(num_right_b):
                target = first_state[first_node[b] + left * num_right_b + j]
                for k in range(hmms.first_leaving[kind], hmms.first_leaving[kind + 1]):
                    sources[at] = base + hmms.leaving[k, 0]
                    ids[at] = first_ids[sources[at]] + hmms.leaving[k, 1]
                    targets[at] = target
                    arc_weights[at] = weights[e]
                    at += 1
    return targets, sources, ids, arc_weights


@njit(nogil=True, cache=True)
def _position(contexts, begin, end, phone):  # type: ignore[no-untyped-def]
    """Return the index of `phone` among an occurrence's contexts; 0 where the neighbour does not matter."""
    if contexts[begin] == _ANY:
        return 0
    return np.searchsorted(contexts[begin:end], phone)


@njit(nogil=True, cache=True)
def _sorted_by_target(targets, sources, ids, begins):  # type: ignore[no-untyped-def]
    """The order by target, source and id; fills `begins` (states + 1,)."""
    for target in targets:
        begins[target + 1] += 1
    for j in range(1, len(begins)):
        begins[j] += begins[j - 1]
    order = np.empty(len(targets), dtype=np.int32)
    filled = begins[:-1].copy()
    for a in range(len(targets)):
        j = targets[a]
        place = filled[j]
        while place > begins[j] and (sources[order[place - 1]] > sources[a] or (
                sources[order[place - 1]] == sources[a] and ids[order[place - 1]] > ids[a])):
            order[place] = order[place - 1]
            place -= 1
        order[place] = a
        filled[j] += 1
    return order


@njit(nogil=True, cache=True)
def _at_edge(occurrences, weights, begins, contexts, other_begins, first_node, is_left):  # type: ignore[no-untyped-def]
    """Nodes (with weights) of these occurrences that have the utterance's edge on the side of `contexts`."""
    count = 0
    for n in occurrences:
        count += other_begins[n + 1] - other_begins[n]
    nodes = np.empty(count, dtype=np.int32)
    node_weights = np.empty(count, dtype=np.float32)
    at = 0
    for i in range(len(occurrences)):
        n = occurrences[i]
        edge = _position(contexts, begins[n], begins[n + 1], 0)
        own, other = begins[n + 1] - begins[n], other_begins[n + 1] - other_begins[n]
        for j in range(other):
            nodes[at] = first_node[n] + (edge * other + j if is_left else j * own + edge)
            node_weights[at] = weights[i]
            at += 1
    return nodes, node_weights


@njit(nogil=True, cache=True)
def _leaving(nodes, node_weights, phones, first_node, first_state, first_ids, hmms):  # type: ignore[no-untyped-def]
    """The arcs out of these nodes: states that they leave, transition-ids, weights."""
    kinds = np.empty(len(nodes), dtype=np.int32)
    count = 0
    for i in range(len(nodes)):
        kinds[i] = hmms.kind_of[phones[np.searchsorted(first_node, nodes[i], side="right") - 1]]
        count += hmms.first_leaving[kinds[i] + 1] - hmms.first_leaving[kinds[i]]
    states = np.empty(count, dtype=np.int32)
    ids = np.empty(count, dtype=np.int32)
    weights = np.empty(count, dtype=np.float32)
    at = 0
    for i in range(len(nodes)):
        for k in range(hmms.first_leaving[kinds[i]], hmms.first_leaving[kinds[i] + 1]):
            states[at] = first_state[nodes[i]] + hmms.leaving[k, 0]
            ids[at] = first_ids[states[at]] + hmms.leaving[k, 1]
            weights[at] = node_weights[i]
            at += 1
    return states, ids, weights
