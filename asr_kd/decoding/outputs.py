"""Outputs from a decoded split's lattices: n-best lists, words with times and confidences, oracle errors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.parallel import map_threads
from asr_kd.data.ctm import CtmWord, write_ctm
from asr_kd.decoding.graph import with_lexicon_of
from asr_kd.decoding.n_best import n_best
from asr_kd.decoding.rescoring import best_path
from asr_kd.decoding.split import open_decoded
from asr_kd.decoding.word_times import word_times
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.minimum_bayes_risk import minimum_bayes_risk
from asr_kd.lattices.oracle import OracleErrors, oracle_errors
from asr_kd.lattices.store import LatticeStore


def n_best_split(
    folder: Path, n: int, lm_weight: float, insertion_penalty: float = 0.0, workers: int | None = None,
    hmm: HmmModel | None = None,
) -> Iterator[dict[str, Any]]:
    """For each utterance of a decoded folder its id and up to `n` hypotheses with different words, best first.

    A hypothesis has words, graph_cost, acoustic_cost (unscaled), cost (graph + acoustic / lm_weight + penalty · words)
    and, given the model `hmm`, word_times: [start, frames] in frames (None where a partial result ends within a word).
    InputError: missing or damaged files, lattices of states.
    """
    store, words = _word_lattices(folder)
    if hmm is not None:
        hmm = _with_its_lexicon(folder, store, words, hmm)

    def work(utterance_id: str) -> dict[str, Any]:
        hypotheses = []
        for path in n_best(store.word_lattice(utterance_id), n, lm_weight, insertion_penalty):
            cost = path.graph_cost + path.acoustic_cost / lm_weight + insertion_penalty * len(path.words)
            one = {"words": [words[word] for word in path.words], "cost": round(cost, 4),
                   "graph_cost": round(path.graph_cost, 4), "acoustic_cost": round(path.acoustic_cost, 4)}
            if hmm is not None:
                try:
                    one["word_times"] = [[w.start, w.frames] for w in word_times(path, hmm)]
                except InputError:
                    one["word_times"] = None
            hypotheses.append(one)
        return {"id": utterance_id, "hypotheses": hypotheses}

    return map_threads(work, store.ids, workers, description="n-best")


def write_n_best(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write what `n_best_split` gives, one JSON object a line; returns the number of utterances."""
    count = 0
    with atomic_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def timed_words(
    folder: Path, hmm: HmmModel, lm_weight: float, insertion_penalty: float = 0.0, workers: int | None = None
) -> Iterator[list[CtmWord]]:
    """For each utterance of a decoded folder its best words, with times in seconds and confidences.

    A confidence is the word's posterior in its place among all paths at these weights (Kaldi's `lattice-to-ctm-conf`);
    times are those of the words' own phones. An utterance whose path is cut off within a word has the times of the
    arcs that its words stand on. InputError: missing or damaged files, lattices of states, another model's lattices.
    """
    store, words = _word_lattices(folder)
    hmm = _with_its_lexicon(folder, store, words, hmm)
    frame_shift = float(store.description.get("frame_shift", 0.01))

    def work(utterance_id: str) -> list[CtmWord]:
        lattice = store.word_lattice(utterance_id)
        path = best_path(lattice, lm_weight, insertion_penalty)
        risk = minimum_bayes_risk(lattice, 1 / lm_weight, 1.0, insertion_penalty, path.words, decode_mbr=False)
        try:
            times = [(word.start, word.frames) for word in word_times(path, hmm)]
        except InputError:
            edges = [*path.word_frames, len(path.transition_ids)]
            times = [(begin, max(end - begin, 0)) for begin, end in zip(edges[:-1], edges[1:], strict=True)]
        return [CtmWord(utterance_id, "1", round(start * frame_shift, 9), round(frames * frame_shift, 9), words[word],
                        confidence)
                for word, (start, frames), confidence in zip(path.words, times, risk.confidences, strict=True)]

    return map_threads(work, store.ids, workers, description="word times")


def write_timed_words(path: Path, rows: Iterator[list[CtmWord]]) -> int:
    """Write what `timed_words` gives as one CTM file; returns the number of words."""
    entries = [entry for row in rows for entry in row]
    write_ctm(path, entries)
    return len(entries)


def oracle_split(
    folder: Path, references: Mapping[str, Sequence[str]], workers: int | None = None
) -> dict[str, OracleErrors]:
    """For each reference (id -> words) the least errors among all paths of its lattice; without one, all deletions.

    InputError: missing or damaged files.
    """
    store, words = open_decoded(folder)
    number = {word: i for i, word in enumerate(words)}

    def work(utterance_id: str) -> OracleErrors:
        reference = [number.get(word, -1) for word in references[utterance_id]]
        if utterance_id not in store:
            return OracleErrors(0, len(reference), 0, [])
        return oracle_errors(store[utterance_id], reference)

    ids = list(references)
    return dict(zip(ids, map_threads(work, ids, workers, description="oracle"), strict=True))


def check_model(folder: Path, store: LatticeStore, hmm: HmmModel) -> None:
    """InputError with both names where the lattices of a decoded folder are another model's."""
    if store.description.get("hmm") != hmm.digest:
        raise InputError(f"{folder}: decoded with HMM {store.description.get('hmm')}, but the model is {hmm.digest}")


def _word_lattices(folder: Path) -> tuple[LatticeStore, list[str]]:
    store, words = open_decoded(folder)
    if store.kind != "words":
        raise InputError(f"{folder}: lattices of states; decode with `lattices: words`")
    return store, words


def _with_its_lexicon(folder: Path, store: LatticeStore, words: list[str], hmm: HmmModel) -> HmmModel:
    check_model(folder, store, hmm)
    return with_lexicon_of(folder, hmm, words)
