import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.alignment.boundaries import PhoneSegments
from asr_kd.alignment.word_segments import WordSegments, word_segments
from asr_kd.core.errors import InputError
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig

# Words that begin or end with others, homophones, pronunciations that are phones of silence.
ENTRIES = [("a", ["A"], 1.0), ("a", ["A", "B"], 0.6), ("b", ["B"], 0.9), ("b", ["B", "A"], 1.0), ("be", ["B"], 0.5),
           ("ab", ["A", "B"], 0.8), ("aa", ["A", "A"], 1.0), ("hush", ["SIL"], 1.0), ("hush", ["A"], 0.3),
           ("bab", ["B", "A", "B"], 1.0)]
WORDS = ["a", "b", "be", "ab", "aa", "hush", "bab"]

Reading = tuple[list[int], list[int], float]  # first phone and pronunciation of each word, log-probability


def lexicon(position_dependent: bool) -> Lexicon:
    return Lexicon.from_entries(ENTRIES, LexiconConfig(position_dependent=position_dependent, silence_probability=0.3))


def readings(words: list[int], lexicon: Lexicon) -> Iterator[tuple[tuple[int, ...], Reading]]:
    """Every phone string of a transcript and how it is read, one choice after the other."""
    p = lexicon.silence_probability
    choices = [range(len(lexicon.pronunciations_of[w])) for w in words]
    for numbers in itertools.product(*choices):
        for silences in itertools.product((False, True), repeat=len(words) + 1):
            phones: list[int] = []
            firsts, log_prob = [], 0.0
            for i, silence in enumerate(silences):
                if i:
                    pronunciation = lexicon.pronunciations_of[words[i - 1]][numbers[i - 1]]
                    firsts.append(len(phones))
                    phones.extend(pronunciation.phones)
                    log_prob += math.log(pronunciation.probability)
                phones.extend([lexicon.phones.optional_silence] if silence else [])
                log_prob += math.log(p if silence else 1 - p)
            yield tuple(phones), (firsts, list(numbers), log_prob)


def segments_of(phones: tuple[int, ...], seed: int) -> PhoneSegments:
    frames = np.random.default_rng(seed).integers(1, 9, len(phones)).astype(np.int32)
    return PhoneSegments(np.array(phones, dtype=np.int32), (np.cumsum(frames) - frames).astype(np.int32), frames)


def as_reading(found: WordSegments) -> tuple[list[int], list[int]]:
    return found.first_phones.tolist(), found.pronunciations.tolist()


@settings(deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), pick=st.integers(0, 10**6),
       position_dependent=st.booleans())
def test_words_are_the_most_probable_reading_of_the_phones(words: list[str], pick: int, position_dependent: bool
                                                           ) -> None:
    own = lexicon(position_dependent)
    ids = [own.word_id[w] for w in words]
    every = list(readings(ids, own))
    phones, _ = every[pick % len(every)]
    segments = segments_of(phones, pick)
    found = word_segments(segments, ids, own)
    possible = {(tuple(r[0]), tuple(r[1])): r[2] for p, r in every if p == phones}
    firsts, numbers = as_reading(found)
    assert possible[tuple(firsts), tuple(numbers)] == pytest.approx(max(possible.values()))
    # Words begin and end with their phones and do not overlap; what lies between them is optional silence.
    silent = np.ones(len(segments), dtype=bool)
    for first, count, start, frames in zip(found.first_phones, found.num_phones, found.starts, found.frames,
                                           strict=True):
        assert silent[first : first + count].all()
        silent[first : first + count] = False
        assert start == segments.starts[first] and frames == segments.frames[first : first + count].sum()
    assert (np.diff(found.first_phones) > 0).all()
    assert (segments.phones[silent] == own.phones.optional_silence).all()


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), pick=st.integers(0, 10**6))
def test_positions_leave_only_one_reading(words: list[str], pick: int) -> None:
    own = lexicon(True)
    ids = [own.word_id[w] for w in words]
    every = list(readings(ids, own))
    phones, (firsts, numbers, _) = every[pick % len(every)]
    assert as_reading(word_segments(segments_of(phones, pick), ids, own)) == (firsts, numbers)


def test_a_pronunciation_that_the_path_took_is_told_from_the_words_around_it() -> None:
    own = lexicon(False)
    a, b = own.word_id["a"], own.word_id["b"]
    ids = own.phones.ids
    # A B A: "a b" is A + B A (1.0 · 1.0) rather than A B + ... , which is no word b.
    found = word_segments(segments_of((ids["A"], ids["B"], ids["A"]), 0), [a, b], own)
    assert found.num_phones.tolist() == [1, 2]
    # A B B: only A B + B.
    found = word_segments(segments_of((ids["A"], ids["B"], ids["B"]), 0), [a, b], own)
    assert found.num_phones.tolist() == [2, 1]


def test_an_empty_transcript_is_silence() -> None:
    own = lexicon(True)
    assert len(word_segments(segments_of((own.phones.optional_silence,), 0), [], own)) == 0


@pytest.mark.parametrize("phones", [["A_S", "A_S"], ["SIL", "SIL", "A_S"], ["B_S"], [], ["A_B"]])
def test_phones_of_another_transcript_are_refused(phones: list[str]) -> None:
    own = lexicon(True)
    ids = tuple(own.phones.ids[p] for p in phones)
    with pytest.raises(InputError, match="do not spell 'a' in this lexicon"):
        word_segments(segments_of(ids, 0), [own.word_id["a"]], own)
    with pytest.raises(InputError, match="word id 99"):
        word_segments(segments_of(ids, 0), [99], own)


def test_words_of_kaldis_phones_are_kaldis_words(shared: Path) -> None:
    corpus, golden = shared / "corpora/speechocean762", shared / "golden/kaldi_align"
    own = Lexicon.read(corpus / "lexicon/lexicon.txt")
    phones, words = read(golden / "dev_phones.ctm"), read(golden / "dev_words.ctm")
    transcripts = {u: text.split() for u, _, text in (
        line.partition(" ") for line in (corpus / "dev/text").read_text().splitlines())}
    assert len(phones) == 997
    compared = 0
    for utterance, rows in phones.items():
        segments = PhoneSegments(np.array([own.phones.ids[p] for _, _, p in rows], dtype=np.int32),
                                 np.array([a for a, _, _ in rows]), np.array([n for _, n, _ in rows]))
        found = word_segments(segments, [own.word_id[w] for w in transcripts[utterance]], own)
        assert list(zip(found.starts.tolist(), found.frames.tolist(), transcripts[utterance], strict=True)
                    ) == words[utterance]
        compared += len(found)
    assert compared == 6367


def read(path: Path) -> dict[str, list[tuple[int, int, str]]]:
    """A CTM in frames: utterance -> (start, length, label)."""
    rows: dict[str, list[tuple[int, int, str]]] = {}
    for line in path.read_text().splitlines():
        utterance, _, start, duration, label = line.split()
        rows.setdefault(utterance, []).append((round(100 * float(start)), round(100 * float(duration)), label))
    return rows
