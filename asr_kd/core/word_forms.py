"""Words that differ from others in their Unicode form or letter case only: hints where a word is missed."""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class OtherForms:
    """Words that are absent from a vocabulary as they are written, but are there in another form.

    `unicode` and `case` count those that differ in their Unicode form (NFC, NFD) and those that differ in letter case;
    the examples are pairs of a word and what is there, None where nothing was counted.
    """

    unicode: int = 0
    case: int = 0
    unicode_example: tuple[str, str] | None = None
    case_example: tuple[str, str] | None = None

    def __str__(self) -> str:
        """Describe both in one phrase; empty where there is nothing to say."""
        phrases = []
        if self.unicode_example is not None:
            word, there = self.unicode_example
            phrases.append(f"{self.unicode} in another Unicode form ({word!r} is {unicode_form(word)} here and "
                           f"{unicode_form(there)} there)")
        if self.case_example is not None:
            word, there = self.case_example
            phrases.append(f"{self.case} in other letter case ({word!r} is {there!r} there)")
        return " and ".join(phrases)


def find_other_forms(words: Mapping[str, int] | Iterable[str], present: Collection[str]) -> OtherForms:
    """Find those of `words` (counted, or one each) that `present` has in another Unicode form or letter case only.

    >>> str(find_other_forms(["Yes", "no"], {"YES", "no"}))
    "1 in other letter case ('Yes' is 'YES' there)"
    """
    counts = words if isinstance(words, Mapping) else dict.fromkeys(_in_order(words), 1)
    absent = {word: count for word, count in counts.items() if word not in present}
    if not absent:
        return OtherForms()
    composed, folded = _by_form(present, _compose), _by_form(present, _fold)
    unicode = {word: composed[_compose(word)] for word in absent if _compose(word) in composed}
    case = {word: folded[_fold(word)] for word in absent if word not in unicode and _fold(word) in folded}
    return OtherForms(
        sum(absent[word] for word in unicode), sum(absent[word] for word in case),
        next(iter(unicode.items()), None), next(iter(case.items()), None),
    )


def unicode_form(word: str) -> str:
    """The Unicode form of a word: "NFC", "NFD" or "a mixed form"."""
    if unicodedata.is_normalized("NFC", word):
        return "NFC"
    return "NFD" if unicodedata.is_normalized("NFD", word) else "a mixed form"


def _by_form(words: Iterable[str], form: Callable[[str], str]) -> dict[str, str]:
    return {form(word): word for word in _in_order(words)}


def _in_order(words: Iterable[str]) -> Iterable[str]:
    """The words of a set sorted, so that the same words give the same message in every run."""
    return sorted(words) if isinstance(words, Set) else words


def _compose(word: str) -> str:
    return unicodedata.normalize("NFC", word)


def _fold(word: str) -> str:
    return _compose(word).casefold()
