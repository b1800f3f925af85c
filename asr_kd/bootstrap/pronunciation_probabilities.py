"""Probabilities of pronunciations and of optional silence, from how often alignments chose them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.alignment.boundaries import phone_segments
from asr_kd.alignment.word_segments import word_segments
from asr_kd.core.errors import InputError
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon


@dataclass(frozen=True)
class PronunciationCounts:
    """`counts` (pronunciations of the lexicon,), in its order; `silences` of `places` where one may be."""

    counts: np.ndarray
    silences: int
    places: int


def estimate_pronunciation_probabilities(
    model: HmmModel, alignments: Mapping[str, np.ndarray], transcripts: Mapping[str, Sequence[str]],
    smoothing: float = 1.0, map_unknown: bool = False,
) -> tuple[Lexicon, PronunciationCounts]:
    """The model's lexicon with estimated probabilities, and the counts.

    Each pronunciation is given `smoothing` counts beforehand; the likeliest one of each word gets probability 1, so
    that words with many pronunciations are not put at a disadvantage. The probability of silence is that of all
    places, the beginnings of utterances and the ends of words. InputError where nothing is aligned. Source: Chen, Xu,
    Wang, Povey, Khudanpur 2015; Kaldi's `dict_dir_add_pronprobs.sh`, without its silence probability for each word.
    """
    lexicon = model.lexicon
    words, _ = lexicon.word_ids({u: t for u, t in transcripts.items() if u in alignments}, map_unknown)
    if not words:
        raise InputError("no utterance has an alignment and a transcript; align the training split first")
    first = np.searchsorted([p.word for p in lexicon.pronunciations], np.arange(len(lexicon.words)))
    counts = np.zeros(len(lexicon.pronunciations), dtype=np.int64)
    silences = places = 0
    for utterance, ids in words.items():
        segments = phone_segments(alignments[utterance], model.transitions)
        found = word_segments(segments, ids, lexicon)
        np.add.at(counts, first[ids] + found.pronunciations, 1)
        silences += len(segments) - int(found.num_phones.sum())
        places += len(ids) + 1
    smoothed = counts + smoothing
    best = np.maximum.reduceat(smoothed, first[1:])
    probabilities = smoothed / best[np.array([p.word for p in lexicon.pronunciations]) - 1]
    share = (silences + smoothing) / (places + 2 * smoothing)
    return lexicon.with_probabilities(probabilities.tolist(), share), PronunciationCounts(counts, silences, places)
