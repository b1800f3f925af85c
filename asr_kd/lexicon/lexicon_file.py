"""Lexicon files: Kaldi's lexicon.txt and lexiconp.txt, and CMU's format."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file, read_lines

# Words that mean something else in symbol tables and language models.
RESERVED_WORDS = ("<eps>", "<s>", "</s>")
_VARIANT = re.compile(r"^(.+)\(\d+\)$")


class Entry(NamedTuple):
    """One pronunciation: a word, its phones without positions, and its probability in (0, 1]."""

    word: str
    phones: tuple[str, ...]
    probability: float = 1.0


def read_lexicon(path: Path) -> list[Entry]:
    """Entries of a file of `WORD PHONES`, `WORD PROBABILITY PHONES` (lexiconp) or CMU's `WORD(2) PHONES`.

    The first line says whether there are probabilities. InputError names file and line of what is wrong: a word
    without phones, a line given twice, a probability that is missing or outside (0, 1], a phone or a word that looks
    like a disambiguation symbol.
    """
    rows = [(number, line.split(" # ")[0].split()) for number, line in read_lines(path)
            if line.strip() and not line.startswith(";;;")]
    if not rows:
        raise InputError(f"{path}: no pronunciation in it")
    with_probabilities = len(rows[0][1]) > 1 and _is_number(rows[0][1][1])
    entries = [_entry(fields, with_probabilities, f"{path}:{number}") for number, fields in rows]
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
            file.write(f"{word} {probability:.6g} {' '.join(phones)}\n")


def _entry(fields: list[str], with_probabilities: bool, place: str) -> Entry:
    word, *phones = fields
    if not phones:
        raise InputError(f"{place}: word {word!r} has no phones")
    if word.startswith("#") or word in RESERVED_WORDS:
        raise InputError(f"{place}: {word!r} cannot be a word; symbol tables need it for themselves")
    probability = 1.0
    if with_probabilities:
        text = phones.pop(0)
        if not _is_number(text):
            raise InputError(f"{place}: {text!r} is no probability; expected WORD PROBABILITY PHONES, as in the first "
                             "line")
        probability = float(text)
        if not 0 < probability <= 1:
            raise InputError(f"{place}: probability {text} of {word!r} is not in (0, 1]")
        if not phones:
            raise InputError(f"{place}: word {word!r} has no phones")
    odd = next((p for p in phones if _is_number(p) or p.startswith("#") or p == "<eps>"), None)
    if odd is not None:
        raise InputError(f"{place}: {odd!r} of {word!r} cannot be a phone; expected WORD PHONES or (in every line) "
                         "WORD PROBABILITY PHONES")
    return Entry(word, tuple(phones), probability)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # "nan", "inf" and "infinity" may be phones; "1_0" is one for Python only.
    return any(c.isdigit() for c in text) and "_" not in text
