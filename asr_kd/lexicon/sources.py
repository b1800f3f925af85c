"""Sources of pronunciations: the corpus's lexicon, the CMU dictionary, spelling, or a trained guess."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError, assignment
from asr_kd.core.log import get_logger
from asr_kd.core.word_forms import find_other_forms
from asr_kd.lexicon.cmu_dictionary import cmu_dictionary, look_up
from asr_kd.lexicon.grapheme_to_phoneme import check_installed, guess_pronunciations
from asr_kd.lexicon.graphemes import GraphemeConfig, spell
from asr_kd.lexicon.lexicon import LexiconConfig
from asr_kd.lexicon.lexicon_file import RESERVED_WORDS, Entry, read_lexicon
from asr_kd.lexicon.phones import without_stress

logger = get_logger(__name__)

_NAMED = 10


class LexiconSourceConfig(Config):
    """The source of the pronunciations of a corpus's words.

    `source`: `file` (the corpus's lexicon), `cmudict` (the CMU dictionary for what the corpus's
    lexicon lacks, if it has one), or `graphemes` (spelling; no dictionary). `missing` says what
    becomes of words in neither: `refuse` names them; `g2p` guesses from what the dictionary holds,
    the `g2p_variants` likeliest pronunciations; `unknown` leaves them out of the lexicon: training
    and alignment then need `map_unknown`. `stress` digits of speech phones are kept, or stripped,
    and what becomes equal merged. `special_words` are no speech: word -> silence phone, such as
    `{"[NOISE]": "SPN"}`; `!SIL` and `<UNK>` are known.
    """

    source: Literal["file", "cmudict", "graphemes"] = "file"
    missing: Literal["refuse", "g2p", "unknown"] = "refuse"
    g2p_variants: int = Field(default=1, ge=1, le=10)
    stress: Literal["keep", "strip"] = "keep"
    graphemes: GraphemeConfig = GraphemeConfig()
    special_words: dict[str, str] = Field(default_factory=dict)
    silence_phones: list[str] = ["SIL", "SPN"]


@dataclass(frozen=True)
class LexiconReport:
    """Counts of pronunciations by source. `asked` words were asked for: `from_file +
    from_cmudict + spelt + special + len(guessed) + len(unknown) = asked`; `words` and
    `pronunciations` are those of the whole lexicon, `merged` is how many pronunciations stripping
    made equal to another, `units` the speech phones or graphemes."""

    asked: int
    from_file: int
    from_cmudict: int
    spelt: int
    special: int
    guessed: tuple[str, ...]
    unknown: tuple[str, ...]
    words: int
    pronunciations: int
    merged: int
    units: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; of lists of words the first hundred."""
        return {"asked": self.asked, "from_file": self.from_file, "from_cmudict": self.from_cmudict,
                "spelt": self.spelt, "special": self.special, "guessed": len(self.guessed),
                "unknown": len(self.unknown), "words": self.words, "pronunciations": self.pronunciations,
                "merged": self.merged, "units": len(self.units), "guessed_words": list(self.guessed[:100]),
                "unknown_words": list(self.unknown[:100])}


def build_lexicon(words: Iterable[str], config: LexiconSourceConfig | None = None, file: Path | None = None,
                  wanted: Iterable[str] = ()) -> tuple[list[Entry], LexiconReport]:
    """The lexicon of a corpus, to be written by `write_lexicon`, and where it came from.

    `words` must have a pronunciation (those that training needs); `wanted` ones (a language
    model's) are only left out where there is none to be had. All of `file` is in the lexicon,
    whatever the words. InputError names what is missing (the first ten words, and how many), a
    phone that the dictionary does not have, a word that cannot be spelt.
    """
    config = config or LexiconSourceConfig()
    known = _Known.of(words, config, file, wanted)
    rest = known.rest
    guessed: dict[str, list[Entry]] = {}
    if rest and _guesses(config):
        guessed = _guessed(rest, known.from_file, config)
        rest = [word for word in rest if word not in guessed]
        if forms := _other_forms(guessed, known):
            logger.warning("%d pronunciations are guessed%s", len(guessed), forms)
    _refuse_missing(rest, known, config, file)
    if rest:
        logger.warning("%s without pronunciation left out of the lexicon%s", _named(rest), _other_forms(rest, known))
    parts = (known.from_file, known.silent, known.other, guessed)
    before = [entry for part in parts for entries in part.values() for entry in entries]
    entries = merge_pronunciations(before, _stripped(config))
    units = sorted({p for entry in entries for p in entry.phones} - set(config.silence_phones))
    spelt = config.source == "graphemes"
    report = LexiconReport(
        asked=len(known.asked), from_file=sum(word in known.from_file for word in known.asked),
        from_cmudict=0 if spelt else len(known.other), spelt=len(known.other) if spelt else 0,
        special=len(known.silent), guessed=tuple(sorted(guessed)), unknown=tuple(rest),
        words=len({entry.word for entry in entries}), pronunciations=len(entries),
        merged=len(before) - len(entries), units=tuple(units))
    return entries, report


