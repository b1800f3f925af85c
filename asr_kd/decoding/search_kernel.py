"""The compiled core of the beam search: tokens, links and their pruning."""

import numpy as np
from numba import njit

_INFINITY = np.float32(np.inf)
_BINS = 512


@njit(nogil=True, cache=True)
def search(  # type: ignore[no-untyped-def]
    begins, arc_ints, arc_floats, levels, num_levels, finals, start, log_likelihoods, acoustic_scale, beam, max_active,
    min_active, lattice_beam, prune_interval, beam_delta,
):
    """Frame-synchronous beam search that keeps every link within `lattice_beam` of the best path through its ends.

    begins: int32 (states + 1, 2), the first epsilon and the first emitting arc of each state; arc_ints: int32
    (arcs, 4), pdf (-1: epsilon), word, -, next state; arc_floats: the same memory, cost in column 2; levels: uint8
    (states,), epsilon arcs lead to higher levels only; finals: float32 (states,).

    Returns tokens (state, frame), links (token, next token, arc), final cost per token, whether a final state was
    reached, the best cost, and the frames decoded (fewer than given where no token survived).
    """
    num_frames = len(log_likelihoods)
    beam, lattice_beam = np.float32(beam), np.float32(lattice_beam)
    scale = np.float32(-acoustic_scale)
    token_of = np.full(len(finals), -1, np.int32)
    capacity, link_capacity = 1 << 15, 1 << 16
    states = np.empty(capacity, np.int32)
    costs = np.empty(capacity, np.float32)
    extras = np.empty(capacity, np.float32)
    waiting = np.empty(capacity, np.int32)
    link_sources = np.empty(link_capacity, np.int32)
    link_targets = np.empty(link_capacity, np.int32)
    link_arcs = np.empty(link_capacity, np.int32)
    link_costs = np.empty(link_capacity, np.float32)
    token_begins = np.zeros(num_frames + 2, np.int64)
    epsilon_begins = np.zeros(num_frames + 2, np.int64)
    emitting_begins = np.zeros(num_frames + 2, np.int64)
    heads = np.full(num_levels, -1, np.int32)
    acoustic = np.empty(log_likelihoods.shape[1], np.float32)
    selection = np.empty(0, np.float32)

    states[0], costs[0] = start, 0.0
    token_of[start] = 0
    num_tokens, num_links = 1, 0
    offset = 0.0
    cutoff = beam
    decoded = num_frames
    for frame in range(num_frames + 1):
        # Epsilons of this frame, level by level: a token's cost is settled before its links are drawn.
        first = token_begins[frame]
        epsilon_begins[frame] = num_links
        _queue_epsilons(begins, levels, states, waiting, heads, first, num_tokens)
        for level in range(num_levels):
            count = 0
            token = heads[level]
            while token >= 0:
                count += begins[states[token], 1] - begins[states[token], 0]
                token = waiting[token]
            if count == 0:
                continue
            states, costs, extras, waiting = _with_room(num_tokens + count, states, costs, extras, waiting)
            link_sources, link_targets, link_arcs, link_costs = _with_room(
                num_links + count, link_sources, link_targets, link_arcs, link_costs)
            num_tokens, num_links = _expand_epsilons(
                begins, arc_ints, arc_floats, levels, token_of, states, costs, waiting, heads, link_sources,
                link_targets, link_arcs, link_costs, level, num_tokens, num_links, cutoff)
        emitting_begins[frame] = num_links
        token_begins[frame + 1] = num_tokens
        _forget(token_of, states, first, num_tokens)
        if frame == num_frames:
            break
        if frame % prune_interval == 0 and frame > 0:
            extras[first:num_tokens] = 0.0
            num_tokens, num_links = _prune(
                frame, frame - prune_interval, np.float32(0.1) * lattice_beam, lattice_beam, token_begins,
                epsilon_begins, emitting_begins, states, costs, extras, link_sources, link_targets, link_arcs,
                link_costs, waiting)
            first = token_begins[frame]

        # Emitting arcs into the next frame; costs are kept relative to this frame's best token.
        if len(selection) < num_tokens - first:
            selection = np.empty(2 * (num_tokens - first), np.float32)
        best_token, current_cutoff, adaptive_beam = _cutoff(costs, first, num_tokens, beam, max_active, min_active,
                                                            np.float32(beam_delta), selection)
        best = costs[best_token]
        offset += best
        acoustic[:] = scale * log_likelihoods[frame]
        last = num_tokens
        count = _count_arcs(begins, states, costs, first, last, current_cutoff)
        states, costs, extras, waiting = _with_room(num_tokens + count, states, costs, extras, waiting)
        link_sources, link_targets, link_arcs, link_costs = _with_room(
            num_links + count, link_sources, link_targets, link_arcs, link_costs)
        cutoff, num_tokens, num_links = _expand(
            begins, arc_ints, arc_floats, acoustic, token_of, states, costs, link_sources, link_targets, link_arcs,
            link_costs, best_token, first, last, num_links, current_cutoff, adaptive_beam)
        if num_tokens == last:
            decoded = frame
            break

    first, last = token_begins[decoded], token_begins[decoded + 1]
    final_costs = np.full(last - first, _INFINITY, np.float32)
    best = _INFINITY
    for token in range(first, last):
        final_costs[token - first] = finals[states[token]]
        best = min(best, costs[token] + finals[states[token]])
    reached_final = decoded == num_frames and best < _INFINITY
    if not reached_final:
        final_costs[:] = 0.0
        best = costs[first:last].min()
    for token in range(first, last):
        extras[token] = costs[token] + final_costs[token - first] - best
        if extras[token] > lattice_beam:
            final_costs[token - first] = _INFINITY
    _prune_links(epsilon_begins[decoded], emitting_begins[decoded], lattice_beam, costs, extras, link_sources,
                 link_targets, link_costs)
    final_costs = final_costs[extras[first:last] <= lattice_beam]
    num_tokens, num_links = _prune(
        decoded, -1, np.float32(0.0), lattice_beam, token_begins, epsilon_begins, emitting_begins, states, costs,
        extras, link_sources, link_targets, link_arcs, link_costs, waiting)
    return (states[:num_tokens].copy(), token_begins[: decoded + 2].copy(), link_sources[:num_links].copy(),
            link_targets[:num_links].copy(), link_arcs[:num_links].copy(), final_costs, reached_final, offset + best,
            decoded)


