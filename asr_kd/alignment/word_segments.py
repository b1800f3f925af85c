"""Words with times: which phones of an alignment are which word of the transcript."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr_kd.alignment.boundaries import PhoneSegments
from asr_kd.core.errors import InputError
from asr_kd.lexicon.lexicon import Lexicon, Pronunciation


@dataclass(frozen=True)
class WordSegments:
    """The words of one utterance in the order of its transcript; all arrays are `(words,)`.

    `starts` and `frames` are in frames. Word n is the phone segments `first_phones[n]` to `first_phones[n] +
    num_phones[n]`, its `pronunciations[n]`-th pronunciation in the lexicon. Phones of no word are optional silence.
    """

    starts: np.ndarray
    frames: np.ndarray
    first_phones: np.ndarray
    num_phones: np.ndarray
    pronunciations: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)


def word_segments(segments: PhoneSegments, words: Sequence[int], lexicon: Lexicon) -> WordSegments:
    """The word segments of aligned phones, from the word ids of the transcript (Kaldi's `lattice-align-words`).

    The phones are read as the most probable sequence of optional silences and pronunciations of just these words.
    That is the reading of the best path itself, with phones that carry their position and with those that do not:
    readings of the same phones have the same acoustic score. InputError where the phones do not spell the words.
    """
    phones = segments.phones.tolist()
    choices = _most_probable_reading(phones, words, lexicon)
    if choices is None:
        spelt = " ".join(lexicon.phones.symbols[p] for p in phones[:12])
        raise InputError(f"the aligned phones ({spelt}{' ...' if len(phones) > 12 else ''}) do not spell "
                         f"{' '.join(lexicon.words[w] for w in words) or 'silence'!r} in this lexicon; the alignment "
                         "belongs to another transcript or lexicon")
    first = np.array([begin for begin, _, _ in choices], dtype=np.int32)
    length = np.array([n for _, n, _ in choices], dtype=np.int32)
    edges = np.append(segments.starts, segments.starts[-1:] + segments.frames[-1:])
    starts = edges[first]
    return WordSegments(starts, (edges[first + length] - starts).astype(np.int32), first, length,
                        np.array([which for _, _, which in choices], dtype=np.int32))


def _most_probable_reading(phones: Sequence[int], words: Sequence[int], lexicon: Lexicon
                           ) -> list[tuple[int, int, int]] | None:
    """For each word (first phone, number of phones, pronunciation)."""
    silence = lexicon.phones.optional_silence
    log_silence, log_none = math.log(lexicon.silence_probability), math.log(1.0 - lexicon.silence_probability)
    # Number of phones read, up to the end of a word -> the log-probability of the best reading.
    ends = {0: 0.0}
    back: list[dict[int, tuple[int, int, int, int]]] = []
    for word in words:
        begins = _past_silence(ends, phones, silence, log_none, log_silence)
        following: dict[int, float] = {}
        steps: dict[int, tuple[int, int, int, int]] = {}
        for number, pronunciation in enumerate(_pronunciations(word, lexicon)):
            spelling = pronunciation.phones
            log_prob = math.log(pronunciation.probability)
            for begin, (score, previous) in begins.items():
                end = begin + len(spelling)
                if tuple(phones[begin:end]) == spelling and score + log_prob > following.get(end, -math.inf):
                    following[end] = score + log_prob
                    steps[end] = (previous, begin, len(spelling), number)
        ends = following
        back.append(steps)
    if not words:
        return [] if list(phones) == [silence] else None
    done = _past_silence(ends, phones, silence, log_none, log_silence)
    if len(phones) not in done:
        return None
    choices = []
    at = done[len(phones)][1]
    for steps in reversed(back):
        at, begin, length, number = steps[at]
        choices.append((begin, length, number))
    return choices[::-1]


def _past_silence(ends: dict[int, float], phones: Sequence[int], silence: int, log_none: float, log_silence: float
                  ) -> dict[int, tuple[float, int]]:
    """Return where the next word may begin: index into `phones` -> (log-probability, end of the word before)."""
    begins: dict[int, tuple[float, int]] = {}
    for end, score in ends.items():
        options = [(end, score + log_none)]
        if end < len(phones) and phones[end] == silence:
            options.append((end + 1, score + log_silence))
        for begin, total in options:
            if begin not in begins or total > begins[begin][0]:
                begins[begin] = (total, end)
    return begins


def _pronunciations(word: int, lexicon: Lexicon) -> list[Pronunciation]:
    if not 0 < word < len(lexicon.words):
        raise InputError(f"word id {word} is not in the lexicon (1..{len(lexicon.words) - 1})")
    return lexicon.pronunciations_of[word]
