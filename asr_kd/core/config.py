"""Plain YAML into frozen typed settings; what is wrong is named with file, line and key."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import pydantic
from pydantic.fields import FieldInfo

from asr_kd.core.errors import InputError
from asr_kd.core.plain_yaml import MAX_CHARACTERS, MAX_DEPTH, Key, dotted, parse_yaml
from asr_kd.core.text_tables import read_lines

# What a split, a system or a model is called; it becomes part of file names, so it holds no path.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, pydantic.StringConstraints(pattern=NAME_PATTERN)]


# Pydantic names a class of ours beside the mapping that a user writes.
_INSTANCE = re.compile(r" or instance of \w+")


class ExecutionOnly:
    """Marks a field that says how work is done, never what comes out: `threads: Annotated[int, ExecutionOnly()] = 0`.

    Changing such a setting rebuilds nothing.
    """


class AddedLater:
    """Marks a field that settings got after results had been made without it, and whose default makes the same results.

    At its default it is no part of what a result depends on: those made before stay valid.
    """


class Config(pydantic.BaseModel):
    """Base of all settings: frozen, no unknown keys, no silent conversion of types."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _keep_defaults_of_groups(cls, values: Any) -> Any:
        """Lay a group of settings over the field's own default, not over the defaults of the group's type."""
        if not isinstance(values, dict):
            return values
        groups = {}
        for name, field in cls.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            is_group = type(default) in (field.annotation, *get_args(field.annotation))
            if isinstance(default, Config) and is_group and isinstance(values.get(name), dict):
                groups[name] = _merge(default.model_dump(), values[name])
        return values | groups

    def result_settings(self) -> dict[str, Any]:
        """Return as JSON values all settings but those that the result does not depend on: the `ExecutionOnly` ones,
        and the `AddedLater` ones that are at their defaults."""
        return _without_execution_only(self, self.model_dump(mode="json"))

    def without_execution_only(self, settings: Any) -> dict[str, Any] | None:
        """Leave the `ExecutionOnly` settings out of an earlier dump of this type; None where its shape is another."""
        try:
            return _without_execution_only(self, settings)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


ConfigType = TypeVar("ConfigType", bound=Config)


class Settings:
    """The content of a YAML file (or of an override), each value with the place that it came from.

    `places` belongs to the whole file; `root` is the key at which `values` stand in it. `under` are the settings that
    these were laid over: a key that these do not hold has its place there.
    """

    def __init__(
        self, values: dict[str, Any], places: dict[Key, str], root: Key = (), under: "Settings | None" = None
    ) -> None:
        self.values = values
        self.places = places
        self._root = root
        self._under = under

    def place(self, key: Key) -> str:
        """`file:line` of a key, or of the nearest key above it that has one."""
        layers = list(self._layers())
        for length in range(len(key), -1, -1):
            for layer in layers:
                place = layer.places.get((*layer._root, *key[:length]))
                if place is not None:
                    return place
        for layer in layers:
            for length in range(len(layer._root) - 1, -1, -1):
                if layer._root[:length] in layer.places:
                    return layer.places[layer._root[:length]]
        return "settings"

    def slice(self, *key: str | int) -> "Settings":
        """The settings below `key` (a mapping; an absent or empty one gives no settings)."""
        value: Any = self.values
        for part in key:
            value = value[part] if not isinstance(value, Mapping) else value.get(part)
            if value is None:
                break
        if value is not None and not isinstance(value, dict):
            raise InputError(f"{self.place(key)}: {dotted(key)}: expected a mapping, found {_kind(value)}")
        under = None if self._under is None else self._under.slice(*key)
        return Settings(value or {}, self.places, (*self._root, *key), under)

    def merged(self, overlay: "Settings") -> "Settings":
        """These settings with `overlay`'s laid over them; mappings merge, all else is replaced."""
        under: Settings | None = self
        for layer in reversed(list(overlay._layers())):
            under = Settings(layer.values, layer.places, layer._root, under)
        assert under is not None
        under.values = _merge(self.values, overlay.values)
        return under

    def _layers(self) -> Iterator["Settings"]:
        layer: Settings | None = self
        while layer is not None:
            yield layer
            layer = layer._under

    def with_override(self, assignment: str, said: str = "") -> "Settings":
        """Apply `a.b=value` from the command line; the value is read as YAML.

        `said` is the whole assignment as the user gave it, for messages, where that is longer.
        """
        said = f"--set {said or assignment}"
        name, equals, text = assignment.partition("=")
        if not equals or not all(name.split(".")):
            raise InputError(f"{said}: expected KEY.KEY=VALUE")
        if name.count(".") >= MAX_DEPTH:
            raise InputError(f"{said[:80]}...: a key of more than {MAX_DEPTH} parts")
        values = parse_yaml(text, said, {})
        for part in reversed(name.split(".")):
            values = {part: values}
        key: Key = tuple(name.split("."))
        return self.merged(Settings(values, {key: said}))