# Loops stand in functions of their own: compiled together with the growing of arrays they are three times slower.
@njit(nogil=True, cache=True)
def _queue_epsilons(begins, levels, states, waiting, heads, first, last):  # type: ignore[no-untyped-def]
    """Put the tokens with epsilon arcs into linked lists, one for each level."""
    for token in range(first, last):
        s = states[token]
        if begins[s, 0] < begins[s, 1]:
            waiting[token] = heads[levels[s]]
            heads[levels[s]] = token


@njit(nogil=True, cache=True)
def _forget(token_of, states, first, last):  # type: ignore[no-untyped-def]
    for token in range(first, last):
        token_of[states[token]] = -1


@njit(nogil=True, cache=True)
def _count_arcs(begins, states, costs, first, last, cutoff):  # type: ignore[no-untyped-def]
    """Count the emitting arcs that leave the tokens that will be expanded."""
    count = 0
    for token in range(first, last):
        if costs[token] <= cutoff:
            count += begins[states[token] + 1, 0] - begins[states[token], 1]
    return count


@njit(nogil=True, cache=True)
def _expand(  # type: ignore[no-untyped-def]
    begins, arc_ints, arc_floats, acoustic, token_of, states, costs, link_sources, link_targets, link_arcs, link_costs,
    best_token, first, last, num_links, current_cutoff, adaptive_beam,
):
    """Emitting arcs from tokens first to last; returns the next frame's cutoff and the numbers of tokens and links."""
    num_tokens = last
    best = costs[best_token]
    cutoff = _INFINITY
    s = states[best_token]
    for arc in range(begins[s, 1], begins[s + 1, 0]):
        cutoff = min(cutoff, arc_floats[arc, 2] + acoustic[arc_ints[arc, 0]] + adaptive_beam)
    for token in range(first, last):
        if costs[token] > current_cutoff:
            continue
        cost = costs[token] - best
        s = states[token]
        for arc in range(begins[s, 1], begins[s + 1, 0]):
            reached = cost + arc_floats[arc, 2] + acoustic[arc_ints[arc, 0]]
            if reached > cutoff:
                continue
            cutoff = min(cutoff, reached + adaptive_beam)
            t = arc_ints[arc, 3]
            target = token_of[t]
            if target < 0:
                target = num_tokens
                token_of[t] = target
                states[target], costs[target] = t, reached
                num_tokens += 1
            elif reached < costs[target]:
                costs[target] = reached
            link_sources[num_links], link_targets[num_links] = token, target
            link_arcs[num_links], link_costs[num_links] = arc, reached
            num_links += 1
    return cutoff, num_tokens, num_links