def words_without_pronunciation(
    words: Iterable[str], config: LexiconSourceConfig | None = None, file: Path | None = None
) -> list[str]:
    """Those of `words` that a lexicon by these settings would not have, sorted, before it is built.

    Nothing is guessed: words that `missing: g2p` is to guess count as pronounced. InputError where
    `build_lexicon` would refuse the words, or lacks an installed package.
    """
    config = config or LexiconSourceConfig()
    known = _Known.of(words, config, file, ())
    if known.rest and _guesses(config):
        check_installed()
        return []
    _refuse_missing(known.rest, known, config, file)
    return known.rest


@dataclass(frozen=True)
class _Known:
    """Pronunciations that are there without guessing, and the `rest` of the words; `refusal`: why
    such a word, if it is needed, cannot be spelt."""

    needed: set[str]
    asked: list[str]
    from_file: dict[str, list[Entry]]
    silent: dict[str, list[Entry]]
    other: dict[str, list[Entry]]
    rest: list[str]
    refusal: str

    @staticmethod
    def of(words: Iterable[str], config: LexiconSourceConfig, file: Path | None, wanted: Iterable[str]
           ) -> "_Known":
        needed = set(words) - set(RESERVED_WORDS)
        asked = sorted(needed | set(wanted) - set(RESERVED_WORDS))
        special = _special_words(config)
        if config.source == "file" and file is None:
            raise InputError(
                "the corpus names no lexicon; name one, or take its pronunciations from "
                f"{assignment('source', 'cmudict')} or from {assignment('source', 'graphemes')}")
        spelt = config.source == "graphemes"
        from_file = _by_word(read_lexicon(file)) if file is not None and not spelt else {}
        rest = [word for word in asked if word not in from_file]
        silent = {word: [Entry(word, (special[word],))] for word in rest if word in special}
        rest = [word for word in rest if word not in silent]
        other: dict[str, list[Entry]] = {}
        refusal = ""
        if spelt:
            other, refusal = _spelt(rest, needed, config.graphemes)
        elif config.source == "cmudict":
            _check_phones(from_file, config, file)
            other = look_up(rest)
        rest = [word for word in rest if word not in other]
        return _Known(needed, asked, from_file, silent, other, rest, refusal)


def _guesses(config: LexiconSourceConfig) -> bool:
    return config.missing == "g2p" and config.source != "graphemes"


def _refuse_missing(
    rest: Sequence[str], known: _Known, config: LexiconSourceConfig, file: Path | None
) -> None:
    refused = [word for word in rest if word in known.needed]
    if refused and config.missing != "unknown":
        raise InputError(known.refusal or _refusal(refused, config, file) + _other_forms(refused, known))


def _other_forms(words: Iterable[str], known: _Known) -> str:
    """Say which words the file has in another Unicode form or letter case."""
    other = str(find_other_forms(words, known.from_file))
    return f"; the lexicon has {other}" if other else ""


def merge_pronunciations(entries: Iterable[Entry], phone: Callable[[str], str] = str) -> list[Entry]:
    """Entries with each phone mapped; what becomes equal is one pronunciation with the sum of the
    probabilities.

    Where sums of a word exceed 1, its probabilities are divided by the largest. A word whose
    pronunciations all have probability 1 (a lexicon without probabilities) keeps that.
    """
    merged: dict[str, dict[tuple[str, ...], float]] = {}
    plain: dict[str, bool] = {}
    for word, phones, probability in entries:
        prons = merged.setdefault(word, {})
        pron = tuple(phone(p) for p in phones)
        prons[pron] = prons.get(pron, 0.0) + probability
        plain[word] = plain.get(word, True) and probability == 1.0
    return [Entry(word, pron, 1.0 if plain[word] else probability / max(1.0, *prons.values()))
            for word, prons in merged.items() for pron, probability in prons.items()]


