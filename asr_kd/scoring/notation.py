"""NIST's notation in STM and trn references: alternatives `{ a / b c / @ }` and optionally deletable words `(uh)`.

A reference with notation stands for many readings. It is scored by the one that costs least against the hypothesis,
as sclite does it (`-D` for optionally deletable words): a null word `@` costs nothing, and an optionally deletable
word that was not recognised counts as a correct word. Braces and slashes are notation where they stand alone
(`{lbyt` is a word of Buckwalter's transliteration).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.scoring.sclite import check_size
from asr_kd.scoring.text_filter import TextFilter
from asr_kd.scoring.wer import Alignment, Words, first_ids

logger = get_logger(__name__)

OptionalWords = Literal["refuse", "deletable", "literal"]

_NULL = "@"
_MARKS = {"{", "/", "}"}
_DEEPEST = 20
_MOST_WORDS = 50_000
_MOST_CELLS = 1 << 25
_HEAD = 0
_DIAGONAL, _DELETION, _INSERTION = range(3)
# Substitution, insertion or deletion, deletion of an optional word, of a null word; sclite's in thousandths. With unit
# costs the fewest errors decide, then the fewest words that are left out.
_COSTS: dict[Alignment, tuple[int, int, int, int]] = {"sclite": (4000, 3000, 2000, 1), "unit": (10**6, 10**6, 100, 1)}


class DeletedWord(str):
    """An optionally deletable word that was not recognised; it stands in the hypothesis too, and so is correct."""

    __slots__ = ()


@dataclass
class _Network:
    """Words in an order in which each comes after those that may stand before it; word 0 is the begin."""

    words: list[str] = field(default_factory=lambda: [""])
    optional: list[bool] = field(default_factory=lambda: [False])
    before: list[list[int]] = field(default_factory=lambda: [[]])
    ends: list[int] = field(default_factory=list)

    def append(self, token: str, before: list[int], deletable: bool) -> list[int]:
        optional = deletable and is_optional(token)
        self.words.append(token[1:-1] if optional else token)
        self.optional.append(optional)
        self.before.append(before)
        return [len(self.words) - 1]


def is_optional(token: str) -> bool:
    """True for `(word)`."""
    return len(token) > 2 and token.startswith("(") and token.endswith(")")


def has_notation(words: Words, optional: OptionalWords) -> bool:
    """True where a reference has alternatives, or words in brackets that are not taken literally."""
    return "{" in words or (optional != "literal" and any(map(is_optional, words)))


def check_notation(texts: Mapping[str, Words], optional: OptionalWords, place: str) -> frozenset[str]:
    """The utterances with notation. InputError: one that cannot be parsed, and `(uh)` where that is refused."""
    notation = frozenset(
        utterance for utterance, words in texts.items() if has_notation(words, optional)
    )
    for utterance in sorted(notation):
        words = texts[utterance]
        if len(words) > _MOST_WORDS:
            raise InputError(f"{place}: utterance {utterance}: {len(words)} words with alternatives or optional words "
                             f"are more than {_MOST_WORDS}; score them in segments, as STM")
        bracketed = next(filter(is_optional, words), None)
        if bracketed is not None and optional == "refuse":
            raise InputError(
                f"{place}: utterance {utterance}: {bracketed} is NIST's notation of an optionally deletable word; say "
                "by --optional-words deletable that it counts as correct where it is not recognised (sclite -D), or "
                "by --optional-words literal that it is a word as it stands"
            )
        try:
            _parse(words, optional == "deletable")
        except InputError as error:
            raise InputError(f"{place}: utterance {utterance}: {error}") from None
    return notation


def first_reading(words: Words) -> list[str]:
    """The first of all alternatives, null words left out, optional words with their brackets."""
    network = _parse(words, deletable=False)
    path = [network.ends[0]]
    while path[-1] != _HEAD:
        path.append(network.before[path[-1]][0])
    return [network.words[number] for number in path[-2::-1] if network.words[number] != _NULL]


def nearest_reading(
    reference: Words, hypothesis: Words, alignment: Alignment, deletable: bool
) -> tuple[list[str], list[str]]:
    """The reading of `reference` that costs least, and the hypothesis with the optional words that it lacks.

    An optional word that was not recognised is a `DeletedWord` in both lists: aligned, the two give sclite's counts.
    The first of equally good readings is taken. InputError: too many words.
    """
    network = _parse(reference, deletable)
    check_size(len(network.words), len(hypothesis), _MOST_CELLS)
    steps, chosen, end = _cheapest_paths(network, hypothesis, *_COSTS[alignment])
    spoken: list[str] = []
    recognised: list[str] = []
    number, j = end, len(hypothesis)
    while number != _HEAD or j > 0:
        step = _INSERTION if number == _HEAD else steps[number, j]
        if step == _INSERTION:
            j -= 1
            recognised.append(hypothesis[j])
            continue
        word = network.words[number]
        before = network.before[number][chosen[number, j - (step == _DIAGONAL)]]
        if step == _DIAGONAL:
            j -= 1
            spoken.append(word)
            recognised.append(hypothesis[j])
        elif network.optional[number]:
            deleted = DeletedWord(f"({word})")
            spoken.append(deleted)
            recognised.append(deleted)
        elif word != _NULL:
            spoken.append(word)
        number = before
    return spoken[::-1], recognised[::-1]


def _cheapest_paths(
    network: _Network, hypothesis: Words, substitution: int, gap: int, deletion_of_optional: int, deletion_of_null: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16], int]:
    """The step into each cell (words, hypothesis + 1), which of the words before it leads there, and the last word."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys(hypothesis))}
    recognised = np.array([numbers[word] for word in hypothesis], np.int64)
    ramp = gap * np.arange(len(hypothesis) + 1, dtype=np.int64)
    costs = np.empty((len(network.words), len(hypothesis) + 1), np.int64)
    costs[_HEAD] = ramp
    steps = np.full(costs.shape, _DELETION, np.uint8)
    chosen = np.zeros(costs.shape, np.uint16)
    for number in range(1, len(network.words)):
        word = network.words[number]
        previous = costs[network.before[number]]
        chosen[number] = previous.argmin(axis=0)
        cheapest = previous.min(axis=0)
        different = 2 * gap + substitution if word == _NULL else substitution
        diagonal = cheapest[:-1] + np.where(recognised == numbers.get(word, -1), 0, different)
        deleting = deletion_of_null if word == _NULL else deletion_of_optional if network.optional[number] else gap
        deletion = cheapest + deleting
        # A run of insertions costs the same per word, so that the cheapest start of one is a running minimum.
        entered = np.concatenate((deletion[:1], np.minimum(diagonal, deletion[1:])))
        costs[number] = np.minimum.accumulate(entered - ramp) + ramp
        insertion = costs[number, :-1] + gap
        gaps = np.where(deletion[1:] < insertion, _DELETION, _INSERTION)
        steps[number, 1:] = np.where((diagonal <= deletion[1:]) & (diagonal <= insertion), _DIAGONAL, gaps)
    ends = costs[network.ends, -1]
    return steps, chosen, network.ends[int(ends.argmin())]


