"""Plain YAML: mappings, lists, text, numbers, truth values; within bounds that no settings file needs to exceed.

Scalars are those of YAML 1.2's core schema, so `190:20:30`, `yes`, `on`, `1_000` and `2024-01-01` are text. PyYAML's
own loader follows YAML 1.1, where they are a number, truth values, a number and a date.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from asr_kd.core.errors import InputError

Key = tuple[str | int, ...]

MAX_DEPTH = 50
MAX_VALUES = 200_000
MAX_CHARACTERS = 8_000_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
          "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
# What a plain scalar of each tag may be; text may be anything.
_TAGGED: dict[str, type | tuple[type, ...]] = {
    "int": int, "float": (int, float), "bool": bool, "null": type(None),
}


def parse_yaml(text: str, path: str, places: dict[Key, str]) -> Any:
    """Return the value that `text` holds, and note in `places` the `path:line` of each key.

    InputError with the line: not YAML, a key given twice, a tag that makes objects, an anchor that holds itself,
    a number beyond 64 bits, characters that no text has, more than `MAX_VALUES` values (aliases counted as what they
    stand for) or `MAX_DEPTH` levels.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{path}: {len(text):,} characters of YAML; expected at most {MAX_CHARACTERS:,}")
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        line = text.count("\n", 0, unprintable.start()) + 1
        raise InputError(f"{path}:{line}: not YAML: holds the character U+{ord(unprintable[0]):04X}")
    try:
        return _Parser(yaml.parse(text, Loader=_LOADER), path, places).document()
    except yaml.MarkedYAMLError as error:
        line = min(error.problem_mark.line + 1, text.count("\n") + 1) if error.problem_mark else 1
        raise InputError(f"{path}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from error


def dotted(key: Key) -> str:
    """A key as it stands in messages: `a.b.0`."""
    return ".".join(str(part) for part in key)


@dataclass
class _Anchored:
    """A value that an anchor names: what it is, how many values it holds, where they stand below it."""

    value: Any
    size: int
    places: dict[Key, str]
    depth: int


class _Parser:
    """Makes values out of the parser's events, which hold nothing but text."""

    def __init__(self, events: Iterator[Any], path: str, places: dict[Key, str]) -> None:
        self.events = events
        self.path = path
        self.places = places
        self.keys: list[Key] = []
        self.count = 0
        self.anchors: dict[str, _Anchored | None] = {}

    def document(self) -> Any:
        next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self.value(next(self.events), ())
        next(self.events)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise InputError(f"{self.place(event)}: not YAML: a second document; expected one")
        return value

    def place(self, event: Any) -> str:
        return f"{self.path}:{event.start_mark.line + 1}"

    def value(self, event: Any, key: Key) -> Any:
        place = self.place(event)
        self.note(key, place)
        if len(key) > MAX_DEPTH:
            raise InputError(f"{place}: nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, key)
        self.add(1, place)
        count, keys_above = self.count, len(self.keys)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event, key)
        else:
            kind, collect = (("map", self.mapping) if isinstance(event, yaml.MappingStartEvent)
                             else ("seq", self.sequence))
            self.check_tag(event, key, kind)
            value = collect(key)
        if event.anchor is not None:
            below = {noted[len(key):]: self.places[noted] for noted in self.keys[keys_above:]}
            depth = max(map(len, below), default=0)
            self.anchors[event.anchor] = _Anchored(value, self.count - count + 1, below, depth)
        return value

    def alias(self, event: Any, key: Key) -> Any:
        place = self.place(event)
        if event.anchor not in self.anchors:
            raise InputError(f"{place}: {dotted(key)}: not YAML: no anchor {event.anchor!r} above")
        anchored = self.anchors[event.anchor]
        if anchored is None:
            raise InputError(f"{place}: {dotted(key)}: an anchor that holds itself")
        if len(key) + anchored.depth > MAX_DEPTH:
            raise InputError(f"{place}: nested more than {MAX_DEPTH} deep")
        self.add(anchored.size, place)
        for below, where in anchored.places.items():
            self.note((*key, *below), where)
        return anchored.value

    def note(self, key: Key, place: str) -> None:
        if key not in self.places:
            self.places[key] = place
            self.keys.append(key)

    def add(self, values: int, place: str) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            raise InputError(f"{place}: more than {MAX_VALUES:,} values (an alias counts as all that it stands for)")

    def mapping(self, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            here = self.place(event)
            plain = isinstance(event, yaml.ScalarEvent) and event.tag is None and event.anchor is None
            if not plain or event.value == "<<" and event.implicit[0]:
                raise InputError(f"{here}: expected a plain key")
            name = self.text(event, key)
            if name in values:
                raise InputError(f"{here}: {dotted((*key, name))}: given twice")
            self.note((*key, name), here)
            values[name] = self.value(next(self.events), (*key, name))
        return values

    def sequence(self, key: Key) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            values.append(self.value(event, (*key, len(values))))
        return values

    def scalar(self, event: Any, key: Key) -> Any:
        text = self.text(event, key)
        tag = self.check_tag(event, key, "str", *_TAGGED)
        plain = event.implicit[0]
        if not plain and tag is None or tag == "str":
            return text
        value = read_scalar(text, lambda message: InputError(f"{self.place(event)}: {dotted(key)}: {message}"))
        if tag is not None and not (isinstance(value, _TAGGED[tag]) and (tag == "bool" or value is not True)):
            raise InputError(f"{self.place(event)}: {dotted(key)}: {text!r} is no !!{tag}")
        return value

    def text(self, event: Any, key: Key) -> str:
        unprintable = _UNPRINTABLE.search(event.value)
        if unprintable:
            where = f"{self.place(event)}: {dotted(key)}"
            raise InputError(f"{where}: text that holds the character U+{ord(unprintable[0]):04X}")
        return str(event.value)

    def check_tag(self, event: Any, key: Key, *kinds: str) -> str | None:
        if event.tag is None:
            return None
        kind = event.tag.removeprefix(_TAG)
        if kind not in kinds:
            raise InputError(f"{self.place(event)}: {dotted(key)}: not a plain value ({event.tag})")
        return str(kind)


def read_scalar(text: str, refuse: Callable[[str], InputError]) -> Any:
    """The value of a scalar without quotes, as YAML 1.2's core schema has it.

    `refuse` makes the error for what is a number of one schema and another number of the next (`010`), for an integer
    beyond 64 bits and for a number beyond double precision.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            raise refuse(f"{text} begins with a zero: 8-based in YAML 1.1, 10-based in 1.2; write it without the zero, "
                         "or in quotes if it is text")
        return _bounded_integer(text, 10, refuse)
    if _BASED_INTEGER.fullmatch(text):
        return _bounded_integer(text[2:], 8 if text[1] == "o" else 16, refuse)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise refuse(f"{text[:40]} is too large for a number")
        return value
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _bounded_integer(digits: str, base: int, refuse: Callable[[str], InputError]) -> int:
    # 64 bits are 63 digits at most, in the smallest base but one.
    value = int(digits, base) if len(digits) < 100 else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise refuse(f"{digits[:40]}{'...' if len(digits) > 40 else ''} is too large for an integer (64 bits)")
    return value