def read_settings(path: Path) -> Settings:
    """Read a YAML mapping. Not YAML, duplicate keys, tags and anchors' merges raise InputError with file:line."""
    places: dict[Key, str] = {(): f"{path}:1"}
    values = parse_yaml("\n".join(_bounded_lines(path)), str(path), places)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise InputError(f"{path}:1: expected a mapping of settings, found {_kind(values)}")
    return Settings(values, places)


def _bounded_lines(path: Path) -> Iterator[str]:
    characters = 0
    for number, line in read_lines(path, MAX_CHARACTERS):
        characters += len(line) + 1
        if characters > MAX_CHARACTERS:
            raise InputError(f"{path}:{number}: more than {MAX_CHARACTERS:,} characters; expected a file of settings")
        yield line


def build_config(kind: type[ConfigType], settings: Settings, prefix: str = "") -> ConfigType:
    """Validate `settings` as a `kind`; the first fault raises InputError with place, key and what was expected.

    `prefix` is put before the key in messages.
    """
    try:
        return kind.model_validate(settings.values)
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key: Key = tuple(part for part in fault["loc"] if not _is_union_tag(part))
        name = ".".join(part for part in (prefix, dotted(key)) if part)
        place = settings.place(key)
        if fault["type"] == "extra_forbidden":
            hint = nearest_name(str(key[-1]), _fields_at(kind, key[:-1]))
            raise InputError(f"{place}: {name}: unknown key; {hint}") from None
        if fault["type"] == "missing":
            raise InputError(f"{place}: {name}: missing, and it has no default") from None
        message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        message = _INSTANCE.sub("", message)
        # Settings that do not fit together: the message names them, all that stand beside them would only hide it.
        together = fault["type"] == "value_error" and isinstance(fault["input"], dict)
        found = "" if together else f", found {fault['input']!r}"
        raise InputError(f"{': '.join(filter(None, (place, name, message)))}{found}") from None


def nearest_name(name: str, known: Sequence[str]) -> str:
    """A hint for a mistyped name: the nearest known one, or all of them."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(known)}"


def _without_execution_only(value: Any, dumped: Any) -> Any:
    """Remove from `dumped`, the JSON form of `value`, the fields marked as `ExecutionOnly`, and those marked as
    `AddedLater` that are at their defaults."""
    if isinstance(value, Config):
        marked = {name for name, field in type(value).model_fields.items() if _is_left_out(value, name, field)}
        return {
            name: _without_execution_only(getattr(value, name, None), item)
            for name, item in dumped.items() if name not in marked
        }
    if isinstance(value, Mapping):
        return {
            key: _without_execution_only(item, json_item)
            for item, (key, json_item) in zip(value.values(), dumped.items(), strict=True)
        }
    if isinstance(value, list | tuple):
        return [_without_execution_only(item, json_item) for item, json_item in zip(value, dumped, strict=True)]
    return dumped


def _is_left_out(value: Config, name: str, field: FieldInfo) -> bool:
    if any(isinstance(mark, ExecutionOnly) for mark in field.metadata):
        return True
    is_later = any(isinstance(mark, AddedLater) for mark in field.metadata)
    return is_later and getattr(value, name) == field.get_default(call_default_factory=True, validated_data={})


def _merge(base: Any, overlay: Any) -> Any:
    if isinstance(base, dict) and isinstance(overlay, dict):
        return {k: _merge(base.get(k), overlay[k]) if k in overlay else base[k] for k in {**base, **overlay}}
    return overlay


def _fields_at(kind: type[Config], key: Key) -> list[str]:
    current: Any = kind
    for part in key:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        if field is None:
            return []
        current = _inner_config(field.annotation)
        if current is None:
            return []
    return list(current.model_fields)


def _inner_config(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    for part in get_args(annotation):
        found = _inner_config(part)
        if found is not None:
            return found
    return None


def _is_union_tag(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float", "bool", "none"})


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "a truth value", int: "a number",
             float: "a number", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
