"""Decoding of a whole split, and rescoring of what it kept."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.drops import Drops
from asr_kd.core.errors import WorkError
from asr_kd.core.files import atomic_file, read_json, read_lines, write_json
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.decoding.rescoring import word_sequences
from asr_kd.decoding.search import DecodingGraph, SearchConfig, SearchResult, decode
from asr_kd.lattices.store import LatticeStore, LatticeStoreWriter

HYPOTHESES, SUMMARY, WORDS = "hypotheses.jsonl", "summary.json", "words.json"

_LOG = get_logger(__name__)


def decode_split(
    graph: DecodingGraph,
    ids: Iterable[str],
    log_likelihoods_of: Callable[[str], np.ndarray],
    config: SearchConfig,
    folder: Path,
    workers: int | None = None,
    frame_shift: float = 0.01,
    max_dropped: float = 0.05,
) -> dict[str, Any]:
    """Decode every utterance and write lattices, best words (`hypotheses.jsonl`) and `summary.json` to `folder`.

    `log_likelihoods_of(id)` gives (frames, pdfs), called in the worker threads. An utterance whose scores fail
    (WorkError) or are not finite is dropped and counted, above the share `max_dropped` WorkError is raised. Returns
    the summary: drops, partial results, frames, CPU seconds of scores and search, real-time factor of the search.
    """
    ids = list(ids)
    folder = Path(folder)
    drops = Drops(len(ids), cap=max_dropped)
    partial: list[str] = []
    frames, search_seconds, score_seconds, arcs = 0, 0.0, 0.0, 0

    # Compiling the kernels at their first use is no part of the search's time.
    decode(graph, np.zeros((1, graph.num_pdfs), np.float32), config)

    def work(utterance_id: str) -> tuple[SearchResult | WorkError, float, float]:
        begin = time.thread_time()
        middle = begin
        try:
            log_likelihoods = log_likelihoods_of(utterance_id)
            middle = time.thread_time()
            result: SearchResult | WorkError = decode(graph, log_likelihoods, config)
        except WorkError as error:
            result = error
        return result, middle - begin, time.thread_time() - middle

    description = {"hmm": graph.hmm_digest, "graph": graph.digest, "search": config.model_dump()}
    with LatticeStoreWriter(folder, description) as store, atomic_file(folder / HYPOTHESES) as hypotheses:
        for utterance_id, (result, scoring, searching) in zip(
                ids, map_threads(work, ids, workers, description="decoding"), strict=True):
            score_seconds += scoring
            search_seconds += searching
            if isinstance(result, WorkError):
                drops.drop(utterance_id, getattr(result, "reason", "no log-likelihoods"), str(result))
                continue
            store.add(utterance_id, result.lattice)
            frames += result.frames
            arcs += result.lattice.num_arcs
            if not result.reached_final:
                partial.append(utterance_id)
                _LOG.warning("%s: partial result, no final state was reached", utterance_id)
            hypotheses.write(json.dumps({
                "id": utterance_id, "words": result.words, "partial": not result.reached_final,
                "frames": result.frames, "cost": round(result.cost, 4),
                "word_frames": result.word_frames,
            }, ensure_ascii=False) + "\n")
    drops.check()
    write_json(folder / WORDS, graph.words)
    summary = {
        "utterances": drops.as_dict(), "partial": partial, "frames": frames, "lattice_arcs": arcs,
        "score_cpu_seconds": round(score_seconds, 3), "search_cpu_seconds": round(search_seconds, 3),
        "search_real_time_factor": round(search_seconds / max(frames * frame_shift, frame_shift), 5),
        **description,
    }
    write_json(folder / SUMMARY, summary)
    return summary


def rescore_split(
    folder: Path,
    lm_weights: Sequence[float],
    insertion_penalties: Sequence[float],
    workers: int | None = None,
) -> dict[tuple[float, float], dict[str, list[str]]]:
    """(LM weight, insertion penalty) -> utterance -> words, from the lattices that `decode_split` kept.

    Nothing is searched again. Utterances that were dropped are absent. InputError: damaged or missing files.
    """
    store = LatticeStore.open(folder)
    words = read_json(Path(folder) / WORDS)
    weights = [(weight, penalty) for weight in lm_weights for penalty in insertion_penalties]

    def work(utterance_id: str) -> list[list[str]]:
        return word_sequences(store[utterance_id], weights, words)

    results: dict[tuple[float, float], dict[str, list[str]]] = {weight: {} for weight in weights}
    for utterance_id, sequences in zip(store.ids, map_threads(work, store.ids, workers, description="rescoring"),
                                       strict=True):
        for weight, sequence in zip(weights, sequences, strict=True):
            results[weight][utterance_id] = sequence
    return results


def read_hypotheses(folder: Path) -> dict[str, list[str]]:
    """Utterance -> best words at the search's own weights, as `decode_split` wrote them."""
    rows = [json.loads(line) for _, line in read_lines(Path(folder) / HYPOTHESES)]
    return {row["id"]: row["words"] for row in rows}
