"""Text filters, applied to words before they are compared: declared, versioned, named in every output.

By default nothing is done. A filter maps each word to one word or to none; it is applied to reference and hypothesis
alike. Supported: case,
Unicode form (NFC), punctuation at the edges of words, a list of hesitations, fragments (`hes-`, `-tation`). NIST's
notation in STM and trn references (`(uh)`, `{ a / b }`, `@`) is read by `scoring.notation`; elsewhere any filter but
`none` (which compares words as they are written) refuses it. Not supported: fragments that count as correct (sclite's
-F), global mapping files (GLM). A change of what a filter does gives it a new version.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from asr_kd.core.errors import InputError
from asr_kd.scoring.wer import Words

UnicodeForm = Literal["keep", "nfc"]

PUNCTUATION = '.,;:?!"“”„«»…¿¡'
# English, in lower case; backchannels that mean something (uh-huh, mhm, yeah) are words.
HESITATIONS = ("ah", "eh", "er", "erm", "hm", "hmm", "mm", "uh", "uhm", "um", "umm")

_MARKS = {"{", "}", "/", "@"}


@dataclass(frozen=True)
class TextFilter:
    """A filter by its parts, applied in this order.

    `unicode_form`: composed (NFC), or as it is; `case` of all words; `punctuation`: characters stripped from both
    ends of a word; `drop_fragments`: words that begin or end with a hyphen are left out; `hesitations`: words, in
    lower case, that are left out.
    """

    name: str = "none"
    version: int = 1
    case: Literal["keep", "lower", "upper"] = "keep"
    punctuation: str = ""
    drop_fragments: bool = False
    hesitations: tuple[str, ...] = ()
    unicode_form: UnicodeForm = "keep"

    @property
    def label(self) -> str:
        """Name and version, as every output has them: `none-1`; with a Unicode form `none-1-nfc`."""
        return f"{self.name}-{self.version}" + ("" if self.unicode_form == "keep" else f"-{self.unicode_form}")

    @cached_property
    def is_identity(self) -> bool:
        return TextFilter(self.name, self.version) == self

    @cached_property
    def _changes_only_form(self) -> bool:
        return replace(self, unicode_form="keep").is_identity

    def word(self, word: str) -> str:
        """The word as it is compared; empty where it is left out. InputError: notation that is not supported."""
        if self.is_identity:
            return word
        if self.unicode_form != "keep":
            word = unicodedata.normalize("NFC", word)
        if self._changes_only_form:
            return word
        if word in _MARKS or (word.startswith("(") and word.endswith(")")):
            raise InputError(
                f"text filter {self.label}: {word!r}: optional words, alternatives and null words are not supported; "
                "leave one reading in the text, or use --filter none, which compares it as it is written"
            )
        word = word.strip(self.punctuation) if self.punctuation else word
        if self.drop_fragments and (word.startswith("-") or word.endswith("-")):
            return ""
        if self.hesitations and word.lower() in self.hesitations:
            return ""
        return {"keep": word, "lower": word.lower(), "upper": word.upper()}[self.case]

    def words(self, words: Words) -> list[str]:
        """The words as they are compared."""
        return [filtered for filtered in map(self.word, words) if filtered]

    def texts(self, texts: Mapping[str, Words], place: object) -> dict[str, Words]:
        """The words of each utterance; InputError names `place` and the utterance."""
        if self.is_identity:
            return dict(texts)
        found: dict[str, Words] = {}
        for utterance, words in texts.items():
            try:
                found[utterance] = self.words(words)
            except InputError as error:
                raise InputError(f"{place}: utterance {utterance}: {error}") from None
        return found


FILTERS = {
    one.name: one
    for one in (
        TextFilter("none"),
        TextFilter("lower", case="lower"),
        TextFilter("upper", case="upper"),
        TextFilter("spoken", case="lower", punctuation=PUNCTUATION, drop_fragments=True, hesitations=HESITATIONS),
    )
}


def find_filter(name: str, unicode_form: UnicodeForm = "keep") -> TextFilter:
    """The filter of that name, with a Unicode form; InputError lists those that there are."""
    if name not in FILTERS:
        raise InputError(f"text filter {name!r}: no such filter; expected one of {', '.join(FILTERS)}")
    return replace(FILTERS[name], unicode_form=unicode_form)