@njit(nogil=True, cache=True)
def _expand_epsilons(  # type: ignore[no-untyped-def]
    begins, arc_ints, arc_floats, levels, token_of, states, costs, waiting, heads, link_sources, link_targets,
    link_arcs, link_costs, level, num_tokens, num_links, cutoff,
):
    """Epsilon arcs from the tokens that wait at `level`, into the same frame's higher levels."""
    token = heads[level]
    heads[level] = -1
    while token >= 0:
        following = waiting[token]
        cost, s = costs[token], states[token]
        if cost <= cutoff:
            for arc in range(begins[s, 0], begins[s, 1]):
                reached = cost + arc_floats[arc, 2]
                if reached > cutoff:
                    continue
                t = arc_ints[arc, 3]
                target = token_of[t]
                if target < 0:
                    target = num_tokens
                    token_of[t] = target
                    states[target], costs[target] = t, reached
                    num_tokens += 1
                    if begins[t, 0] < begins[t, 1]:
                        waiting[target] = heads[levels[t]]
                        heads[levels[t]] = target
                elif reached < costs[target]:
                    costs[target] = reached
                link_sources[num_links], link_targets[num_links] = token, target
                link_arcs[num_links], link_costs[num_links] = arc, reached
                num_links += 1
        token = following
    return num_tokens, num_links


@njit(nogil=True, cache=True)
def _cutoff(costs, first, last, beam, max_active, min_active, beam_delta, selection):  # type: ignore[no-untyped-def]
    """Best token, the cost above which tokens are not expanded, and the beam for the next frame (`GetCutoff`)."""
    best_token = first
    for token in range(first, last):
        if costs[token] < costs[best_token]:
            best_token = token
    best = costs[best_token]
    limit = best + beam

    # A histogram finds where the max_active-th token lies; only its bin is sorted out exactly.
    width = np.float32(_BINS) / beam
    counts = np.zeros(_BINS + 1, np.int64)
    for token in range(first, last):
        counts[int(min((costs[token] - best) * width, np.float32(_BINS)))] += 1
    within = last - first - counts[_BINS]
    if within > max_active:
        below, chosen = 0, 0
        while below + counts[chosen] <= max_active:
            below += counts[chosen]
            chosen += 1
        count = 0
        for token in range(first, last):
            if int(min((costs[token] - best) * width, np.float32(_BINS))) == chosen:
                selection[count] = costs[token]
                count += 1
        limit = _nth_smallest(selection, 0, count, max_active - below)
        return best_token, limit, limit - best + beam_delta
    if within <= min_active:
        limit = _INFINITY
        if last - first > min_active:
            selection[: last - first] = costs[first:last]
            limit = max(best + beam, _nth_smallest(selection, 0, last - first, min_active))
        if limit > best + beam:
            return best_token, limit, limit - best + beam_delta
    return best_token, best + beam, beam


