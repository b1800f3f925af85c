"""The quality of a decoded split's lattices: errors of their best paths, and of those nearest to the reference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.files import read_json
from asr_kd.core.parallel import map_threads
from asr_kd.decoding.split import HYPOTHESES, SUMMARY, open_decoded
from asr_kd.lattices.oracle import oracle_errors
from asr_kd.scoring.wer import total_errors


@dataclass(frozen=True)
class LatticeQuality:
    """wer: of the best paths, by the weights of the search; oracle_wer: of the paths nearest to the transcripts; both
    in percent. arcs_per_frame: of word lattices; bytes: on disk."""

    utterances: int
    wer: float
    oracle_wer: float
    arcs_per_frame: float
    bytes: int


def lattice_quality(
    folders: Sequence[Path], transcripts: Mapping[str, Sequence[str]], workers: int | None = None
) -> LatticeQuality:
    """That of the lattices in folders of `decode_split`; transcripts: the words of each of their utterances."""
    counts = np.zeros(4, np.int64)  # utterances, words said, errors of best paths, of nearest paths
    for folder in folders:
        with open(folder / HYPOTHESES, encoding="utf-8") as lines:
            found = {line["id"]: line["words"] for line in map(json.loads, lines)}
        said = {name: list(transcripts[name]) for name in found}
        store, words = open_decoded(folder)
        number = {word: index for index, word in enumerate(words)}

        def nearest(name: str, store=store, number=number) -> int:  # type: ignore[no-untyped-def]
            reference = [number.get(word, -1) for word in transcripts[name]]
            return oracle_errors(store.word_lattice(name), reference).errors

        counts += (len(said), sum(map(len, said.values())), total_errors(said, found),
                   sum(map_threads(nearest, store.ids, workers, "oracle")))
    summaries = [read_json(folder / SUMMARY) for folder in folders]
    frames, arcs, size = (sum(values) for values in zip(*(
        (one["frames"], one["lattices"]["arcs"], one["lattices"]["bytes"]) for one in summaries), strict=True))
    utterances, said_words, errors, oracle = counts.tolist()
    return LatticeQuality(utterances, round(100 * errors / max(said_words, 1), 2),
                          round(100 * oracle / max(said_words, 1), 2), round(arcs / max(frames, 1), 3), size)
