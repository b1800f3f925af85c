"""The words that a recogniser can write, and how many words of each split are none of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from asr_kd.core.log import get_logger
from asr_kd.core.word_forms import find_other_forms

logger = get_logger(__name__)

# What language models and lexicons hold beside words that somebody says.
_NO_WORDS = {"<s>", "</s>", "<eps>", "<unk>", "<UNK>"}


@dataclass(frozen=True)
class SplitVocabulary:
    """Words of one split, and those of them that are out of the vocabulary, each as often as it is
    said."""

    words: int
    oov_words: int

    @property
    def oov_rate(self) -> float:
        """Percent of the words that are out of the vocabulary; 0 where there is no word."""
        return 100 * self.oov_words / self.words if self.words else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Both counts and the rate, rounded to 0.01 %."""
        return {
            "words": self.words,
            "oov_words": self.oov_words,
            "oov_rate": round(self.oov_rate, 2),
        }


@dataclass(frozen=True)
class VocabularyReport:
    """A recogniser's vocabulary beside the words of each split.

    `source` says in words where the vocabulary came from. `closed`: it was made with knowledge of
    the evaluated splits, or covers them by construction, so that their error rate is lower than
    that of other speech would be.
    """

    closed: bool
    source: str
    splits: Mapping[str, SplitVocabulary]

    def as_dict(self) -> dict[str, Any]:
        """For vocabulary.json and for the summary of a stage."""
        return {
            "closed": self.closed,
            "source": self.source,
            "splits": {split: counts.as_dict() for split, counts in self.splits.items()},
        }

    def __str__(self) -> str:
        rates = ", ".join(f"{split} {counts.oov_rate:.2f} %" for split, counts in self.splits.items())
        return f"words out of vocabulary: {rates}; {'closed' if self.closed else 'open'} vocabulary: {self.source}"


def report_vocabulary(
    vocabulary: Set[str],
    transcripts: Mapping[str, Iterable[Sequence[str]]],
    train: str,
    source: str,
    closed: bool = False,
) -> VocabularyReport:
    """Count the words of each split of `transcripts` (split -> sentences) that are not in
    `vocabulary`.

    All splits but `train` are evaluated ones. Where there are such, and each of their words is in
    the vocabulary, it counts as closed, whatever `closed` says.
    """
    splits = {}
    for split, sentences in transcripts.items():
        words = [word for sentence in sentences for word in sentence]
        splits[split] = SplitVocabulary(len(words), sum(word not in vocabulary for word in words))
        if other := str(find_other_forms(Counter(words), vocabulary)):
            logger.warning("%s: of the words out of vocabulary it has %s", split, other)
    evaluated = [counts for split, counts in splits.items() if split != train]
    if not closed and evaluated and not any(counts.oov_words for counts in evaluated):
        closed, source = True, f"{source} (no word of the evaluated splits is outside of it)"
    return VocabularyReport(closed, source, splits)


def spoken_words(words: Iterable[str]) -> set[str]:
    """The words of a language model or a lexicon, without the symbols that nobody says."""
    return set(words) - _NO_WORDS
