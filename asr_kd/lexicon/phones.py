"""The phone symbol table: position-dependent phones, silence phones and tree roots."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json

POSITIONS = ("B", "E", "I", "S")
_STRESS = re.compile(r"(?<=.)\d$")


@dataclass(frozen=True)
class PhoneTable:
    """Phones with their integer ids; id 0 is `<eps>`.

    `symbols[id]` is the phone with its position in the word (`AA1_B` begin, `_I` inside, `_E` end, `_S` the only
    one); a silence phone also occurs without position (as optional silence). `root_groups` are the sets of phones
    that share a tree root: all positions and stresses of one phone. `silence` holds the ids of silence phones,
    `optional_silence` the one put between words. Order and content are those of Kaldi's `prepare_lang.sh`.
    """

    symbols: tuple[str, ...]
    root_groups: tuple[tuple[int, ...], ...]
    silence: frozenset[int]
    optional_silence: int
    position_dependent: bool

    @staticmethod
    def build(
        phones: Iterable[str],
        silence_phones: Sequence[str] = ("SIL", "SPN"),
        optional_silence: str = "SIL",
        position_dependent: bool = True,
    ) -> "PhoneTable":
        """The table of the given phones (without positions); silence phones come first, the others sorted.

        Phones that differ in a last digit only (stress, tone) share a root. InputError where `optional_silence`
        is no silence phone, or where two phones become the same symbol.
        """
        if optional_silence not in silence_phones:
            raise InputError(f"optional silence {optional_silence!r} is not among the silence phones "
                             f"{', '.join(silence_phones)}")
        groups: dict[tuple[bool, str], list[str]] = {(False, phone): [phone] for phone in silence_phones}
        for phone in sorted(set(phones) - set(silence_phones)):
            groups.setdefault((True, without_stress(phone)), []).append(phone)
        symbols = ["<eps>"]
        silence: set[int] = set()
        for phone in silence_phones:
            silence.update(range(len(symbols), len(symbols) + (5 if position_dependent else 1)))
            symbols += [phone] + ([f"{phone}_{p}" for p in POSITIONS] if position_dependent else [])
        for phone in sorted(phone for (speech, _), members in groups.items() if speech for phone in members):
            symbols += [f"{phone}_{p}" for p in POSITIONS] if position_dependent else [phone]
        ids = {symbol: i for i, symbol in enumerate(symbols)}
        if len(ids) != len(symbols):
            twice = next(s for s in symbols if symbols.count(s) > 1)
            raise InputError(f"phone {twice!r} arises twice once positions are added; rename the phone")
        roots = []
        for (speech, _), members in groups.items():
            forms = [form for phone in members for form in _forms(phone, position_dependent, not speech)]
            roots.append(tuple(sorted(ids[form] for form in forms)))
        return PhoneTable(tuple(symbols), tuple(roots), frozenset(silence), ids[optional_silence],
                          position_dependent)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Symbol -> id."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    @property
    def num_phones(self) -> int:
        """Number of phones, `<eps>` not counted; ids run from 1 to this."""
        return len(self.symbols) - 1

    @property
    def speech(self) -> list[int]:
        """Ids of the phones that are not silence."""
        return [i for i in range(1, len(self.symbols)) if i not in self.silence]

    def base(self, phone: int) -> str:
        """The phone's symbol without its position."""
        symbol = self.symbols[phone]
        return symbol[:-2] if self.position(phone) else symbol

    def position(self, phone: int) -> str:
        """`B`, `E`, `I`, `S`, or empty for a phone without position."""
        symbol = self.symbols[phone]
        return symbol[-1] if self.position_dependent and symbol[-2:-1] == "_" and symbol[-1] in POSITIONS else ""

    def stress(self, phone: int) -> str:
        """The digit at the end of the phone (stress or tone), or empty."""
        found = _STRESS.search(self.base(phone))
        return found.group() if found else ""

    def in_word(self, phones: Sequence[str]) -> tuple[int, ...]:
        """Ids of a word's phones (given without positions), each with its position. InputError if one is unknown."""
        last = len(phones) - 1
        positions = ["S"] if last == 0 else ["B", *["I"] * (last - 1), "E"]
        forms = [f"{phone}_{position}" if self.position_dependent else phone
                 for phone, position in zip(phones, positions, strict=True)]
        for phone, form in zip(phones, forms, strict=True):
            if form not in self.ids:
                raise InputError(f"phone {phone!r} is not in the phone table")
        return tuple(self.ids[form] for form in forms)

    def disambiguation_id(self, number: int) -> int:
        """The id of the disambiguation symbol `#number`: they follow the phones, as in Kaldi's `phones.txt`."""
        return len(self.symbols) + number

    def as_json(self) -> dict[str, Any]:
        """All of the table as JSON values."""
        return {"symbols": list(self.symbols), "root_groups": [list(g) for g in self.root_groups],
                "silence": sorted(self.silence), "optional_silence": self.optional_silence,
                "position_dependent": self.position_dependent}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "PhoneTable":
        """The table that `as_json` described."""
        return PhoneTable(tuple(value["symbols"]), tuple(tuple(g) for g in value["root_groups"]),
                          frozenset(value["silence"]), value["optional_silence"], value["position_dependent"])

    @cached_property
    def digest(self) -> str:
        """Identifies the table's content, in hexadecimal digits."""
        return hash_json(self.as_json())


def without_stress(phone: str) -> str:
    """A phone without the digit of its stress or tone."""
    return _STRESS.sub("", phone)


def _forms(phone: str, position_dependent: bool, is_silence: bool) -> list[str]:
    if not position_dependent:
        return [phone]
    return ([phone] if is_silence else []) + [f"{phone}_{p}" for p in POSITIONS]
