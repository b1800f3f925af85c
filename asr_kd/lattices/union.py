"""The union of two word lattices: all paths of both."""

import numpy as np

from asr_kd.lattices.word_lattice import WordLattice


def union(first: WordLattice, second: WordLattice) -> WordLattice:
    """A lattice with the paths of both; a path in both is there twice. ValueError where their frames differ in number.

    Only the start is shared. Where it is final in both lattices, the end with the lower graph + acoustic cost is kept.
    """
    if first.num_states == 0 or second.num_states == 0:
        return second if first.num_states == 0 else first
    if first.num_frames != second.num_frames:
        raise ValueError(f"lattices of {first.num_frames} and {second.num_frames} frames")
    moved = first.num_states - 1  # what the second one's states but its start move by
    order = np.argsort(np.concatenate([first.frames, second.frames[1:]]), kind="stable")
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    second_number = np.concatenate([[0], number[moved + 1 :]]).astype(np.int32)
    sources = np.concatenate([number[first.sources], second_number[second.sources]])
    targets = np.concatenate([number[first.targets], second_number[second.targets]])
    runs = len(first.transition_ids)
    starts = [first, second]
    better = starts[int(_end_cost(second) < _end_cost(first))]

    def of_states(name: str, added: int = 0) -> np.ndarray:
        a, b = getattr(first, name), getattr(second, name)
        values = np.concatenate([a, b[1:] + np.asarray(added, b.dtype)])
        values[0] = getattr(better, name)[0] + np.asarray(added if better is second else 0, b.dtype)
        return np.ascontiguousarray(values[order])

    arcs = np.argsort(sources, kind="stable")

    def of_arcs(name: str, added: int = 0) -> np.ndarray:
        a, b = getattr(first, name), getattr(second, name)
        return np.ascontiguousarray(np.concatenate([a, b + np.asarray(added, b.dtype)])[arcs])

    counts = np.bincount(sources, minlength=len(order))
    return WordLattice(
        of_states("frames"), np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), targets[arcs],
        of_arcs("words"), of_arcs("graph_costs"), of_arcs("acoustic_costs"), of_arcs("begins", runs),
        of_arcs("ends", runs), of_states("final_graph_costs"), of_states("final_acoustic_costs"),
        of_states("final_begins", runs), of_states("final_ends", runs),
        np.concatenate([first.transition_ids, second.transition_ids]))


def _end_cost(lattice: WordLattice) -> float:
    """The cost of ending in the start, infinite where it is not final."""
    return float(lattice.final_graph_costs[0]) + float(lattice.final_acoustic_costs[0])
