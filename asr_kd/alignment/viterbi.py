"""Beam Viterbi over a TrainingGraph, and equal alignment for the flat start."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit

from asr_kd.alignment.training_graph import TrainingGraph

_NONE = np.float32(-1e30)
# Larger scores would leave single precision nothing of the others, and come near to that of no hypothesis.
_LARGEST = 1e9
# Frames that are scored at once: so few that not many states can be reached meanwhile.
_CHUNK = 128


class FrameScores(Protocol):
    """The log-likelihoods of one utterance, asked for as the search gets to them.

    Called with pdfs `(n,)` and frames `begin` to `end` it gives `(end - begin, n)` float32, unscaled.
    """

    @property
    def num_frames(self) -> int: ...

    def __call__(self, pdfs: np.ndarray, begin: int, end: int) -> np.ndarray: ...


@dataclass(frozen=True)
class BestPath:
    """The result of the search.

    `transition_ids` int32 `(frames,)`, None where no path ends within the beam. `score` is the path's log-probability,
    likelihoods scaled; without a path that of the best hypothesis in the last frame `num_frames - 1` that was scored,
    and `reached`, 0 to 1, is the share of the graph's states that the hypotheses had come to. `finite` is false where
    the search stopped at scores that are not, or beyond 1e9.
    """

    transition_ids: np.ndarray | None
    score: float
    num_frames: int
    reached: float = 1.0
    finite: bool = True


def best_path(graph: TrainingGraph, scores: FrameScores, graph_log_probs: np.ndarray, beam: float,
              acoustic_scale: float = 1.0) -> BestPath:
    """The best transition-ids of an utterance within the beam.

    `graph_log_probs` are per transition-id (`TransitionModel.scaled_log_probs`). The transition-id that leaves an HMM
    state stands at the state's first frame and its self-loops follow (the order of Kaldi's default,
    `--reorder=true`). Only those pdfs are scored that hypotheses can come to within the next frames, and what is kept
    of a frame is one byte for each state between the first and the last hypothesis.
    """
    search = _Search(graph, graph_log_probs.astype(np.float32), scores.num_frames, np.float32(beam))
    for begin in range(0, scores.num_frames, _CHUNK):
        end = min(begin + _CHUNK, scores.num_frames)
        chunk = scores(graph.pdfs[search.reachable_pdfs(end - begin)], begin, end)
        if not (np.abs(chunk) <= _LARGEST).all():  # false for NaN
            return BestPath(None, search.score, begin, search.reached, finite=False)
        search.advance(chunk * np.float32(acoustic_scale), begin)
    return search.finish()


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


class _Search:
    """The state of the search between two chunks of frames.

    `alive` holds the scores of the states in the present frame and the one before, less the best of the frame before
    that (`taken_off` sums these: single precision could not tell the hypotheses of an hour apart); only the states
    `low` to `high` can have any. `back` is, chunk by chunk, for each frame and each state of its window by which arc it
    was entered: 0 by its self-loop, n by the n-th of its arcs. Frame t's window begins with state `lows[t]`, at
    `back_begins[t]`.
    """

    def __init__(self, graph: TrainingGraph, logs: np.ndarray, num_frames: int, beam: np.float32) -> None:
        self._graph = graph
        self._beam = beam
        self._loop_weights = np.where(graph.loop_ids > 0, logs[graph.loop_ids], _NONE)
        self._arc_weights = graph.weights + logs[graph.transition_ids]
        self._end_weights = graph.end_weights + logs[graph.end_ids]
        self._lowest, self._highest = _extents(graph.begins, graph.sources)
        self._choice_type = np.uint8 if np.diff(graph.begins).max(initial=0) < 255 else np.uint32
        self._alive = np.full((2, graph.num_states), _NONE)
        self._low, self._high = int(graph.starts.min()), int(graph.starts.max())
        self._columns = np.zeros(len(graph.pdfs), dtype=np.int32)
        self._lows = np.zeros(num_frames, dtype=np.int32)
        self._back_begins = np.zeros(num_frames, dtype=np.int64)
        self._back: list[np.ndarray] = []
        self._back_size = 0
        self._num_frames = 0
        self._best = 0.0
        self._taken_off = 0.0
        self.reached = 0.0

    @property
    def score(self) -> float:
        """The log-probability of the best hypothesis in the last frame."""
        return self._taken_off + self._best

    def reachable_pdfs(self, num_frames: int) -> np.ndarray:
        """Indices of the pdfs that hypotheses may need in the next frames; `advance` expects just their scores."""
        self._reach = _reach(self._low, self._high, self._lowest, self._highest, num_frames)
        return _used_pdfs(self._graph.state_pdf, *self._reach, self._columns)

    def advance(self, scores: np.ndarray, begin: int) -> None:
        """Go through the frames of `scores` `(frames, reachable pdfs)`, which begin with frame `begin`."""
        graph = self._graph
        width = self._reach[1] - self._reach[0] + 1
        back, self._low, self._high, best, taken_off, furthest = _advance(
            scores, begin, self._columns, self._beam, self._alive, self._low, self._high, graph.state_pdf,
            self._loop_weights, graph.begins, graph.sources, self._arc_weights, graph.starts, graph.start_weights,
            self._lowest, self._highest, self._lows, self._back_begins,
            np.empty(len(scores) * width, dtype=self._choice_type), self._back_size)
        self._back.append(back)
        self._back_size += len(back)
        self._num_frames = begin + len(scores)
        self._best = float(best)
        self._taken_off += taken_off
        self.reached = (furthest + 1) / graph.num_states

    def finish(self) -> BestPath:
        graph, frames = self._graph, self._num_frames
        if frames == 0:
            return BestPath(None, self.score, 0, self.reached)
        last = self._alive[(frames - 1) % 2][graph.ends]
        totals = np.where(last >= np.float32(self._best) - self._beam, last + self._end_weights, _NONE)
        end = int(totals.argmax())
        if totals[end] < _NONE / 2:
            return BestPath(None, self.score, frames, self.reached)
        ids = _trace(np.concatenate(self._back), self._back_begins, self._lows, graph.begins, graph.sources,
                     graph.transition_ids, graph.loop_ids, int(graph.ends[end]), int(graph.end_ids[end]))
        return BestPath(ids, self._taken_off + float(totals[end]), frames)


@njit(nogil=True, cache=True)
def _extents(begins, sources):  # type: ignore[no-untyped-def]
    """The first and the last state that states up to (from) each one have an arc to; both ascend."""
    states = len(begins) - 1
    highest = np.arange(states)
    lowest = np.arange(states)
    for j in range(states):
        for a in range(begins[j], begins[j + 1]):
            highest[sources[a]] = max(highest[sources[a]], j)
            lowest[sources[a]] = min(lowest[sources[a]], j)
    for i in range(1, states):
        highest[i] = max(highest[i], highest[i - 1])
        lowest[states - 1 - i] = min(lowest[states - 1 - i], lowest[states - i])
    return lowest, highest


@njit(nogil=True, cache=True)
def _reach(low, high, lowest, highest, num_frames):  # type: ignore[no-untyped-def]
    for _ in range(num_frames):
        low = lowest[low]
        high = highest[high]
    return low, high


@njit(nogil=True, cache=True)
def _used_pdfs(state_pdf, low, high, columns):  # type: ignore[no-untyped-def]
    """The pdfs of the states `low` to `high`, sorted; `columns` gets the place of each."""
    columns[:] = -1
    for state in range(low, high + 1):
        columns[state_pdf[state]] = 0
    used = np.flatnonzero(columns == 0)
    columns[used] = np.arange(len(used))
    return used


@njit(nogil=True, cache=True)
def _advance(scores, begin, columns, beam, alive, low, high, state_pdf, loop_weights, begins, sources, arc_weights,  # type: ignore[no-untyped-def]
             starts, start_weights, lowest, highest, lows, back_begins, back, back_size):
    none = np.float32(-1e30)
    used = 0
    taken_off = 0.0
    for k in range(scores.shape[0]):
        t = begin + k
        current = alive[(t - 1) % 2]
        following = alive[t % 2]
        if t == 0:
            for n in range(len(starts)):
                j = starts[n]
                following[j] = max(following[j], start_weights[n] + scores[0, columns[state_pdf[j]]])
            continue
        best = none
        for i in range(low, high + 1):
            best = max(best, current[i])
        taken_off += best
        floor = best - beam
        while low < high and current[low] < floor:
            current[low] = none
            low += 1
        while high > low and current[high] < floor:
            current[high] = none
            high -= 1
        for i in range(low, high + 1):
            current[i] = none if current[i] < floor else current[i] - best
        # Arcs lead a bounded way up and down: only a window of states can be alive in a frame.
        new_low = lowest[low]
        new_high = highest[high]
        lows[t] = new_low
        back_begins[t] = back_size + used
        for j in range(new_low, new_high + 1):
            score = current[j] + loop_weights[j]
            choice = 0
            for a in range(begins[j], begins[j + 1]):
                other = current[sources[a]] + arc_weights[a]
                if other > score:
                    score = other
                    choice = a - begins[j] + 1
            back[used] = choice
            used += 1
            following[j] = score + scores[k, columns[state_pdf[j]]] if score > np.float32(-5e29) else none
        for i in range(low, high + 1):
            current[i] = none
        low = new_low
        high = new_high
    last = alive[(begin + scores.shape[0] - 1) % 2]
    best = none
    for i in range(low, high + 1):
        best = max(best, last[i])
    furthest = high
    while furthest > low and last[furthest] < best - beam:
        furthest -= 1
    return back[:used].copy(), low, high, best, taken_off, furthest


@njit(nogil=True, cache=True)
def _trace(back, back_begins, lows, begins, sources, arc_ids, loop_ids, state, leaving):  # type: ignore[no-untyped-def]
    frames = len(lows)
    result = np.empty(frames, dtype=np.int32)
    for t in range(frames - 1, 0, -1):
        choice = np.int64(back[back_begins[t] + state - lows[t]])
        if choice == 0:
            result[t] = loop_ids[state]
        else:
            arc = begins[state] + choice - 1
            result[t] = leaving
            leaving = arc_ids[arc]
            state = sources[arc]
    result[0] = leaving
    return result


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
