"""Decoding of a whole split, and rescoring of what it kept."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import atomic_file, hash_json, read_json, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.decoding.graph import write_lexicon
from asr_kd.decoding.rescoring import word_sequences
from asr_kd.decoding.search import DecodingGraph, SearchConfig, SearchResult, decode
from asr_kd.decoding.word_times import WordTime, word_times
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.determinization import determinize_within
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.store import LatticeStore, LatticeStoreWriter
from asr_kd.lattices.word_lattice import WordLattice

HYPOTHESES, SUMMARY, WORDS = "hypotheses.jsonl", "summary.json", "words.json"
_PARTS = ("score", "search", "determinization")

_LOG = get_logger(__name__)


@dataclass(frozen=True)
class _Decoded:
    """One utterance: the search's result, what is kept of its lattice, and CPU seconds of each part."""

    result: SearchResult
    lattice: Lattice | WordLattice
    beam: float
    times: list[WordTime] | None
    seconds: np.ndarray


def decode_split(
    graph: DecodingGraph,
    ids: Iterable[str],
    log_likelihoods_of: Callable[[str], np.ndarray],
    config: SearchConfig,
    folder: Path,
    workers: int | None = None,
    frame_shift: float = 0.01,
    max_dropped: float = 0.05,
    hmm: HmmModel | None = None,
) -> dict[str, Any]:
    """Decode every utterance and write lattices, best words (`hypotheses.jsonl`) and `summary.json` to `folder`.

    `log_likelihoods_of(id)` gives (frames, pdfs), called in the worker threads. `hmm`, the model of the graph with the
    graph's lexicon (`with_lexicon_of`), which is kept with the lattices, gives the words their times in frames; a
    partial result that ends within a word has none (null). An utterance whose
    scores fail (WorkError) or are not finite is dropped and counted, above the share `max_dropped` WorkError is
    raised. Returns the summary: drops, partial results, frames, arcs and bytes of the lattices, word lattices whose
    beam had to shrink, CPU seconds of scores, search and determinisation, real-time factor of each.
    """
    ids = list(ids)
    folder = Path(folder)
    drops = Drops(len(ids), cap=max_dropped)
    partial: list[str] = []
    shrunk: dict[str, float] = {}
    frames, arcs, searched_arcs, seconds = 0, 0, 0, np.zeros(3)

    # Compiling the kernels at their first use is no part of the search's time.
    silent = np.zeros((1, graph.num_pdfs), np.float32)
    _kept(decode(graph, silent, config).lattice, config)

    def work(utterance_id: str) -> _Decoded | WorkError:
        clock = [time.thread_time()]
        try:
            log_likelihoods = log_likelihoods_of(utterance_id)
            clock.append(time.thread_time())
            result = decode(graph, log_likelihoods, config)
        except WorkError as error:
            return error
        clock.append(time.thread_time())
        lattice, beam = _kept(result.lattice, config)
        clock.append(time.thread_time())
        return _Decoded(result, lattice, beam, _times(result, hmm), np.diff(clock))

    description = {"hmm": graph.hmm_digest, "graph": graph.digest, "lm": graph.lm_digest,
                   "words": hash_json(graph.words), "frame_shift": frame_shift, "search": config.model_dump()}
    with (LatticeStoreWriter(folder, description, config.lattices) as store,
          atomic_file(folder / HYPOTHESES) as hypotheses):
        for utterance_id, found in zip(
                ids, map_threads(work, ids, workers, description="decoding"), strict=True):
            if isinstance(found, WorkError):
                reason = getattr(found, "reason", "no log-likelihoods")
                drops.drop(utterance_id, reason, str(found).removeprefix(f"{reason}: "))
                continue
            seconds += found.seconds
            store.add(utterance_id, found.lattice)
            result = found.result
            frames += result.frames
            arcs += found.lattice.num_arcs
            searched_arcs += result.lattice.num_arcs
            if found.beam < _word_beam(config):
                shrunk[utterance_id] = round(found.beam, 3)
                _LOG.warning("%s: the word lattice would be too large, its beam is %.2f", utterance_id, found.beam)
            if not result.reached_final:
                partial.append(utterance_id)
                _LOG.warning("%s: partial result, no final state was reached", utterance_id)
            hypotheses.write(json.dumps({
                "id": utterance_id, "words": result.words, "partial": not result.reached_final,
                "frames": result.frames, "cost": round(result.cost, 4),
                "word_times": None if found.times is None else [[w.start, w.frames] for w in found.times],
            }, ensure_ascii=False) + "\n")
        lattice_bytes = store.num_bytes
    drops.check()
    write_json(folder / WORDS, graph.words)
    if hmm is not None:
        write_lexicon(folder, hmm.lexicon)
    real_time = max(frames * frame_shift, frame_shift)
    summary = {
        "utterances": drops.as_dict(), "partial": partial, "frames": frames,
        "lattices": {
            "kind": config.lattices, "bytes": lattice_bytes, "arcs": arcs, "shrunk_beams": shrunk,
            "arcs_per_frame": round(arcs / max(frames, 1), 3),
            "arcs_per_frame_of_search": round(searched_arcs / max(frames, 1), 3),
        },
        **{f"{part}_cpu_seconds": round(float(spent), 3) for part, spent in zip(_PARTS, seconds, strict=True)},
        **{f"{part}_real_time_factor": round(float(spent) / real_time, 5)
           for part, spent in zip(_PARTS, seconds, strict=True)},
        **description,
    }
    write_json(folder / SUMMARY, summary)
    return summary


