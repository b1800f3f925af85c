"""The compiled core of lattice determinisation: subsets of states, the trie of their transition-ids, the queue."""

import heapq

import numpy as np
from numba import njit

# A node of the trie stands for the transition-ids on the way from the root to it. `hash` is a sum over the way of
# numbers made from (transition-id, frame), so the hash of a part of the way is a difference; `acoustic` is the
# acoustic cost of the first path found to it.
NODE = np.dtype([("parent", "i4"), ("tid", "i4"), ("depth", "i4"), ("mark", "i4"), ("hash", "u8"), ("acoustic", "f8")])
# A lattice state in a subset, with the costs and transition-ids of the best path to it from the lattice's start.
ELEMENT = np.dtype([("state", "i4"), ("node", "i4"), ("graph", "f8"), ("acoustic", "f8")])
# What a subset has in common: costs, and the node where its transition-ids part. For one before epsilons, `target` is
# the determinised state that it leads to, and `closed_*` what it has in common after epsilons.
SUBSET = np.dtype([("begin", "i8"), ("end", "i8"), ("graph", "f8"), ("acoustic", "f8"), ("closed_graph", "f8"),
                   ("closed_acoustic", "f8"), ("hash", "u8"), ("node", "i4"), ("closed_node", "i4"), ("target", "i4"),
                   ("next", "i4")])
FINAL = np.dtype([("graph", "f8"), ("acoustic", "f8"), ("node", "i4")], align=True)
TASK = np.dtype([("begin", "i8"), ("end", "i8"), ("source", "i4"), ("word", "i4")])
# Transition-ids of an arc: from the depth of its source to node `first`, then from the depth of `middle` to `last`.
ARC = np.dtype([("source", "i4"), ("target", "i4"), ("word", "i4"), ("first", "i4"), ("middle", "i4"), ("last", "i4"),
                ("graph", "f8"), ("acoustic", "f8")])
_CANDIDATE = np.dtype([("key", "i8"), ("arc", "i4"), ("node", "i4"), ("graph", "f8"), ("acoustic", "f8"),
                       ("cost", "f8")])
_SLOT = np.dtype([("stamp", "i4"), ("node", "i4"), ("tid", "i4"), ("graph", "f8"), ("acoustic", "f8"), ("cost", "f8")],
                 align=True)
