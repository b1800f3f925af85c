"""Criteria of a small lattice by enumeration of its paths."""

import numpy as np
import torch

from asr_kd.lattices.lattice import Lattice
from asr_kd.sequence.accuracies import TransitionTable
from tests.lattices.random_lattice import paths_of

NUM_PDFS = 5
# Transition-ids 1 to 8 (those of random_lattice): pdfs, phones, silence.
TABLE = TransitionTable(
    np.array([-1, 0, 1, 2, 3, 4, 0, 1, 2], np.int32), np.array([0, 1, 1, 2, 2, 3, 3, 4, 4], np.int32),
    np.array([0, 1, 1, 0, 0, 0, 0, 1, 1], bool))


def path_scores(
    lattice: Lattice, log_likelihoods: np.ndarray, scale: float
) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """The arcs of each path, and its log score."""
    paths = [(arcs, graph) for arcs, graph, _, _ in paths_of(lattice)]
    frames = np.minimum(lattice.frames[lattice.sources], len(log_likelihoods) - 1)
    heard = log_likelihoods[frames, TABLE.pdfs[lattice.transition_ids]]
    acoustic = np.where(lattice.transition_ids > 0, heard, 0)
    return [arcs for arcs, _ in paths], np.array([-graph + scale * acoustic[list(arcs)].sum() for arcs, graph in paths])


def path_accuracies(
    lattice: Lattice, paths: list[tuple[int, ...]], alignment: np.ndarray, unit: str, one_silence_class: bool
) -> np.ndarray:
    """Accurate frames of each path."""
    units = TABLE.pdfs if unit == "state" else TABLE.phones

    def accurate(arc: int) -> bool:
        tid = lattice.transition_ids[arc]
        if tid == 0:
            return False
        reference = alignment[lattice.frames[lattice.sources[arc]]]
        if one_silence_class and TABLE.silent[tid] and TABLE.silent[reference]:
            return True
        return bool(units[tid] == units[reference]) and (one_silence_class or not TABLE.silent[tid])

    return np.array([sum(map(accurate, arcs)) for arcs in paths], float)


def path_errors(lattice: Lattice, paths: list[tuple[int, ...]], alignment: np.ndarray) -> np.ndarray:
    """Frames of each path in a phone of speech that is not the alignment's."""

    def wrong(arc: int) -> bool:
        tid = lattice.transition_ids[arc]
        reference = alignment[min(lattice.frames[lattice.sources[arc]], len(alignment) - 1)]
        return bool(tid > 0 and not TABLE.silent[tid] and TABLE.phones[tid] != TABLE.phones[reference])

    return np.array([sum(map(wrong, arcs)) for arcs in paths], float)


def expected(lattice: Lattice, log_likelihoods: np.ndarray, scale: float, accuracies: np.ndarray) -> float:
    """Expected accuracy, by enumeration."""
    _, scores = path_scores(lattice, log_likelihoods, scale)
    posteriors = np.exp(scores - np.logaddexp.reduce(scores))
    return float(posteriors @ accuracies)


def central_differences(function, log_likelihoods: np.ndarray, step: float = 1e-5) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Derivative of `function(log_likelihoods) -> float` by each entry."""
    gradient = np.zeros_like(log_likelihoods)
    for place in np.ndindex(*log_likelihoods.shape):
        up, down = log_likelihoods.copy(), log_likelihoods.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient


def random_scores(seed: int, frames: int) -> tuple[np.ndarray, torch.Tensor]:
    """Log-likelihoods (frames, pdfs), as an array and as a tensor that wants a gradient."""
    scores = np.random.default_rng(seed).normal(0, 3, (frames, NUM_PDFS))
    return scores, torch.from_numpy(scores.copy()).requires_grad_()
