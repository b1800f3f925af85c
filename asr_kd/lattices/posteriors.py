"""Posteriors of a lattice's arcs and of its transition-ids in each frame: forward-backward in the log semiring."""

import numpy as np
from numba import njit

from asr_kd.lattices.lattice import Lattice


def arc_posteriors(lattice: Lattice, acoustic_scale: float, lm_scale: float = 1.0) -> tuple[np.ndarray, float]:
    """Posterior of each arc, float64 (arcs,), and the total log-likelihood over all paths.

    The score of a path is -(lm_scale · graph + acoustic_scale · acoustic), final cost included in graph. Kaldi's
    `lattice-to-post` gives the same total. A lattice without states has no arcs and the total -inf.
    """
    if lattice.num_states == 0:
        return np.zeros(0), -np.inf
    scores = arc_scores(lattice, acoustic_scale, lm_scale)
    is_final = np.isfinite(lattice.final_costs)
    finals = np.full(lattice.num_states, -np.inf)
    finals[is_final] = -lm_scale * lattice.final_costs[is_final].astype(np.float64)
    posteriors, totals = forward_backward(lattice.offsets, lattice.targets, scores, finals, 1)
    return posteriors, totals[0]


def frame_posteriors(
    lattice: Lattice, acoustic_scale: float, lm_scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors of transition-ids: frames int32 (n,), transition_ids int32 (n,), posteriors float32 (n,).

    Arcs of one frame with the same transition-id are one entry; sorted by frame, then transition-id. Entries of a
    frame sum to one, and entries whose posterior is 0 in float32 are left out. Kaldi's `lattice-to-post`.
    """
    posteriors, _ = arc_posteriors(lattice, acoustic_scale, lm_scale)
    emitting = np.flatnonzero(lattice.transition_ids)
    tids = lattice.transition_ids[emitting].astype(np.int64)
    if len(tids) == 0:
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
    width = int(tids.max()) + 1
    keys, places = np.unique(lattice.frames[lattice.sources[emitting]] * width + tids, return_inverse=True)
    sums = np.bincount(places, weights=posteriors[emitting]).astype(np.float32)
    keys, sums = keys[sums > 0], sums[sums > 0]
    return (keys // width).astype(np.int32), (keys % width).astype(np.int32), sums


def arc_scores(lattice: Lattice, acoustic_scale: float, lm_scale: float = 1.0) -> np.ndarray:
    """Log score of each arc, float64 (arcs,): -(lm_scale · graph + acoustic_scale · acoustic)."""
    graph, acoustic = lattice.graph_costs.astype(np.float64), lattice.acoustic_costs.astype(np.float64)
    return -(lm_scale * graph + acoustic_scale * acoustic)


def arcs_of_frames(lattice: Lattice) -> np.ndarray:
    """int32 (frames + 2,): the arcs that begin in frame t are those from [t] to [t + 1], in order.

    The last entry but one begins the arcs without transition-id between states of the last frame.
    """
    states = np.searchsorted(lattice.frames, np.arange(lattice.num_frames + 2))
    return lattice.offsets[states]


@njit(nogil=True, cache=True)
def forward_backward(offsets, targets, scores, finals, starts):  # type: ignore[no-untyped-def]
    """Posteriors of arcs (arcs,), and the total log-likelihood of all paths from each of the states 0 to `starts`.

    Arcs offsets[s] to offsets[s + 1] leave state s, all to states of higher numbers; log scores (arcs,) of arcs and
    (states,) of final states. Backward in logarithms; forward in probabilities, which need none: each state hands on
    what it was given. All in the type of the scores.
    """
    states = len(finals)
    backward = finals.copy()
    for s in range(states - 1, -1, -1):
        begin, end = offsets[s], offsets[s + 1]
        highest = finals[s]
        for a in range(begin, end):
            highest = max(highest, scores[a] + backward[targets[a]])
        if end - begin + (finals[s] > -np.inf) > 1 and highest > -np.inf:
            total = np.exp(finals[s] - highest)
            for a in range(begin, end):
                total += np.exp(scores[a] + backward[targets[a]] - highest)
            highest += np.log(total)
        backward[s] = highest

    posteriors = np.zeros_like(scores)
    occupancies = np.zeros_like(finals)
    for s in range(states):
        if s < starts and backward[s] > -np.inf:
            occupancies[s] = 1.0
        if occupancies[s] == 0.0:
            continue
        begin, end = offsets[s], offsets[s + 1]
        if end - begin == 1 and finals[s] == -np.inf:
            posteriors[begin] = occupancies[s]
            occupancies[targets[begin]] += occupancies[s]
            continue
        for a in range(begin, end):
            posteriors[a] = occupancies[s] * np.exp(scores[a] + backward[targets[a]] - backward[s])
            occupancies[targets[a]] += posteriors[a]
    return posteriors, backward[:starts].copy()
