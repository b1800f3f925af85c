"""Word alignments and error counts, with unit costs or with sclite's.

Words are compared as they are written: no case folding, no normalisation (that is `scoring.text_filter`'s). With unit
costs the alignment is rapidfuzz's, which jiwer counts too. Tie-break: words that match at both ends of the utterance
are matched; the rest is traced back from the last word, and of the steps on a cheapest path a deletion is taken
first, then a substitution, then an insertion, then a match. The number of errors never depends on it; their split
into three kinds may. sclite's alignment is in `scoring.sclite`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

from asr_kd.core.errors import InputError
from asr_kd.core.word_forms import find_other_forms
from asr_kd.scoring.sclite import align_as_sclite, check_size

Words = Sequence[str]
Operation = Literal["equal", "substitution", "deletion", "insertion"]
Alignment = Literal["unit", "sclite"]

# 65,000 words a side take five seconds.
_MOST_CELLS = 1 << 32
_OPERATIONS: dict[str, Operation] = {
    "equal": "equal", "replace": "substitution", "delete": "deletion", "insert": "insertion"
}


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Reference words and the errors against them; pooled with +, rates are derived.

    Raises ValueError where the counts cannot be: negative, or more substitutions and deletions than words.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int

    def __post_init__(self) -> None:
        if min(self.words, self.substitutions, self.deletions, self.insertions) < 0:
            raise ValueError(f"negative count in {self}")
        if self.substitutions + self.deletions > self.words:
            raise ValueError(
                f"{self.substitutions} substitutions + {self.deletions} deletions of {self.words} words"
            )

    @classmethod
    def zero(cls) -> "ErrorCounts":
        """The counts of nothing."""
        return cls(0, 0, 0, 0)

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def correct(self) -> int:
        return self.words - self.substitutions - self.deletions

    @property
    def wer(self) -> float:
        """Errors / words in percent; NaN without a reference word."""
        return 100 * self.errors / self.words if self.words else float("nan")


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """One column of an alignment; `reference` is None in an insertion, `hypothesis` in a deletion."""

    operation: Operation
    reference: str | None
    hypothesis: str | None


def align_words(reference: Words, hypothesis: Words, alignment: Alignment = "unit") -> list[AlignedWord]:
    """The cheapest alignment of two word sequences, unit costs or sclite's, ties as stated above.

    InputError: too many words for one utterance (`scoring.sclite.check_size`).
    """
    columns: list[AlignedWord] = []
    spoken, recognised = iter(reference), iter(hypothesis)
    for tag in _tags(*_as_integers(reference, hypothesis), alignment):
        columns.append(AlignedWord(
            _OPERATIONS[tag],
            None if tag == "insert" else next(spoken),
            None if tag == "delete" else next(recognised),
        ))
    return columns


def count_errors(reference: Words, hypothesis: Words, alignment: Alignment = "unit") -> ErrorCounts:
    """Errors of one utterance; InputError: too many words."""
    numbers = _as_integers(reference, hypothesis)
    if alignment == "unit":
        check_size(len(reference), len(hypothesis), _MOST_CELLS)
        edits = [operation.tag for operation in Levenshtein.editops(*numbers)]
    else:
        edits = _tags(*numbers, alignment)
    return ErrorCounts(len(reference), edits.count("replace"), edits.count("delete"), edits.count("insert"))


def total_errors(references: Mapping[str, Words], hypotheses: Mapping[str, Words]) -> int:
    """Errors of a set, unit costs (the fast way over a grid); an utterance without hypothesis counts as deletions."""
    check_ids(references, hypotheses)
    return sum(
        Levenshtein.distance(*_as_integers(words, hypotheses.get(utterance, ())))
        for utterance, words in references.items()
    )


def count_errors_by_speaker(
    references: Mapping[str, Words],
    hypotheses: Mapping[str, Words],
    speakers: Mapping[str, str],
    alignment: Alignment = "unit",
) -> dict[str, ErrorCounts]:
    """Counts per speaker, sorted by speaker; `speakers` maps utterance to speaker.

    A reference utterance without hypothesis counts as deletions. InputError: a hypothesis for an utterance
    that the reference has not, an utterance without speaker, one of too many words.
    """
    check_ids(references, hypotheses)
    orphans = [utterance for utterance in references if utterance not in speakers]
    if orphans:
        raise InputError(
            f"{len(orphans)} of {len(references)} reference utterances have no speaker ({first_ids(orphans)}); "
            "add them to utt2spk"
        )
    counts: dict[str, ErrorCounts] = {}
    for utterance, words in references.items():
        speaker = speakers[utterance]
        try:
            errors = count_errors(words, hypotheses.get(utterance, ()), alignment)
        except InputError as error:
            raise InputError(f"utterance {utterance}: {error}") from None
        counts[speaker] = counts.get(speaker, ErrorCounts.zero()) + errors
    return dict(sorted(counts.items()))


def pool(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum of counts: the only way to combine them."""
    return sum(counts, ErrorCounts.zero())


def check_ids(references: Mapping[str, Words], hypotheses: Mapping[str, Words], place: str = "") -> None:
    """Refuse hypotheses for utterances that the reference has not (InputError with counts and the first ids)."""
    unknown = hypotheses.keys() - references.keys()
    if unknown:
        missing = references.keys() - hypotheses.keys()
        besides = f"; {len(missing)} of {len(references)} reference ids have no hypothesis" if missing else ""
        example = f" ({first_ids(missing)})" if missing else ""
        raise InputError(
            f"{place or 'hypotheses'}: different ids: {len(unknown)} of {len(hypotheses)} hypothesis ids are "
            f"not in the reference ({first_ids(unknown)}){besides}{example}{_other_forms(unknown, references)}; "
            "expected hypotheses of the reference's set"
        )


def _other_forms(ids: Iterable[str], present: Mapping[str, Words]) -> str:
    other = str(find_other_forms(ids, present))
    return f"; the reference has {other}" if other else ""


def first_ids(ids: Iterable[str], shown: int = 3) -> str:
    """The first few ids of a sorted list, for a message of one line."""
    ordered = sorted(ids)
    return ", ".join(ordered[:shown]) + (", ..." if len(ordered) > shown else "")


def _tags(reference: list[int], hypothesis: list[int], alignment: Alignment) -> list[str]:
    if alignment == "sclite":
        return align_as_sclite(reference, hypothesis)
    if alignment != "unit":
        raise InputError(f"alignment: expected unit or sclite, found {alignment!r}")
    check_size(len(reference), len(hypothesis), _MOST_CELLS)
    return [
        block.tag
        for block in Levenshtein.opcodes(reference, hypothesis)
        for _ in range(max(block.src_end - block.src_start, block.dest_end - block.dest_start))
    ]


def _as_integers(reference: Words, hypothesis: Words) -> tuple[list[int], list[int]]:
    # rapidfuzz compares hashes: small integers are their own, words' could collide.
    numbers: dict[str, int] = {}
    return (
        [numbers.setdefault(word, len(numbers)) for word in reference],
        [numbers.setdefault(word, len(numbers)) for word in hypothesis],
    )
