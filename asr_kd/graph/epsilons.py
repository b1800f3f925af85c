"""Local removal of epsilon arcs: only where it makes a graph smaller, never larger."""

import numpy as np
from numba import njit

from asr_kd.graph.fst import Fst, make_arcs


def remove_epsilons_locally(fst: Fst) -> Fst:
    """Contract arcs whose labels can be put on a neighbour; same paths and costs (Kaldi's `fstrmepslocal`).

    Arc s -> t goes where t has no other way in, or no other way out, and one label of each pair is epsilon.
    """
    arcs = fst.arcs
    columns = [arcs[name].copy() for name in ("ilabel", "olabel", "weight", "nextstate")]
    finals = fst.finals.astype(np.float64)
    costs = columns[2].astype(np.float64)
    sources, alive = _contract(fst.start, finals, fst.offsets, columns[0], columns[1], costs, columns[3])
    kept = make_arcs(columns[0][alive], columns[1][alive], costs[alive], columns[3][alive])
    return Fst.from_arcs(fst.start, finals.astype(np.float32), sources[alive], kept)


@njit(nogil=True, cache=True)
def _contract(start, finals, offsets, ilabels, olabels, costs, nextstates):  # type: ignore[no-untyped-def]
    num_states, num_arcs = len(finals), len(ilabels)
    # The arcs of a state are a linked list: contraction moves arcs from one state to another.
    following = np.full(num_arcs, -1, np.int64)
    first = np.full(num_states, -1, np.int64)
    last = np.full(num_states, -1, np.int64)
    ways_in = np.zeros(num_states, np.int64)
    ways_out = np.zeros(num_states, np.int64)
    sources = np.empty(num_arcs, np.int64)
    alive = np.ones(num_arcs, np.bool_)
    ways_in[start] += 1
    for s in range(num_states):
        if np.isfinite(finals[s]):
            ways_out[s] += 1
        for a in range(offsets[s], offsets[s + 1]):
            sources[a] = s
            ways_out[s] += 1
            ways_in[nextstates[a]] += 1
            if first[s] < 0:
                first[s] = a
            else:
                following[last[s]] = a
            last[s] = a

    for s in range(num_states):
        a = first[s]
        while a >= 0:
            if not alive[a]:
                a = following[a]
                continue
            t = nextstates[a]
            if t == s or (ilabels[a] != 0 and olabels[a] != 0 and ways_out[t] == 0):
                a = following[a]
                continue
            if ways_out[t] == 1 and not np.isfinite(finals[t]):
                b = first[t]
                while not alive[b]:
                    b = following[b]
                u = nextstates[b]
                if u != t and (ilabels[a] == 0 or ilabels[b] == 0) and (olabels[a] == 0 or olabels[b] == 0):
                    ilabels[a] += ilabels[b]
                    olabels[a] += olabels[b]
                    costs[a] += costs[b]
                    nextstates[a] = u
                    ways_in[u] += 1
                    ways_in[t] -= 1
                    if ways_in[t] == 0:
                        alive[b] = False
                        ways_out[t] -= 1
                        ways_in[u] -= 1
                    continue
            elif ways_in[t] == 1 and ways_out[t] > 0:
                # All ways out of t that can take over a's labels begin in s from now on.
                remaining = 0
                b, previous = first[t], -1
                while b >= 0:
                    then = following[b]
                    if alive[b] and (nextstates[b] == t or (ilabels[a] != 0 and ilabels[b] != 0)
                                     or (olabels[a] != 0 and olabels[b] != 0)):
                        remaining += 1
                        previous = b
                    elif alive[b]:
                        ilabels[b] += ilabels[a]
                        olabels[b] += olabels[a]
                        costs[b] += costs[a]
                        sources[b] = s
                        ways_out[s] += 1
                        ways_out[t] -= 1
                        if previous < 0:
                            first[t] = then
                        else:
                            following[previous] = then
                        if last[t] == b:
                            last[t] = previous
                        following[b] = -1
                        following[last[s]] = b
                        last[s] = b
                    else:
                        previous = b
                    b = then
                if np.isfinite(finals[t]):
                    if ilabels[a] == 0 and olabels[a] == 0:
                        finals_before = np.isfinite(finals[s])
                        finals[s] = min(finals[s], finals[t] + costs[a])
                        if not finals_before:
                            ways_out[s] += 1
                        finals[t] = np.inf
                        ways_out[t] -= 1
                    else:
                        remaining += 1
                if remaining == 0:
                    alive[a] = False
                    ways_out[s] -= 1
                    ways_in[t] -= 1
            a = following[a]
    return sources, alive
