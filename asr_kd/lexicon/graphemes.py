"""Graphemes as units: a pronunciation is the word's letters, in any script."""

import unicodedata
from typing import Literal

from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError

APOSTROPHES = "'\u2019\u02bc\u2018\uff07`\u00b4"
HYPHENS = "-\u2010\u2011\u2012\u2013\u00ad\u2212"
# A mark is written on this, as Unicode recommends, because it cannot stand alone.
_CARRIER = "\u25cc"


class GraphemeConfig(Config):
    """The spelling of words.

    `case`: folded (Unicode), or kept. `apostrophes` and `hyphens` (whatever their code point) are dropped, or units
    `'` and `-`. `combining_marks` that NFC does not join to their letter: units of their own (vowel signs of Indic
    scripts), joined to the letter, or dropped (pointing of Hebrew and Arabic). `digits`: how each is said, such as
    `{"1": "one"}`; words with another digit are refused.
    """

    case: Literal["fold", "keep"] = "fold"
    apostrophes: Literal["drop", "keep"] = "drop"
    hyphens: Literal["drop", "keep"] = "drop"
    combining_marks: Literal["separate", "join", "drop"] = "separate"
    digits: dict[str, str] = Field(default_factory=dict)


def spell(word: str, config: GraphemeConfig | None = None) -> tuple[str, ...]:
    """The graphemes of a word, NFC.

    InputError says which character is no letter, or that there is no letter at all. Joiners and other format
    characters have no sound and are left out.
    """
    config = config or GraphemeConfig()
    text = "".join(config.digits.get(c, c) for c in unicodedata.normalize("NFC", word))
    if config.case == "fold":
        text = unicodedata.normalize("NFC", text.casefold())
    units: list[str] = []
    letters = 0
    for character in text:
        category = unicodedata.category(character)
        if character in APOSTROPHES:
            units += ["'"] if config.apostrophes == "keep" else []
        elif character in HYPHENS:
            units += ["-"] if config.hyphens == "keep" else []
        elif category.startswith("L"):
            units.append(character)
            letters += 1
        elif category.startswith("M"):
            if config.combining_marks == "separate":
                units.append(_CARRIER + character)
            elif config.combining_marks == "join" and letters:
                units[-1] += character
        elif category == "Nd":
            raise InputError(f"{word!r} has the digit {character!r}; write it as a word, or say in `digits` how it is "
                             "spoken")
        elif category != "Cf":
            raise InputError(f"{word!r} has {character!r} (U+{ord(character):04X}), which is no letter")
    if not letters:
        raise InputError(f"{word!r} has no letter")
    return tuple(units)