_NODE_SIZE, _ELEMENT_SIZE = NODE.itemsize, ELEMENT.itemsize
_CHAINS = 1 << 13
_MIX = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True)
def determinize_arrays(  # type: ignore[no-untyped-def]
    begins, targets, words, tids, graph_costs, acoustic_costs, finals, backward, scale, beam, delta,
    rounding, max_arcs, max_bytes,
):
    """Subset construction, best paths first.

    begins: int32 (states + 1, 2), the first arc without and the first with a word of each state; backward: float64
    (states,), cost of the best path to the end; rounding: by less than this sums in another order differ.
    Returns determinised states (SUBSET), their ends (FINAL), arcs (ARC), the trie (NODE) and the beam reached, which
    is smaller than `beam` where a limit stopped the work.
    """
    num_states = len(finals)
    nodes = np.zeros(4 * num_states + 64, NODE)
    elements = np.empty(4 * num_states + 64, ELEMENT)
    states = np.empty(256, SUBSET)
    ends = np.empty(256, FINAL)
    initials = np.empty(256, SUBSET)
    tasks = np.empty(256, TASK)
    arcs = np.empty(256, ARC)
    slots = np.zeros(num_states, _SLOT)
    candidates = np.empty(256, _CANDIDATE)
    reference = np.zeros(num_states + 1, np.int32)
    state_chains = np.full(_CHAINS, -1, np.int32)
    initial_chains = np.full(_CHAINS, -1, np.int32)
    num_nodes, num_elements, num_det, num_initials, num_tasks, num_arcs = 1, 1, 0, 0, 0, 0
    stamp = 0
    reached = beam
    beam += rounding
    limit = backward[0] + beam

    elements[0].state, elements[0].node, elements[0].graph, elements[0].acoustic = 0, 0, 0.0, 0.0
    tasks[0].source, tasks[0].word, tasks[0].begin, tasks[0].end = -1, 0, 0, 1
    num_tasks = 1
    queue = [(backward[0], 0)]
    while len(queue) > 0:
        priority, task = heapq.heappop(queue)
        used = num_nodes * _NODE_SIZE + num_elements * _ELEMENT_SIZE
        if (num_arcs >= max_arcs or used >= max_bytes) and priority > backward[0] + rounding:
            reached = priority - backward[0]
            break
        begin, end, source = tasks[task].begin, tasks[task].end, tasks[task].source
        floor = nodes[states[source].node].depth if source >= 0 else 0

        # The subset behind the words, as it is before epsilons: perhaps it is known.
        stamp += 1
        initials = _with_room(num_initials + 1, initials)
        initials[num_initials].begin, initials[num_initials].end = begin, end
        _settle(initials, num_initials, elements, nodes, backward, scale, floor, rounding, reference, stamp)
        chain = _hash(initials, num_initials, elements, nodes)
        known = _find(initials, num_initials, elements, nodes, initial_chains[chain], scale, delta)
        first, middle, last = initials[num_initials].node, 0, 0
        if known >= 0:
            target = initials[known].target
            graph = initials[num_initials].graph + initials[known].closed_graph - initials[known].graph
            acoustic = initials[num_initials].acoustic + initials[known].closed_acoustic - initials[known].acoustic
            middle, last = initials[known].node, initials[known].closed_node
        else:
            elements = _with_room(num_elements + num_states, elements)
            nodes = _with_room(num_nodes + num_states, nodes)
            stop, num_nodes = _close(
                begins, targets, tids, graph_costs, acoustic_costs, finals, backward, scale, beam, slots, stamp,
                elements, begin, end, num_elements, nodes, num_nodes)
            if stop == num_elements:  # rounding has left nothing of a way that is hardly within the beam
                continue
            states = _with_room(num_det + 1, states)
            states[num_det].begin, states[num_det].end = num_elements, stop
            stamp += 1
            _settle(states, num_det, elements, nodes, backward, scale, floor, rounding, reference, stamp)
            if source < 0:  # no arc leads to the start that could carry what its subset has in common
                states[0].graph, states[0].acoustic, states[0].node = 0.0, 0.0, 0
            state_chain = _hash(states, num_det, elements, nodes)
            graph, acoustic, first = states[num_det].graph, states[num_det].acoustic, states[num_det].node
            target = _find(states, num_det, elements, nodes, state_chains[state_chain], scale, delta)
            if target < 0:
                target = num_det
                num_det += 1
                num_elements = stop
                states[target].next = state_chains[state_chain]
                state_chains[state_chain] = target
                ends = _with_room(num_det, ends)
                _end(states[target].begin, stop, elements, finals, scale, limit, ends, target)
                begin_of_state = states[target].begin
                count = 0
                for i in range(begin_of_state, stop):
                    s = elements[i].state
                    count += begins[s + 1, 0] - begins[s, 1]
                candidates = _with_room(count, candidates)
                tasks = _with_room(num_tasks + count, tasks)
                elements = _with_room(num_elements + count, elements)
                nodes = _with_room(num_nodes + count, nodes)
                num_tasks, num_elements, num_nodes = _leave(
                    begins, targets, words, tids, graph_costs, acoustic_costs, backward, scale, beam, limit,
                    begin_of_state, stop, elements, num_elements, nodes, num_nodes, candidates, target, tasks,
                    num_tasks, queue)
            initials[num_initials].target, initials[num_initials].closed_node = target, first
            initials[num_initials].closed_graph, initials[num_initials].closed_acoustic = graph, acoustic
            initials[num_initials].next = initial_chains[chain]
            initial_chains[chain] = num_initials
            num_initials += 1
        if source >= 0:
            arcs = _with_room(num_arcs + 1, arcs)
            arc = arcs[num_arcs]
            arc.source, arc.target, arc.word = source, target, tasks[task].word
            arc.first, arc.middle, arc.last = first, middle, last
            arc.graph = graph - states[source].graph
            arc.acoustic = acoustic - states[source].acoustic
            num_arcs += 1
    return states[:num_det], ends[:num_det], arcs[:num_arcs], nodes[:num_nodes], reached


