"""Hints on words that are counted as errors because they are written in another way."""

from collections import Counter
from collections.abc import Iterable, Mapping

from asr_kd.core.word_forms import find_other_forms
from asr_kd.scoring.wer import Words

# Names and homographs differ in letter case here and there; a tenth of all words is another convention.
_SHARE_OF_CASE = 0.1


def form_hints(references: Iterable[Words], files: Mapping[str, Iterable[Words]]) -> tuple[str, ...]:
    """Say of each hypothesis file which words the reference has in another Unicode form or letter case only.

    A single word in another Unicode form is worth a hint; letter case is from a tenth of the file's words on.
    """
    present = {word for words in references for word in words}
    hints: list[str] = []
    for path, hypotheses in files.items():
        counts = Counter(word for words in hypotheses for word in words)
        other = find_other_forms(counts, present)
        of_all = f"of {counts.total()} words are in the reference in another"
        if other.unicode_example is not None:
            hints.append(f"{path}: {other.unicode} {of_all} Unicode form only ({other.unicode_example[0]!r}): "
                         "--unicode-form nfc compares both as NFC")
        if other.case_example is not None and other.case >= _SHARE_OF_CASE * counts.total():
            word, there = other.case_example
            hints.append(f"{path}: {other.case} {of_all} letter case only ({word!r} as {there!r}): "
                         f"{_case_filter(word, there)}")
    return tuple(hints)


def _case_filter(word: str, there: str) -> str:
    """The filter that makes two words equal which differ in letter case: STRASSE is straße in upper case only."""
    case = "lower" if word.lower() == there.lower() else "upper"
    return f"--filter {case} compares both in {case} case"
