"""The pronunciation lexicon, from Kaldi's or CMU's format, with disambiguation symbols."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json
from asr_kd.core.log import get_logger
from asr_kd.core.word_forms import find_other_forms
from asr_kd.lexicon.lexicon_file import read_lexicon
from asr_kd.lexicon.phones import PhoneTable

logger = get_logger(__name__)


class LexiconConfig(Config):
    """The words and phones that are added to those of a lexicon file."""

    position_dependent: bool = True
    silence_phones: list[str] = ["SIL", "SPN"]
    optional_silence: str = "SIL"
    silence_probability: float = Field(default=0.5, gt=0, lt=1)
    silence_word: str = "!SIL"
    unknown_word: str = "<UNK>"
    unknown_phone: str = "SPN"


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """One pronunciation: word id, position-dependent phone ids, probability, and n of the symbol `#n` that follows
    its last phone in a graph with disambiguation symbols (0: none)."""

    word: int
    phones: tuple[int, ...]
    probability: float
    disambiguation: int


class Lexicon:
    """Words with their pronunciations.

    `words[id]` is a word, id 0 is `<eps>`; the rest is sorted. `pronunciations` is sorted by word, then in the order
    given. `silence_probability` is that of optional silence at the beginning and after each word.
    """

    def __init__(self, phones: PhoneTable, entries: Iterable[tuple[str, tuple[int, ...], float]],
                 silence_probability: float = 0.5, unknown_word: str = "<UNK>") -> None:
        """`entries`: (word, position-dependent phone ids, probability); one given twice counts once."""
        best: dict[tuple[str, tuple[int, ...]], float] = {}
        for word, pron, probability in entries:
            best[word, pron] = max(probability, best.get((word, pron), 0.0))
        self.phones = phones
        self.silence_probability = silence_probability
        self.unknown_word = unknown_word
        self.words: list[str] = ["<eps>", *sorted({word for word, _ in best})]
        self.word_id: dict[str, int] = {word: i for i, word in enumerate(self.words)}
        keys = sorted(best, key=lambda key: self.word_id[key[0]])
        numbers = _disambiguation([pron for _, pron in keys])
        self.pronunciations = [Pronunciation(self.word_id[word], pron, best[word, pron], number)
                               for (word, pron), number in zip(keys, numbers, strict=True)]

    @staticmethod
    def read(path: Path, config: LexiconConfig | None = None, phones: PhoneTable | None = None) -> "Lexicon":
        """The lexicon of a file (see `read_lexicon`), silence word and unknown word added where they are absent.

        `phones`: the table of a trained model, to give that model other words; InputError names a phone that it
        lacks. Without, the table is made of the phones that occur.
        """
        try:
            return Lexicon.from_entries(read_lexicon(Path(path)), config, phones)
        except _WordError as error:
            raise InputError(f"{path}: {error}") from None

    @staticmethod
    def from_entries(entries: Iterable[tuple[str, Sequence[str], float]], config: LexiconConfig | None = None,
                     phones: PhoneTable | None = None) -> "Lexicon":
        """A lexicon of (word, phones without positions, probability), as `read`."""
        config = config or LexiconConfig()
        rows = [(word, tuple(pron), prob) for word, pron, prob in entries]
        known = {word for word, _, _ in rows}
        added = [(config.silence_word, config.optional_silence), (config.unknown_word, config.unknown_phone)]
        for word, phone in added:
            if phone not in config.silence_phones:
                raise InputError(f"{word}'s phone {phone!r} is not among the silence phones")
            if word not in known:
                rows.append((word, (phone,), 1.0))
        table = phones or PhoneTable.build({p for _, pron, _ in rows for p in pron}, config.silence_phones,
                                           config.optional_silence, config.position_dependent)

        def in_word(word: str, pron: tuple[str, ...]) -> tuple[int, ...]:
            if not pron:
                raise _WordError(f"word {word!r} has no phones")
            try:
                return table.in_word(pron)
            except InputError as error:
                raise _WordError(f"word {word!r}: {error}") from None

        return Lexicon(table, ((word, in_word(word, pron), prob) for word, pron, prob in rows),
                       config.silence_probability, config.unknown_word)

    @cached_property
    def pronunciations_of(self) -> list[list[Pronunciation]]:
        """Word id -> its pronunciations."""
        table: list[list[Pronunciation]] = [[] for _ in self.words]
        for pronunciation in self.pronunciations:
            table[pronunciation.word].append(pronunciation)
        return table

    def with_probabilities(self, probabilities: Sequence[float], silence_probability: float | None = None) -> "Lexicon":
        """The same words with other probabilities, one for each of `pronunciations`, and of optional silence."""
        entries = [(self.words[p.word], p.phones, float(probability))
                   for p, probability in zip(self.pronunciations, probabilities, strict=True)]
        return Lexicon(self.phones, entries, silence_probability or self.silence_probability, self.unknown_word)

    @property
    def num_disambiguation(self) -> int:
        """Largest n of the symbols `#n`: those after pronunciations, and one more for optional silence.

        `#0` stands for word-level back-off. As Kaldi's `add_lex_disambig.pl` and `prepare_lang.sh`.
        """
        return 1 + max((p.disambiguation for p in self.pronunciations), default=0)

    def word_ids(self, transcripts: Mapping[str, Sequence[str]], map_unknown: bool = False
                 ) -> tuple[dict[str, list[int]], int]:
        """Transcripts (id -> words) as word ids, and the number of word tokens mapped to the unknown word.

        Words without pronunciation raise InputError that names them, unless `map_unknown`.
        """
        missing: Counter[str] = Counter()
        where: dict[str, str] = {}
        for utterance, words in transcripts.items():
            for word in words:
                if word not in self.word_id or self.word_id[word] == 0:
                    missing[word] += 1
                    where.setdefault(word, utterance)
        if missing and not map_unknown:
            forms = self._other_forms(missing)
            named = ", ".join(f"{w!r} ({where[w]})" for w, _ in missing.most_common(10))
            more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
            raise InputError(f"{len(missing)} words of the transcripts have no pronunciation: {named}{more}{forms}; "
                             f"add them to the lexicon, or set map_unknown to train them as {self.unknown_word}")
        if missing and self.unknown_word not in self.word_id:
            raise InputError(f"the unknown word {self.unknown_word!r} has no pronunciation in the lexicon")
        unknown = self.word_id.get(self.unknown_word, 0)
        ids = {u: [self.word_id.get(w, 0) or unknown for w in words] for u, words in transcripts.items()}
        return ids, missing.total()

    def warn_of_other_forms(self, transcripts: Mapping[str, Sequence[str]]) -> None:
        """Log a warning where words without pronunciation have one in another letter case or Unicode form."""
        missing = {word for words in transcripts.values() for word in words if not self.word_id.get(word, 0)}
        if forms := self._other_forms(missing):
            logger.warning("%d words of the transcripts have no pronunciation%s", len(missing), forms)

    def _other_forms(self, missing: Iterable[str]) -> str:
        other = find_other_forms(list(missing), self.word_id)
        return f"; the lexicon has {other}" if str(other) else ""

    def as_json(self) -> dict[str, Any]:
        """The lexicon as JSON values, the phone table left out."""
        return {"silence_probability": self.silence_probability, "unknown_word": self.unknown_word,
                "entries": [[self.words[p.word], list(p.phones), p.probability] for p in self.pronunciations]}

    @staticmethod
    def from_json(value: dict[str, Any], phones: PhoneTable) -> "Lexicon":
        """The lexicon that `as_json` described."""
        return Lexicon(phones, ((word, tuple(pron), prob) for word, pron, prob in value["entries"]),
                       value["silence_probability"], value["unknown_word"])

    @cached_property
    def digest(self) -> str:
        """Identifies words, pronunciations and phones, in hexadecimal digits."""
        return hash_json({"lexicon": self.as_json(), "phones": self.phones.as_json()})


class _WordError(InputError):
    """A word whose pronunciation cannot be; the reader of a file says which file."""


def _disambiguation(prons: list[tuple[int, ...]]) -> list[int]:
    """`add_lex_disambig.pl`: a pronunciation that is another's prefix, or occurs more than once, gets #1, #2..."""
    count = Counter(prons)
    prefixes = {pron[:n] for pron in count for n in range(1, len(pron))}
    used: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for pron in prons:
        if count[pron] > 1 or pron in prefixes:
            used[pron] += 1
        numbers.append(used[pron])
    return numbers