@njit(nogil=True, cache=True)
def _with_room(needed, array):  # type: ignore[no-untyped-def]
    """The array, or a larger copy of it where it has no `needed` places."""
    if needed <= len(array):
        return array
    larger = np.empty(max(needed, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(nogil=True, cache=True)
def _mixed(value):  # type: ignore[no-untyped-def]
    """Splitmix64: a number that looks random for each number."""
    value = np.uint64(value) * _MIX
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(nogil=True, cache=True)
def _grow(nodes, number, parent, tid, acoustic):  # type: ignore[no-untyped-def]
    """Make node `number` of the trie; the same transition-ids may have several nodes, but of one hash."""
    depth = nodes[parent].depth + 1
    node = nodes[number]
    node.parent, node.tid, node.depth, node.mark, node.acoustic = parent, tid, depth, 0, acoustic
    node.hash = nodes[parent].hash + _mixed((np.int64(tid) << 32) + depth)


@njit(nogil=True, cache=True)
def _close(  # type: ignore[no-untyped-def]
    begins, targets, tids, graph_costs, acoustic_costs, finals, backward, scale, beam, slots, stamp, elements, begin,
    end, stop, nodes, num_nodes,
):
    """Follow the arcs without words from elements[begin:end]; those that matter are written from `stop` on.

    Those have arcs with words or are final. Arcs lead to higher states, so each state is settled when its turn comes.
    """
    best = np.inf
    lowest, highest = elements[begin].state, 0
    for i in range(begin, end):
        s = elements[i].state
        slot = slots[s]
        slot.stamp, slot.node, slot.tid = stamp, elements[i].node, 0
        slot.graph, slot.acoustic = elements[i].graph, elements[i].acoustic
        slot.cost = slot.graph + scale * slot.acoustic
        best = min(best, slot.cost + backward[s])
        lowest, highest = min(lowest, s), max(highest, s)
    limit = best + beam
    s = lowest
    while s <= highest:
        slot = slots[s]
        if slot.stamp == stamp:
            node = slot.node
            if slot.tid > 0:
                _grow(nodes, num_nodes, node, slot.tid, slot.acoustic)
                node = num_nodes
                num_nodes += 1
            first, second, third = begins[s, 0], begins[s, 1], begins[s + 1, 0]
            if second < third or finals[s] < np.inf:
                element = elements[stop]
                element.state, element.node, element.graph, element.acoustic = s, node, slot.graph, slot.acoustic
                stop += 1
            for arc in range(first, second):
                t = targets[arc]
                graph = slot.graph + graph_costs[arc]
                acoustic = slot.acoustic + acoustic_costs[arc]
                cost = graph + scale * acoustic
                if cost + backward[t] > limit:
                    continue
                reached = slots[t]
                if reached.stamp != stamp or cost < reached.cost:
                    reached.stamp, reached.node, reached.tid = stamp, node, tids[arc]
                    reached.graph, reached.acoustic, reached.cost = graph, acoustic, cost
                    highest = max(highest, t)
        s += 1
    return stop, num_nodes


@njit(nogil=True, cache=True)
def _settle(subsets, number, elements, nodes, backward, scale, floor, rounding, reference, stamp):  # type: ignore[no-untyped-def]
    """Find what the elements of a subset have in common: costs of the most promising one, and the common beginning
    of their transition-ids, which all agree up to depth `floor`."""
    subset = subsets[number]
    best, chosen = np.inf, subset.begin
    for i in range(subset.begin, subset.end):
        cost = elements[i].graph + scale * elements[i].acoustic + backward[elements[i].state]
        if cost < best - rounding:  # rounding must not choose among elements on one path
            best, chosen = cost, i
    node = elements[chosen].node
    top = nodes[node].depth
    while nodes[node].depth > floor:
        reference[nodes[node].depth] = node
        node = nodes[node].parent
    reference[nodes[node].depth] = node
    common = top
    for i in range(subset.begin, subset.end):
        node = elements[i].node
        while nodes[node].mark != stamp:
            depth = nodes[node].depth
            if depth <= top and nodes[reference[depth]].hash == nodes[node].hash:
                common = min(common, depth)
                break
            nodes[node].mark = stamp
            node = nodes[node].parent
    subset.node = reference[common]
    subset.graph = elements[chosen].graph
    subset.acoustic = nodes[subset.node].acoustic


@njit(nogil=True, cache=True)
def _hash(subsets, number, elements, nodes):  # type: ignore[no-untyped-def]
    """The chain that a subset belongs to: a hash of its states and of the transition-ids left over in them."""
    subset = subsets[number]
    base = nodes[subset.node].hash
    value = np.uint64(0)
    for i in range(subset.begin, subset.end):
        left = nodes[elements[i].node].hash - base
        value = (value ^ (left + np.uint64(elements[i].state))) * _MIX
        value ^= value >> np.uint64(32)
    subset.hash = value
    return np.int64(value % np.uint64(_CHAINS))


@njit(nogil=True, cache=True)
def _find(subsets, number, elements, nodes, head, scale, delta):  # type: ignore[no-untyped-def]
    """The number of an equal subset in the chain: states and transition-ids the same, costs within `delta`."""
    subset = subsets[number]
    base = nodes[subset.node].hash
    size = subset.end - subset.begin
    while head >= 0:
        other = subsets[head]
        if other.hash == subset.hash and other.end - other.begin == size:
            other_base = nodes[other.node].hash
            same = True
            for i in range(size):
                mine, its = elements[subset.begin + i], elements[other.begin + i]
                if (mine.state != its.state or nodes[mine.node].hash - base != nodes[its.node].hash - other_base
                        or abs(mine.graph - subset.graph - its.graph + other.graph) > delta
                        or scale * abs(mine.acoustic - subset.acoustic - its.acoustic + other.acoustic) > delta):
                    same = False
                    break
            if same:
                break
        head = other.next
    return head


@njit(nogil=True, cache=True)
def _end(begin, stop, elements, finals, scale, limit, ends, number):  # type: ignore[no-untyped-def]
    """The best way to end in a determinised state; infinite cost where there is none within the beam."""
    end = ends[number]
    end.graph, end.acoustic, end.node = np.inf, 0.0, 0
    best = limit
    for i in range(begin, stop):
        element = elements[i]
        graph = element.graph + finals[element.state]
        cost = graph + scale * element.acoustic
        if cost <= best:
            best = cost
            end.graph, end.acoustic, end.node = graph, element.acoustic, element.node


@njit(nogil=True, cache=True)
def _leave(  # type: ignore[no-untyped-def]
    begins, targets, words, tids, graph_costs, acoustic_costs, backward, scale, beam, limit, begin, stop, elements,
    num_elements, nodes, num_nodes, candidates, source, tasks, num_tasks, queue,
):
    """Queue a task for each word that leaves elements[begin:stop], with the best way into each state behind it."""
    num_states = len(backward)
    count = 0
    for i in range(begin, stop):
        element = elements[i]
        s = element.state
        for arc in range(begins[s, 1], begins[s + 1, 0]):
            t = targets[arc]
            graph = element.graph + graph_costs[arc]
            acoustic = element.acoustic + acoustic_costs[arc]
            cost = graph + scale * acoustic
            if cost + backward[t] < np.inf:
                candidate = candidates[count]
                candidate.key, candidate.arc, candidate.node = np.int64(words[arc]) * num_states + t, arc, element.node
                candidate.graph, candidate.acoustic, candidate.cost = graph, acoustic, cost
                count += 1
    order = np.argsort(candidates["key"][:count], kind="mergesort")
    i = 0
    while i < count:
        word = candidates[order[i]].key // num_states
        best = np.inf
        j = i
        while j < count and candidates[order[j]].key // num_states == word:
            best = min(best, candidates[order[j]].cost + backward[targets[candidates[order[j]].arc]])
            j += 1
        if best <= limit:
            begin = num_elements
            while i < j:
                chosen = order[i]
                key = candidates[chosen].key
                while i < j and candidates[order[i]].key == key:
                    if candidates[order[i]].cost < candidates[chosen].cost:
                        chosen = order[i]
                    i += 1
                candidate = candidates[chosen]
                t = targets[candidate.arc]
                if candidate.cost + backward[t] <= best + beam:
                    node = candidate.node
                    if tids[candidate.arc] > 0:
                        _grow(nodes, num_nodes, node, tids[candidate.arc], candidate.acoustic)
                        node = num_nodes
                        num_nodes += 1
                    element = elements[num_elements]
                    element.state, element.node = t, node
                    element.graph, element.acoustic = candidate.graph, candidate.acoustic
                    num_elements += 1
            task = tasks[num_tasks]
            task.begin, task.end, task.source, task.word = begin, num_elements, source, word
            heapq.heappush(queue, (best, num_tasks))
            num_tasks += 1
        i = j
    return num_tasks, num_elements, num_nodes