@njit(nogil=True, cache=True)
def _nth_smallest(values, begin, end, n):  # type: ignore[no-untyped-def]
    """The value that would stand at `n` if values[begin:end] were sorted; reorders them (Hoare's selection)."""
    low, high = begin, end - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if n <= j:
            high = j
        elif n >= i:
            low = i
        else:
            break
    return values[n]


@njit(nogil=True, cache=True)
def _prune(  # type: ignore[no-untyped-def]
    last, settled, delta, lattice_beam, token_begins, epsilon_begins, emitting_begins, states, costs, extras,
    link_sources, link_targets, link_arcs, link_costs, numbers,
):
    """Drop links and tokens that no path within `lattice_beam` needs; returns the numbers of those left.

    Goes back from frame `last`, whose `extras` (cost above the best path through a token) stand, until nothing
    changes by more than `delta` in a frame before `settled`, up to which an earlier call has pruned.
    """
    begin = last
    while begin > 0:
        begin -= 1
        first, end = token_begins[begin], token_begins[begin + 1]
        before = extras[first:end].copy()
        extras[first:end] = _INFINITY
        _prune_links(epsilon_begins[begin], epsilon_begins[begin + 1], lattice_beam, costs, extras, link_sources,
                     link_targets, link_costs)
        if begin < settled and not _changed(before, extras[first:end], delta):
            break

    kept = token_begins[begin]
    end = kept
    for frame in range(begin, last + 1):
        first, end = end, token_begins[frame + 1]
        for token in range(first, end):
            if extras[token] <= lattice_beam:
                numbers[token] = kept
                states[kept], costs[kept], extras[kept] = states[token], costs[token], extras[token]
                kept += 1
        token_begins[frame + 1] = kept

    links = epsilon_begins[begin]
    end = links
    for frame in range(begin, last + 1):
        for emitting in range(2):
            first = end
            if emitting == 0:
                end = emitting_begins[frame]
            elif frame < last:
                end = epsilon_begins[frame + 1]
            for link in range(first, end):
                if link_targets[link] >= 0:
                    link_sources[links] = numbers[link_sources[link]]
                    link_targets[links] = numbers[link_targets[link]]
                    link_arcs[links], link_costs[links] = link_arcs[link], link_costs[link]
                    links += 1
            if emitting == 0:
                emitting_begins[frame] = links
            elif frame < last:
                epsilon_begins[frame + 1] = links
    return kept, links


@njit(nogil=True, cache=True)
def _prune_links(begin, end, lattice_beam, costs, extras, link_sources, link_targets, link_costs):  # type: ignore[no-untyped-def]
    """Mark links above the beam (target -1) and bring `extras` of the sources down, last link first."""
    for link in range(end - 1, begin - 1, -1):
        target = link_targets[link]
        if target < 0:
            continue
        extra = extras[target] + (link_costs[link] - costs[target])
        if extra > lattice_beam:
            link_targets[link] = -1
        elif extra < extras[link_sources[link]]:
            extras[link_sources[link]] = extra


@njit(nogil=True, cache=True)
def _changed(before, after, delta):  # type: ignore[no-untyped-def]
    largest = np.float32(0.0)
    for i in range(len(after)):
        largest = max(largest, abs(after[i] - before[i]))
    return largest > delta


@njit(nogil=True, cache=True)
def _with_room(needed, first, second, third, fourth):  # type: ignore[no-untyped-def]
    """Four arrays of one length as they are, or longer where they hold fewer than `needed`."""
    if needed <= len(first):
        return first, second, third, fourth
    capacity = len(first) + needed
    return _grown(first, capacity), _grown(second, capacity), _grown(third, capacity), _grown(fourth, capacity)


@njit(nogil=True, cache=True)
def _grown(array, capacity):  # type: ignore[no-untyped-def]
    larger = np.empty(capacity, array.dtype)
    larger[: len(array)] = array
    return larger

