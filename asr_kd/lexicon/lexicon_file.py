"""Lexicon files: Kaldi's lexicon.txt and lexiconp.txt, and CMU's format."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.log import get_logger
from asr_kd.core.text_tables import decimal_number, read_rows

# Words that mean something else in symbol tables and language models.
RESERVED_WORDS = ("<eps>", "<s>", "</s>")
_VARIANT = re.compile(r"^(.+)\(\d+\)$")
_FRACTION = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+", re.ASCII)

logger = get_logger(__name__)


class Entry(NamedTuple):
    """One pronunciation: a word, its phones without positions, and its probability in (0, 1]."""

    word: str
    phones: tuple[str, ...]
    probability: float = 1.0


def read_lexicon(path: Path, probabilities: bool | None = None) -> list[Entry]:
    """Entries of a file of `WORD PHONES`, `WORD PROBABILITY PHONES` (lexiconp) or CMU's `WORD(2) PHONES`.

    `probabilities` says whether there is a column of them. None: there is one where the name begins with `lexiconp`
    (Kaldi's), where the first line's second field is a number with a decimal point, or where every line's is a
    number and one of them has a decimal point. Digits are phones else, as SAMPA has them (`2`, `6`, `9`). Where every
    second field is `1`, it is a probability, with a warning, unless `1` is a phone elsewhere in the file, which is
    refused.

    InputError names file and line of what is wrong: a word without phones, a line given twice, a probability that is
    missing or outside (0, 1], a phone that is a decimal fraction, a phone or a word that looks like a disambiguation
    symbol.
    """
    path = Path(path)
    rows = [(number, _without_comment(fields)) for number, fields in read_rows(path)
            if not fields[0].startswith(";;;")]
    if not rows:
        raise InputError(f"{path}: no pronunciation in it")
    if probabilities is None:
        probabilities = path.name.startswith("lexiconp") or _has_probabilities(path, [fields for _, fields in rows])
    entries = [_entry(fields, probabilities, f"{path}:{number}") for number, fields in rows]
    words = {entry.word for entry in entries}
    seen: dict[tuple[str, tuple[str, ...]], int] = {}
    for i, (number, _) in enumerate(rows):
        variant = _VARIANT.match(entries[i].word)
        if variant and variant.group(1) in words:
            entries[i] = entries[i]._replace(word=variant.group(1))
        word, phones, _ = entries[i]
        first = seen.setdefault((word, phones), number)
        if first != number:
            raise InputError(f"{path}:{number}: {word!r} as {' '.join(phones)} stands in line {first} already; "
                             "remove one of the two")
    return entries


def write_lexicon(path: Path, entries: Iterable[Entry]) -> None:
    """Write `WORD PROBABILITY PHONES` lines (lexiconp), sorted by word, a word's pronunciations in the order given."""
    with atomic_file(path) as file:
        for word, phones, probability in sorted(entries, key=lambda entry: entry.word):
            column = "1.0" if probability == 1 else f"{probability:.6g}"
            file.write(f"{word} {column} {' '.join(phones)}\n")


def _without_comment(fields: list[str]) -> list[str]:
    """The fields before CMU's ` # `."""
    return fields[:fields.index("#", 1)] if "#" in fields[1:] else fields


def _has_probabilities(path: Path, rows: list[list[str]]) -> bool:
    """Tell a column of probabilities from phones that are digits; InputError where they cannot be told apart."""
    column = [fields[1] if len(fields) > 2 else "" for fields in rows]
    if _is_fraction(column[0]):
        return True
    if not all(text == "1" or _is_fraction(text) for text in column):
        return False
    if not any(_is_fraction(text) for text in column):
        if any("1" in fields[2:] for fields in rows):
            raise InputError(f"{path}: the second field of every line is 1, a probability or a phone; write 1.0 if it "
                             "is a probability, or name the file lexiconp.txt")
        logger.warning("%s: the second field of every line is 1; read as a probability, not as a phone", path)
    return True


def _entry(fields: list[str], with_probabilities: bool, place: str) -> Entry:
    word, *phones = fields
    if not phones:
        raise InputError(f"{place}: word {word!r} has no phones")
    if word.startswith("#") or word in RESERVED_WORDS:
        raise InputError(f"{place}: {word!r} cannot be a word; symbol tables need it for themselves")
    probability = 1.0
    if with_probabilities:
        text = phones.pop(0)
        try:
            probability = decimal_number(text)
        except ValueError:
            probability = math.nan
        if math.isnan(probability):
            raise InputError(f"{place}: {text!r} is no probability; expected WORD PROBABILITY PHONES in every line")
        if not 0 < probability <= 1:
            raise InputError(f"{place}: probability {text} of {word!r} is not in (0, 1]")
        if not phones:
            raise InputError(f"{place}: word {word!r} has no phones")
    odd = next((p for p in phones if _is_fraction(p) or p.startswith("#") or p == "<eps>"), None)
    if odd is not None:
        raise InputError(f"{place}: {odd!r} of {word!r} cannot be a phone; expected WORD PHONES or (in every line) "
                         "WORD PROBABILITY PHONES")
    return Entry(word, tuple(phones), probability)


def _is_fraction(text: str) -> bool:
    """True for a number with a decimal point or an exponent, which no phone is."""
    return _FRACTION.fullmatch(text) is not None
