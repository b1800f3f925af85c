"""Pronunciations as espeak-ng itself says the words, alone and in sentences, in a set of 40 phones."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from asr_kd.core.errors import WorkError
from data_prep.demo_voice import to_phonemes

# espeak-ng's names -> ARPAbet without stress, and AX for schwa. Accents share the phones.
_PHONES = {
    **{name: name.upper() for name in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z")},
    "D": "DH", "N": "NG", "S": "SH", "T": "TH", "Z": "ZH", "dZ": "JH", "h": "HH", "j": "Y", "tS": "CH",
    "?": "T", "n-": "AX N", "t#": "T", "t2": "T", "t[": "TH", "w#": "W", "r-": "",
    "0": "AA", "A:": "AA", "O:": "AO", "O2": "AO", "E": "EH", "I": "IH", "I#": "IH", "I2": "IH", "U": "UH", "V": "AH",
    "a": "AE", "aa": "AE", "i": "IY", "i:": "IY", "u:": "UW",
    "@": "AX", "@-": "AX", "@2": "AX", "@5": "AX", "a#": "AX", "@L": "AX L",
    "3": "ER", "3:": "ER", "VR": "ER", "IR": "ER",
    "OI": "OY", "aI": "AY", "aI2": "AY", "aI3": "AY ER", "aI@": "AY AX", "aU": "AW", "eI": "EY", "oU": "OW",
    "A@": "AA R", "O@": "AO R", "o@": "AO R", "U@": "UH R", "e@": "EH R", "i@": "IY AX", "i@3": "IY R",
}  # fmt: skip
# Stress, length of a pause, word boundaries.
_NOT_PHONES = re.compile(r"[',%=]|(?<=_):(?=_|$)|;|\|")
_LEAST_SHARE, _MOST_VARIANTS = 0.15, 3


def make_lexicon(
    words: Sequence[str], sentences: Sequence[Sequence[str]], accents: Iterable[str]
) -> list[tuple[str, str]]:
    """(word, phones) pairs, sorted; up to three pronunciations a word, the common ones over all `accents`.

    Raises WorkError for a phoneme that espeak-ng knows and this module does not.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for accent in accents:
        texts = [*([word] for word in words), *sentences]
        for text, phonemes in zip(texts, to_phonemes(accent, [" ".join(text) for text in texts]), strict=True):
            groups = phonemes.split()
            # espeak-ng says some neighbours as one ("of the"); then nobody knows which phone is whose.
            if len(groups) == len(text):
                for word, group in zip(text, groups, strict=True):
                    found[word][_to_phones(group, word)] += 1
    lexicon = []
    for word in words:
        variants = [(phones, count) for phones, count in found[word].most_common(_MOST_VARIANTS) if phones]
        if not variants:
            raise WorkError(f"espeak-ng gives no pronunciation of {word!r}")
        least = _LEAST_SHARE * found[word].total()
        lexicon += [(word, phones) for phones, count in variants if count >= least or phones == variants[0][0]]
    return sorted(lexicon)


def _to_phones(group: str, word: str) -> str:
    phones = []
    for name in _NOT_PHONES.sub("", group).split("_"):
        if name and name not in _PHONES:
            raise WorkError(f"espeak-ng's phoneme {name!r} in {word!r} is not known; install another espeakng-loader")
        phones.append(_PHONES.get(name, ""))
    return re.sub(r"\bR R\b", "R", " ".join(phone for phone in phones if phone))
