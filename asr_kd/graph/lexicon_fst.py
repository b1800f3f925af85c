"""The lexicon L: from phones to words, with disambiguation symbols and optional silence."""

import math

from asr_kd.graph.fst import Fst
from asr_kd.lexicon.lexicon import Lexicon

_START, _LOOP, _SILENCE, _AFTER_SILENCE = 0, 1, 2, 3


def build_lexicon_fst(lexicon: Lexicon) -> Fst:
    """L: input labels are phone ids and disambiguation symbols, output labels word ids.

    Optional silence at the beginning and after each word, its end marked by the last disambiguation symbol; `#0`
    (input: phones' `#0`, output: the number of words) loops where a word may begin. As Kaldi's
    `make_lexicon_fst.py` with `fstaddselfloops`.
    """
    phones = lexicon.phones
    silence_cost = -math.log(lexicon.silence_probability)
    no_silence_cost = -math.log(1.0 - lexicon.silence_probability)
    rows: list[tuple[int, int, int, float, int]] = [
        (_START, 0, 0, no_silence_cost, _LOOP),
        (_START, 0, 0, silence_cost, _SILENCE),
        (_SILENCE, phones.optional_silence, 0, 0.0, _AFTER_SILENCE),
        (_AFTER_SILENCE, phones.disambiguation_id(lexicon.num_disambiguation), 0, 0.0, _LOOP),
        (_LOOP, phones.disambiguation_id(0), len(lexicon.words), 0.0, _LOOP),
    ]
    states = 4
    for pronunciation in lexicon.pronunciations:
        labels = list(pronunciation.phones)
        if pronunciation.disambiguation:
            labels.append(phones.disambiguation_id(pronunciation.disambiguation))
        source, word, cost = _LOOP, pronunciation.word, -math.log(pronunciation.probability)
        for label in labels[:-1]:
            rows.append((source, label, word, cost, states))
            source, word, cost = states, 0, 0.0
            states += 1
        rows.append((source, labels[-1], word, cost + no_silence_cost, _LOOP))
        rows.append((source, labels[-1], word, cost + silence_cost, _SILENCE))
    return Fst.from_lists(_START, {_LOOP: 0.0}, rows)
