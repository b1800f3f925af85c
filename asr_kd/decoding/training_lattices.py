"""Lattices of training speech for sequence training: what competes with the transcript, and the transcript itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.core.drops import Drops
from asr_kd.core.files import read_json
from asr_kd.core.parallel import map_threads
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.numerators import arcs_saying, numerator_path, transition_pdfs, with_scores
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import SUMMARY, open_decoded
from asr_kd.lattices.oracle import lattice_statistics
from asr_kd.lattices.store import LatticeStoreWriter
from asr_kd.lattices.training_lattices import TrainingUtterance, write_utterances
from asr_kd.lattices.union import union
from asr_kd.lattices.word_lattice import WordLattice


@dataclass(frozen=True)
class TrainingSpeech:
    """The references of the utterances: transcripts (words), pdf-ids of the forced alignments int (frames,), and
    log-likelihoods (frames, pdfs) of the model whose lattices these are. A word that the graph lacks was aligned as
    `unknown_word`."""

    transcripts: Mapping[str, Sequence[str]]
    pdf_ids: Mapping[str, np.ndarray]
    log_likelihoods_of: Callable[[str], np.ndarray]
    unknown_word: str = "<UNK>"


def with_numerators(
    decoded: Sequence[tuple[Path, DecodingGraph]], speech: TrainingSpeech, search: SearchConfig, folder: Path,
    description: dict[str, Any], max_arcs: int, max_dropped: float = 0.05, workers: int | None = None,
) -> dict[str, Any]:
    """Write the lattices of the folders `decoded` (of `decode_split`, each with its graph) to one store in `folder`.

    Where a lattice has no path with the transcript's words and the pdfs of its forced alignment, that path of the
    same graph, with its graph costs, is put into it. Empty lattices, those whose search did not come to an end and
    those of more than `max_arcs` arcs at the state level are dropped, and counted with what the search dropped.
    Returns the summary: drops, utterances whose numerator was added or has no path, arcs per frame, bytes.
    """
    drops = _drops_of_search([part for part, _ in decoded], max_dropped)
    utterances: dict[str, TrainingUtterance] = {}
    added: list[str] = []
    without: list[str] = []
    word_arcs = 0
    with LatticeStoreWriter(folder, description) as writer:
        for part, graph in decoded:
            store, words = open_decoded(part)
            number = {word: index for index, word in enumerate(words)}
            partial = set(read_json(part / SUMMARY)["partial"])
            pdfs = transition_pdfs(graph)

            def work(  # type: ignore[no-untyped-def]
                name: str, store=store, graph=graph, number=number, pdfs=pdfs
            ) -> _Finished:
                unknown = number.get(speech.unknown_word, -1)
                aligned = [number.get(word, unknown) for word in speech.transcripts[name]]
                return _finish(store.word_lattice(name), graph, pdfs, speech, name, aligned, search)

            for name, found in zip(store.ids, map_threads(work, store.ids, workers, "numerators"), strict=True):
                statistics = lattice_statistics(found.lattice)
                arcs = round(statistics["depth"] * statistics["frames"])
                frames = speech.pdf_ids[name].shape[0] if name in speech.pdf_ids else found.lattice.num_frames
                if found.lattice.num_states == 0 or arcs == 0:
                    drops.drop(name, "empty lattice")
                elif found.lattice.num_frames != frames:
                    drops.drop(name, "search ended early", f"{found.lattice.num_frames} of {frames} frames")
                elif name in partial:
                    drops.drop(name, "search reached no final state")
                elif arcs > max_arcs:
                    drops.drop(name, "oversized lattice", f"{arcs} arcs")
                else:
                    writer.add(name, found.lattice)
                    utterances[name] = TrainingUtterance(frames, arcs, found.numerator_cost)
                    word_arcs += found.lattice.num_arcs
                    if found.added:
                        added.append(name)
                    if found.numerator_cost is None:
                        without.append(name)
        size = writer.num_bytes
    drops.check()
    write_utterances(folder, utterances)
    frames = sum(utterance.frames for utterance in utterances.values())
    return {
        "utterances": drops.as_dict(), "numerators_added": added, "without_numerator": without, "frames": frames,
        "arcs": word_arcs, "arcs_per_frame": round(word_arcs / max(frames, 1), 3),
        "state_arcs_per_frame": round(sum(u.arcs for u in utterances.values()) / max(frames, 1), 2), "bytes": size,
    }


def _drops_of_search(parts: Sequence[Path], cap: float) -> Drops:
    """Return the drops of `decode_split`."""
    found = [read_json(part / SUMMARY)["utterances"] for part in parts]
    drops = Drops(sum(one["total"] for one in found), cap=cap)
    for one in found:
        for reason, items in one["items"].items():
            for item in items:
                drops.drop(item["id"], reason, item["detail"])
    return drops


@dataclass(frozen=True)
class _Finished:
    lattice: WordLattice
    added: bool
    numerator_cost: float | None


def _finish(
    lattice: WordLattice, graph: DecodingGraph, pdfs: np.ndarray, speech: TrainingSpeech, name: str,
    words: list[int], search: SearchConfig,
) -> _Finished:
    pdf_ids = speech.pdf_ids.get(name)
    if pdf_ids is None or lattice.num_frames != len(pdf_ids):
        return _Finished(lattice, False, None)
    path = numerator_path(graph, words, pdf_ids, search)
    if path is None:
        return _Finished(lattice, False, None)
    cost = float(path.graph_costs.sum(dtype=np.float64) + path.final_costs[-1])
    missing = arcs_saying(lattice.expand(), words, pdf_ids, pdfs) is None
    if missing:
        scores = speech.log_likelihoods_of(name)[np.arange(len(pdf_ids)), pdf_ids]
        lattice = union(lattice, with_scores(path, scores))
    return _Finished(lattice, missing, cost)