def _parse(words: Words, deletable: bool) -> _Network:
    network = _Network()
    ends, rest = _parse_sequence(network, words, 0, [_HEAD], deletable, depth=0)
    if rest < len(words):
        raise InputError(f"{words[rest]!r} stands outside of alternatives {{ a / b }}")
    network.ends = ends
    return network


def _parse_sequence(
    network: _Network, words: Words, begin: int, before: list[int], deletable: bool, depth: int
) -> tuple[list[int], int]:
    """Append words from `begin` up to a mark of an alternative around them; the last words, and where the mark is."""
    while begin < len(words) and words[begin] not in ("/", "}"):
        if words[begin] == "{":
            before, begin = _parse_alternatives(network, words, begin + 1, before, deletable, depth + 1)
        else:
            before = network.append(words[begin], before, deletable)
            begin += 1
    return before, begin


def _parse_alternatives(
    network: _Network, words: Words, begin: int, before: list[int], deletable: bool, depth: int
) -> tuple[list[int], int]:
    if depth > _DEEPEST:
        raise InputError(f"alternatives are nested more than {_DEEPEST} deep")
    ends: list[int] = []
    while True:
        last, rest = _parse_sequence(network, words, begin, before, deletable, depth)
        if rest >= len(words):
            raise InputError("alternatives { a / b } are not closed by }")
        # Nothing between two marks is a null word.
        ends += network.append(_NULL, before, deletable) if rest == begin else last
        begin = rest + 1
        if words[rest] == "}":
            if len(ends) > np.iinfo(np.uint16).max:
                raise InputError(f"{len(ends)} alternatives in one place")
            return ends, begin


def filter_notation(words: Words, optional: OptionalWords, text_filter: TextFilter) -> list[str]:
    """Filter the words of a reference with notation; an optional word that is left out goes with its brackets."""
    filtered: list[str] = []
    for token in words:
        if token in _MARKS or token == _NULL:
            filtered.append(token)
        elif optional == "deletable" and is_optional(token):
            word = text_filter.word(token[1:-1])
            filtered += [f"({word})"] if word else []
        else:
            word = text_filter.word(token)
            filtered += [word] if word else []
    return filtered


def refuse_notation(texts: Mapping[str, Words], place: str, bracketed: bool) -> None:
    """Refuse alternatives, and words in brackets where `bracketed`, in a file whose words are taken as they stand."""
    for utterance, words in texts.items():
        mark = "{" if "{" in words else next(filter(is_optional, words), None) if bracketed else None
        if mark is not None:
            raise InputError(
                f"{place}: {utterance}: {mark} is NIST's notation of alternatives {{ a / b }} or optional words (uh), "
                "which are scored in an STM or trn reference by the WER only; leave one reading in the file"
            )


def warn_of_braces(texts: Mapping[str, Words], path: Path) -> None:
    """Warn of alternatives in a file whose format has no notation."""
    braced = [utterance for utterance, words in texts.items() if "{" in words and "}" in words]
    if braced:
        logger.warning(
            "%s: braces in %d utterances (%s) are words like others; alternatives { a / b } are read in STM and trn",
            path, len(braced), first_ids(braced),
        )


def describe_notation(texts: Sequence[Words], optional: OptionalWords) -> str:
    """Say how many alternatives and optional words were read."""
    alternatives = sum(list(words).count("{") for words in texts)
    bracketed = sum(sum(map(is_optional, words)) for words in texts) if optional == "deletable" else 0
    return (
        f"the reference has {alternatives} places with alternatives and {bracketed} optionally deletable words: each "
        "hypothesis is scored by the reading nearest to it, as sclite does it with -D"
    )
