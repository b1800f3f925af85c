"""Descriptions of settings, made from their types."""

import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from asr_kd.core.config import Config, ExecutionOnly

_NAMES: dict[Any, str] = {int: "integer", float: "number", bool: "true or false", str: "text", type(None): "null",
                          Any: "any value"}


@dataclass(frozen=True)
class SettingHelp:
    """One setting: its key below the stage's settings, and what may stand there.

    `default` is a JSON value, None where there is none (`required`) and where the default is null. `rebuilds` is False
    for a setting that does not change the result.
    """

    key: str
    type: str
    required: bool
    default: Any
    description: str
    rebuilds: bool


@dataclass(frozen=True)
class SettingsGroup:
    """The settings that stand together under one key ("" for a stage's own), and what their type says of them."""

    key: str
    description: str
    settings: list[SettingHelp]


def describe_settings(kind: type[Config], key: str = "", given: Config | None = None) -> Iterator[SettingsGroup]:
    """Yield the settings of `kind`, then those of each group below it.

    given: settings whose values are the defaults, where a field of this kind has some of its own.
    """
    below: list[tuple[str, type[Config], Config | None]] = []
    settings = []
    for name, field in kind.model_fields.items():
        own_key = f"{key}.{name}" if key else name
        default = getattr(given, name) if given is not None else _default(field)
        settings.append(_describe_field(own_key, field, default, given is None and field.is_required()))
        below += [(own_key + suffix, nested, default if type(default) is nested else None)
                  for suffix, nested in _nested_types(field.annotation)]
    yield SettingsGroup(key, documentation(kind), settings)
    for own_key, nested, of_group in below:
        yield from describe_settings(nested, own_key, of_group)


def documentation(thing: Any) -> str:
    """The docstring of a class or function as one paragraph."""
    return " ".join((inspect.getdoc(thing) or "").split())


def _describe_field(key: str, field: FieldInfo, default: Any, required: bool) -> SettingHelp:
    text, limits = _describe_type(field.annotation, field.metadata)
    return SettingHelp(
        key=key,
        type=f"{text}, {limits}" if limits else text,
        required=required,
        default=pydantic.TypeAdapter(Any).dump_python(default, mode="json"),
        description=field.description or "",
        rebuilds=not any(isinstance(mark, ExecutionOnly) for mark in field.metadata),
    )


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    return None if value is PydanticUndefined else value


def _describe_type(annotation: Any, metadata: typing.Sequence[Any] = ()) -> tuple[str, str]:
    """The type in words, and the bounds that hold for it ("" where there are none)."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return _describe_type(inner, [*_flat(marks), *metadata])
    metadata = _flat(metadata)
    origin, arguments = get_origin(annotation), get_args(annotation)
    limits = _describe_limits(metadata)
    if origin is Literal:
        return " | ".join(str(value) for value in arguments), limits
    if origin in (Union, types.UnionType):
        return " or ".join(_with_limits(argument) for argument in arguments), limits
    if origin in (list, tuple, set, frozenset):
        items = [argument for argument in arguments if argument is not Ellipsis]
        return f"list of {_with_limits(items[0])}" if items else "list", limits
    if origin is dict:
        return f"mapping of {_with_limits(arguments[0])} to {_with_limits(arguments[1])}", limits
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "settings", limits
    if annotation is str and any(getattr(mark, "pattern", None) for mark in metadata):
        return "name", limits
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation))), limits


def _with_limits(annotation: Any) -> str:
    text, limits = _describe_type(annotation)
    return f"{text} ({limits})" if limits else text


def _flat(marks: typing.Sequence[Any]) -> list[Any]:
    """Marks of a type, with those that stand within a Field."""
    return [inner for mark in marks for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def _describe_limits(metadata: typing.Sequence[Any]) -> str:
    limits = []
    for mark in metadata:
        match mark:
            case annotated_types.Gt(gt=bound):
                limits.append(f"above {bound}")
            case annotated_types.Ge(ge=bound):
                limits.append(f"at least {bound}")
            case annotated_types.Lt(lt=bound):
                limits.append(f"below {bound}")
            case annotated_types.Le(le=bound):
                limits.append(f"at most {bound}")
            case annotated_types.MinLen(min_length=length) if length:
                limits.append(f"at least {length} of them" if length > 1 else "not empty")
            case annotated_types.MaxLen(max_length=length):
                limits.append(f"at most {length} of them")
    return ", ".join(limits)


def _nested_types(annotation: Any) -> Iterator[tuple[str, type[Config]]]:
    """Types of settings below a field, with what stands behind its key: `.NAME` in a mapping, `[]` in a list."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield "", annotation
    elif origin is dict:
        yield from ((f".NAME{suffix}", nested) for suffix, nested in _nested_types(arguments[1]))
    elif origin in (list, tuple):
        yield from ((f"[]{suffix}", nested) for suffix, nested in _nested_types(arguments[0]))
    elif origin is Annotated:
        yield from _nested_types(arguments[0])
    else:
        for argument in arguments:
            if get_origin(annotation) is not Literal:
                yield from _nested_types(argument)