def _word_beam(config: SearchConfig) -> float:
    return config.lattice_beam if config.word_beam is None else config.word_beam


def _kept(lattice: Lattice, config: SearchConfig) -> tuple[Lattice | WordLattice, float]:
    """Return the lattice to store of a search, and the beam within which no word sequence is missing."""
    if config.lattices == "states":
        return lattice, _word_beam(config)
    return determinize_within(lattice, _word_beam(config), config.acoustic_scale)


def _times(result: SearchResult, hmm: HmmModel | None) -> list[WordTime] | None:
    if hmm is None:
        return None
    try:
        return word_times(result.best, hmm)
    except InputError:
        if result.reached_final:
            raise
        return None


def open_decoded(folder: Path) -> tuple[LatticeStore, list[str]]:
    """The lattices that `decode_split` kept, and the words by id. InputError: missing or damaged files."""
    store = LatticeStore.open(folder)
    words = read_json(Path(folder) / WORDS)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{Path(folder) / WORDS}: expected a list of words; decode again")
    store.num_words = len(words)
    if store.description.get("words", hash_json(words)) != hash_json(words):
        raise InputError(f"{Path(folder) / WORDS}: not the words of the lattices beside it; decode again")
    return store, words


def rescore_split(
    folder: Path,
    lm_weights: Sequence[float],
    insertion_penalties: Sequence[float],
    workers: int | None = None,
) -> dict[tuple[float, float], dict[str, list[str]]]:
    """(LM weight, insertion penalty) -> utterance -> words, from the lattices that `decode_split` kept.

    Nothing is searched again. Utterances that were dropped are absent. InputError: damaged or missing files.
    """
    store, words = open_decoded(folder)
    weights = [(weight, penalty) for weight in lm_weights for penalty in insertion_penalties]

    def work(utterance_id: str) -> list[list[str]]:
        return word_sequences(store[utterance_id], weights, words)

    results: dict[tuple[float, float], dict[str, list[str]]] = {weight: {} for weight in weights}
    for utterance_id, sequences in zip(store.ids, map_threads(work, store.ids, workers, description="rescoring"),
                                       strict=True):
        for weight, sequence in zip(weights, sequences, strict=True):
            results[weight][utterance_id] = sequence
    return results