def _special_words(config: LexiconSourceConfig) -> dict[str, str]:
    for word, phone in config.special_words.items():
        if phone not in config.silence_phones:
            raise InputError(f"special word {word!r} is given the phone {phone!r}, which is not among the silence "
                             f"phones {', '.join(config.silence_phones)}")
    usual = LexiconConfig()
    known = {usual.silence_word: usual.optional_silence, usual.unknown_word: usual.unknown_phone}
    return {**{w: p for w, p in known.items() if p in config.silence_phones}, **config.special_words}


def _spelt(words: Sequence[str], needed: Set[str], config: GraphemeConfig) -> tuple[dict[str, list[Entry]], str]:
    """Words by their letters, and what is said of needed ones that cannot be spelt."""
    found: dict[str, list[Entry]] = {}
    faults: dict[str, str] = {}
    for word in words:
        try:
            found[word] = [Entry(word, spell(word, config))]
        except InputError as error:
            faults[word] = str(error)
    refused = [word for word in faults if word in needed]
    if not refused:
        return found, ""
    return found, (f"{_named(refused)} cannot be spelt: {faults[refused[0]]}; or leave such words out by "
                   f"{assignment('missing', 'unknown')}")


def _guessed(words: Sequence[str], from_file: Mapping[str, list[Entry]], config: LexiconSourceConfig
             ) -> dict[str, list[Entry]]:
    strip = _stripped(config)
    silence = set(config.silence_phones)
    lexicon: dict[str, list[list[str]]] = {}
    if config.source == "cmudict":
        lexicon = {word: [[strip(p) for p in pron] for pron in prons] for word, prons in cmu_dictionary().items()}
    for word, entries in from_file.items():
        prons = [[strip(p) for p in entry.phones] for entry in entries if not silence & set(entry.phones)]
        lexicon.setdefault(word, []).extend(prons)
    return guess_pronunciations(words, lexicon, config.g2p_variants)


def _check_phones(from_file: Mapping[str, list[Entry]], config: LexiconSourceConfig, file: Path | None) -> None:
    """The corpus's phones are the dictionary's, or the two cannot be mixed."""
    symbols = {phone for prons in cmu_dictionary().values() for pron in prons for phone in pron}
    plain = {without_stress(phone) for phone in symbols}
    stressed = False
    for word, entries in from_file.items():
        for phone in {p for entry in entries for p in entry.phones} - set(config.silence_phones):
            if without_stress(phone) not in plain:
                raise InputError(f"{file}: phone {phone!r} of {word!r} is not in the CMU dictionary's table; the two "
                                 "cannot be mixed")
            stressed |= phone in symbols and phone not in plain
    if from_file and not stressed and config.stress == "keep":
        raise InputError(f"{file}: its phones bear no stress, those of the CMU dictionary do; mix them by "
                         f"{assignment('stress', 'strip')}")


def _stripped(config: LexiconSourceConfig) -> Callable[[str], str]:
    if config.stress == "keep":
        return str
    silence = set(config.silence_phones)
    return lambda phone: phone if phone in silence else without_stress(phone)


def _by_word(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    table: dict[str, list[Entry]] = {}
    for entry in entries:
        table.setdefault(entry.word, []).append(entry)
    return table


def _refusal(words: Sequence[str], config: LexiconSourceConfig, file: Path | None) -> str:
    places = [str(file)] if file is not None else []
    places += ["the CMU dictionary"] if config.source == "cmudict" else []
    if config.missing == "g2p":
        return (f"{_named(words)} cannot be guessed: they have other characters than the words of "
                f"{' or '.join(places)}; add them to the lexicon, or leave them out by "
                f"{assignment('missing', 'unknown')}")
    return (f"{_named(words)} not in {' or '.join(places)}; add them to the lexicon, or guess them by "
            f"{assignment('missing', 'g2p')}, or leave them out by {assignment('missing', 'unknown')}")


def _named(words: Sequence[str]) -> str:
    named = ", ".join(repr(word) for word in words[:_NAMED])
    return f"{len(words)} word{'s'[:len(words) > 1]} ({named}{', ...' if len(words) > _NAMED else ''})"
