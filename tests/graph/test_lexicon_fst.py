"""L against an enumeration of what a lexicon allows."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from asr_kd.graph.fst import Fst
from asr_kd.graph.lexicon_fst import build_lexicon_fst
from asr_kd.lexicon.graphemes import GraphemeConfig, spell
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.lexicon.lexicon_file import Entry
from asr_kd.lexicon.sources import merge_pronunciations

P_SILENCE = 0.3

PHONES = [Entry("read", ("r", "ii1", "d"), 1.0), Entry("read", ("r", "e1", "d"), 0.6), Entry("red", ("r", "e1", "d")),
          Entry("ready", ("r", "e1", "d", "ii0")), Entry("a", ("e1",), 0.25), Entry("a", ("e0",), 1.0),
          Entry("[NOISE]", ("SPN",))]
_WORDS = ("l\u2019\u00e9t\u00e9", "\u00c9T\u00c9", "\u00e9t", "\u00e9")
GRAPHEMES = [Entry(word, spell(word, GraphemeConfig(apostrophes="keep"))) for word in _WORDS]
# "a" has one pronunciation left.
STRIPPED = merge_pronunciations(PHONES, lambda phone: phone.rstrip("01"))

Path = tuple[tuple[int, ...], tuple[str, ...]]


def enumerated(entries: list[Entry], lexicon: Lexicon, words: int) -> Iterator[tuple[Path, float]]:
    """Phone sequences (no disambiguation symbols) of up to `words` words, and the cost of each way of saying them."""
    silence = lexicon.phones.optional_silence
    for length in range(words + 1):
        for chosen in itertools.product(entries, repeat=length):
            for silences in itertools.product([False, True], repeat=length + 1):
                phones = [silence] * silences[0]
                cost = -sum(math.log(P_SILENCE if s else 1 - P_SILENCE) for s in silences)
                for entry, after in zip(chosen, silences[1:], strict=True):
                    phones += [*lexicon.phones.in_word(entry.phones)] + [silence] * after
                    cost -= math.log(entry.probability)
                yield (tuple(phones), tuple(entry.word for entry in chosen)), cost


def accepted(fst: Fst, lexicon: Lexicon, words: int) -> Iterator[tuple[tuple[int, ...], Path, float]]:
    """Input labels as they are, phones and words, and cost of each of the transducer's paths."""
    symbols = len(lexicon.phones.symbols)
    back_off = len(lexicon.words)

    def walk(state: int, labels: tuple[int, ...], spoken: tuple[str, ...], cost: float) -> Iterator:
        if np.isfinite(fst.finals[state]):
            phones = tuple(label for label in labels if label < symbols)
            yield labels, (phones, spoken), cost + float(fst.finals[state])
        for arc in fst.arcs[fst.offsets[state] : fst.offsets[state + 1]]:
            label, word = int(arc["ilabel"]), int(arc["olabel"])
            if word == back_off or len(spoken) + (word > 0) > words:
                continue
            yield from walk(int(arc["nextstate"]), (*labels, label) if label else labels,
                            (*spoken, lexicon.words[word]) if word else spoken, cost + float(arc["weight"]))

    return walk(fst.start, (), (), 0.0)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("entries", [PHONES, GRAPHEMES, STRIPPED], ids=["phones", "graphemes", "stripped"])
def test_lexicon_transducer_has_the_paths_of_its_entries_and_no_other(entries: list[Entry], positions: bool) -> None:
    config = LexiconConfig(position_dependent=positions, silence_probability=P_SILENCE)
    lexicon = Lexicon.from_entries(entries, config)
    fst = build_lexicon_fst(lexicon)
    given = {entry.word for entry in entries}
    expected: dict[Path, list[float]] = {}
    for path, cost in enumerated(entries, lexicon, 2):
        expected.setdefault(path, []).append(cost)
    found: dict[Path, list[float]] = {}
    labelled: Counter[tuple[int, ...]] = Counter()
    for labels, path, cost in accepted(fst, lexicon, 2):
        labelled[labels] += 1
        if set(path[1]) <= given:
            found.setdefault(path, []).append(cost)
    assert found.keys() == expected.keys()
    for path, costs in expected.items():
        assert sorted(found[path]) == pytest.approx(sorted(costs), abs=1e-4), path
    # With its disambiguation symbols a phone sequence says which words it is: L can be determinised.
    assert max(labelled.values()) == 1


def test_back_off_symbols_of_the_grammar_pass_between_words() -> None:
    lexicon = Lexicon.from_entries(PHONES, LexiconConfig())
    fst = build_lexicon_fst(lexicon)
    symbol = lexicon.phones.disambiguation_id(0)
    loops = [(source, int(arc["olabel"]), int(arc["nextstate"]), float(arc["weight"]))
             for source, arc in zip(fst.sources, fst.arcs, strict=True) if arc["ilabel"] == symbol]
    (source, label, target, cost), = loops
    assert source == target and np.isfinite(fst.finals[source]) and label == len(lexicon.words) and cost == 0.0
