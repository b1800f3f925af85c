"""Beam Viterbi over a TrainingGraph, and equal alignment for the flat start."""

import numpy as np
from numba import njit

from asr_kd.hmm.training_graph import TrainingGraph

_NONE = np.float32(-1e30)


def best_path(graph: TrainingGraph, scores: np.ndarray, graph_log_probs: np.ndarray, beam: float
              ) -> tuple[np.ndarray, float] | None:
    """The best transition-ids and their total score, or None where no path ends within the beam.

    `scores` is `(frames, len(graph.pdfs))`, log-likelihoods already scaled; `graph_log_probs` per transition-id
    (`TransitionModel.scaled_log_probs`). The transition-id that leaves an HMM state stands at the state's first frame
    and its self-loops follow (the order of Kaldi's default, `--reorder=true`).
    """
    logs = graph_log_probs.astype(np.float32)
    loop_weights = np.where(graph.loop_ids > 0, logs[graph.loop_ids], _NONE)
    ids, total = _viterbi(
        np.ascontiguousarray(scores, dtype=np.float32), graph.state_pdf, graph.loop_ids, loop_weights, graph.begins,
        graph.sources, graph.transition_ids, graph.weights + logs[graph.transition_ids], graph.starts,
        graph.start_weights, graph.ends, graph.end_ids, graph.end_weights + logs[graph.end_ids], np.float32(beam))
    return None if len(ids) == 0 else (ids, float(total))


def fewest_frames(graph: TrainingGraph) -> int:
    """The number of frames of the graph's shortest path."""
    return int(_shortest(graph.begins, graph.sources, graph.starts, graph.ends))


def equal_alignment(graph: TrainingGraph, num_frames: int, generator: np.random.Generator, tries: int = 10
                    ) -> np.ndarray | None:
    """Transition-ids of a random path whose states share the frames equally; None where no path is short enough.

    As Kaldi's `align-equal-compiled`: pronunciations and optional silences are drawn.
    """
    order = np.argsort(graph.sources, kind="stable")
    targets = np.repeat(np.arange(graph.num_states), np.diff(graph.begins))[order]
    begins = np.searchsorted(graph.sources[order], np.arange(graph.num_states + 1))
    ids = graph.transition_ids[order]
    leaving: dict[int, list[int]] = {}
    for state, tid in zip(graph.ends.tolist(), graph.end_ids.tolist(), strict=True):
        leaving.setdefault(state, []).append(tid)
    for _ in range(tries):
        state = int(generator.choice(graph.starts))
        path: list[tuple[int, int]] = []
        while len(path) < num_frames:
            begin, end = int(begins[state]), int(begins[state + 1])
            choice = int(generator.integers(end - begin + len(leaving.get(state, ()))))
            if choice >= end - begin:
                path.append((state, leaving[state][choice - (end - begin)]))
                return _share_frames(path, graph.loop_ids, num_frames)
            path.append((state, int(ids[begin + choice])))
            state = int(targets[begin + choice])
    return None


def _share_frames(path: list[tuple[int, int]], loop_ids: np.ndarray, num_frames: int) -> np.ndarray:
    states, ids = np.array(path).T
    edges = np.arange(len(path) + 1) * num_frames // len(path)
    result = np.repeat(loop_ids[states], np.diff(edges))
    result[edges[:-1]] = ids
    return result.astype(np.int32)


@njit(nogil=True, cache=True)
def _viterbi(scores, state_pdf, loop_ids, loop_weights, begins, sources, arc_ids, arc_weights, starts,  # type: ignore[no-untyped-def]
             start_weights, ends, end_ids, end_weights, beam):
    frames = scores.shape[0]
    states = len(state_pdf)
    none = np.float32(-1e30)
    nothing = np.empty(0, dtype=np.int32)
    if frames == 0 or states == 0:
        return nothing, none
    # Arcs lead a bounded way up and down: only a window of states can be alive in a frame.
    highest = np.arange(states)
    lowest = np.arange(states)
    for j in range(states):
        for a in range(begins[j], begins[j + 1]):
            highest[sources[a]] = max(highest[sources[a]], j)
            lowest[sources[a]] = min(lowest[sources[a]], j)
    for i in range(1, states):
        highest[i] = max(highest[i], highest[i - 1])
        lowest[states - 1 - i] = min(lowest[states - 1 - i], lowest[states - i])
    current = np.full(states, none)
    following = np.full(states, none)
    back = np.empty((frames, states), dtype=np.int32)
    low = states
    high = -1
    for n in range(len(starts)):
        j = starts[n]
        current[j] = max(current[j], start_weights[n] + scores[0, state_pdf[j]])
        low = min(low, j)
        high = max(high, j)
    for t in range(1, frames):
        best = none
        for i in range(low, high + 1):
            best = max(best, current[i])
        floor = best - beam
        while low < high and current[low] < floor:
            current[low] = none
            low += 1
        while high > low and current[high] < floor:
            current[high] = none
            high -= 1
        for i in range(low, high + 1):
            if current[i] < floor:
                current[i] = none
        new_low = lowest[low]
        new_high = highest[high]
        for j in range(new_low, new_high + 1):
            score = current[j] + loop_weights[j]
            choice = -1
            for a in range(begins[j], begins[j + 1]):
                other = current[sources[a]] + arc_weights[a]
                if other > score:
                    score = other
                    choice = a
            back[t, j] = choice
            following[j] = score + scores[t, state_pdf[j]] if score > np.float32(-5e29) else none
        for i in range(low, high + 1):
            current[i] = none
        current, following = following, current
        low = new_low
        high = new_high
    best = none
    for i in range(low, high + 1):
        best = max(best, current[i])
    total = none
    state = -1
    leaving = np.int32(0)
    for n in range(len(ends)):
        if current[ends[n]] >= best - beam and current[ends[n]] + end_weights[n] > total:
            total = current[ends[n]] + end_weights[n]
            state = ends[n]
            leaving = end_ids[n]
    if state < 0 or total < np.float32(-5e29):
        return nothing, none
    result = np.empty(frames, dtype=np.int32)
    for t in range(frames - 1, 0, -1):
        arc = back[t, state]
        if arc < 0:
            result[t] = loop_ids[state]
        else:
            result[t] = leaving
            leaving = arc_ids[arc]
            state = sources[arc]
    result[0] = leaving
    return result, total


@njit(nogil=True, cache=True)
def _shortest(begins, sources, starts, ends):  # type: ignore[no-untyped-def]
    states = len(begins) - 1
    far = 1 << 30
    length = np.full(states, far)
    for j in starts:
        length[j] = 1
    changed = True
    while changed:
        changed = False
        for j in range(states):
            for a in range(begins[j], begins[j + 1]):
                if length[sources[a]] + 1 < length[j]:
                    length[j] = length[sources[a]] + 1
                    changed = True
    best = far
    for i in ends:
        best = min(best, length[i])
    return best
