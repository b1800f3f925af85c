"""Beam search over a log-likelihood matrix: the best words and a lattice of what competes with them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from pydantic import Field

from asr_kd.core.bounds import AcousticScale, Beam, LatticeBeam
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError, WorkError
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.rescoring import BestPath, best_path
from asr_kd.decoding.search_kernel import search
from asr_kd.lattices.lattice import Lattice

__all__ = ["DecodingGraph", "SearchConfig", "SearchError", "SearchResult", "decode"]


# Costs are sums in single precision: of larger scores they would keep nothing.
_LARGEST = 1e9


class SearchError(WorkError):
    """One utterance cannot be searched; `reason` is a short fixed phrase for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class SearchConfig(Config):
    """Kaldi's names and meanings (`gmm-latgen-faster`); beams are in units of scaled cost.

    lattices: what a decoded split keeps, determinised word lattices or all of the search's states and arcs, tens of
    times larger; word_beam: within it of the best path every word sequence of the search's lattice is in the word
    lattice (default: lattice_beam).
    """

    beam: Beam = 11.0
    max_active: int = Field(default=2500, ge=2, le=100_000_000)
    min_active: int = Field(default=200, ge=0, le=100_000_000)
    lattice_beam: LatticeBeam = 6.0
    acoustic_scale: AcousticScale = 0.083333
    prune_interval: int = Field(default=25, ge=1, le=10_000)
    beam_delta: Beam = 0.5
    lattices: Literal["words", "states"] = "words"
    word_beam: LatticeBeam | None = None


@dataclass(frozen=True)
class SearchResult:
    """The search of one utterance.

    words: of the best path; best: that path; lattice: all paths within the lattice beam; reached_final: false for a
    partial result (no final state was active at the end, or no token survived until then); cost: graph +
    acoustic_scale · acoustic of the best path; frames: frames decoded (fewer than given where no token survived).
    """

    words: list[str]
    best: BestPath
    lattice: Lattice
    reached_final: bool
    cost: float
    frames: int


def decode(graph: DecodingGraph, log_likelihoods: np.ndarray, config: SearchConfig | None = None) -> SearchResult:
    """Search the best paths of `graph` for log_likelihoods (frames, pdfs).

    Frame-synchronous token passing as Kaldi's LatticeFasterDecoder. InputError: another number of pdfs than
    the graph's. SearchError: no frames, values that are not finite (or beyond 1e9).
    """
    config = config or SearchConfig()
    scores = _checked(graph, log_likelihoods)
    states, token_begins, sources, targets, arcs, final_costs, reached_final, cost, frames = search(
        graph.begins, graph.arc_ints, graph.arc_floats, graph.levels, int(graph.levels.max()) + 1, graph.finals,
        graph.start, scores, config.acoustic_scale, config.beam, config.max_active, config.min_active,
        config.lattice_beam, config.prune_interval, config.beam_delta)
    lattice = Lattice(*_assemble(
        states, token_begins, sources, targets, arcs, final_costs, graph.levels, graph.arc_ints, graph.arc_floats,
        graph.transition_ids, scores))
    best = best_path(lattice, 1.0 / config.acoustic_scale, 0.0)
    return SearchResult([graph.words[word] for word in best.words], best, lattice,
                        bool(reached_final), float(cost), int(frames))


def _checked(graph: DecodingGraph, log_likelihoods: np.ndarray) -> np.ndarray:
    if log_likelihoods.ndim != 2 or log_likelihoods.shape[1] != graph.num_pdfs:
        raise InputError(f"log-likelihoods of shape {log_likelihoods.shape}, the graph {graph.path} has "
                         f"{graph.num_pdfs} pdfs; decode with the graph of this model")
    if len(log_likelihoods) == 0:
        raise SearchError("no frames", "the utterance is shorter than a frame")
    usable = np.abs(log_likelihoods) <= _LARGEST  # false for NaN
    if not usable.all():
        frame, pdf = np.argwhere(~usable)[0]
        raise SearchError("log-likelihoods out of range", f"frame {frame}, pdf {pdf} has "
                          f"{log_likelihoods[frame, pdf]:g}, expected at most {_LARGEST:g} from 0; the model or its "
                          "input is broken")
    return np.ascontiguousarray(log_likelihoods, np.float32)


@njit(nogil=True, cache=True)
def _assemble(  # type: ignore[no-untyped-def]
    states, token_begins, sources, targets, link_arcs, final_costs, levels, arc_ints, arc_floats, transition_ids,
    log_likelihoods,
):
    """The arrays of a Lattice: tokens sorted by frame and epsilon level, links by their source."""
    num_tokens, num_links = len(states), len(sources)
    rank = np.empty(num_tokens, np.int32)
    frames = np.empty(num_tokens, np.int32)
    finals = np.full(num_tokens, np.inf, np.float32)
    for frame in range(len(token_begins) - 1):
        begin, end = token_begins[frame], token_begins[frame + 1]
        highest = 0
        for token in range(begin, end):
            highest = max(highest, levels[states[token]])
        number = begin
        for level in range(highest + 1):
            for token in range(begin, end):
                if levels[states[token]] == level:
                    rank[token] = number
                    frames[number] = frame
                    number += 1
    first_final = num_tokens - len(final_costs)
    for token in range(first_final, num_tokens):
        finals[rank[token]] = final_costs[token - first_final]

    offsets = np.zeros(num_tokens + 1, np.int32)
    for link in range(num_links):
        offsets[rank[sources[link]] + 1] += 1
    offsets = np.cumsum(offsets).astype(np.int32)
    position = offsets.copy()
    to = np.empty(num_links, np.int32)
    tids = np.empty(num_links, np.int32)
    words = np.empty(num_links, np.int32)
    graph_costs = np.empty(num_links, np.float32)
    acoustic_costs = np.zeros(num_links, np.float32)
    for link in range(num_links):
        source, arc = rank[sources[link]], link_arcs[link]
        place = position[source]
        position[source] += 1
        to[place] = rank[targets[link]]
        tids[place] = transition_ids[arc]
        words[place] = arc_ints[arc, 1]
        graph_costs[place] = arc_floats[arc, 2]
        if arc_ints[arc, 0] >= 0:
            acoustic_costs[place] = -log_likelihoods[frames[source], arc_ints[arc, 0]]
    return frames, offsets, finals, to, tids, words, graph_costs, acoustic_costs
