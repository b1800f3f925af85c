"""Stages of a recipe that stand for many, one for each point of a grid."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from asr_kd.core.config import Settings
from asr_kd.core.errors import InputError
from asr_kd.core.plain_yaml import Key

MAX_STAGES = 2_000
MAX_FILLED_TEXT = 10_000
_PLACEHOLDER = re.compile(r"<(\w+)>")
Point = Mapping[str, Any]


def expand_sweeps(settings: Settings) -> Settings:
    """A recipe's settings with every stage that has `each` replaced by one stage for each point of its grid.

    `each` maps names to lists of values, or is a list of such mappings; each mapping stands for the product of its
    lists. Neighbours with the same `each` take turns, point by point. A point's values take the place of `<name>` in
    the stage's name (without dots, which a stage's name may not have), in what it reads and in its settings, where a
    `<name>` that stands alone keeps the value's type.
    InputError: an empty grid, a placeholder without values, two points of one name, more than `MAX_STAGES` stages, a
    text of more than `MAX_FILLED_TEXT` characters.
    """
    stages = settings.values.get("stages")
    if not isinstance(stages, dict) or not any(_grid(entry) is not None for entry in stages.values()):
        return settings
    expanded: dict[str, Any] = {}
    places: dict[Key, str] = {}
    of_template: dict[str | int, list[tuple[Key, str]]] = {}
    for key, place in settings.places.items():
        if key[:1] != ("stages",) or len(key) == 1:
            places[key] = place
        elif key[2:3] != ("each",):
            of_template.setdefault(key[1], []).append((key[2:], place))
    for _, alike in itertools.groupby(stages, lambda template: _grid(stages[template])):
        templates = list(alike)
        for point in _points(settings, templates[0], stages[templates[0]]):
            for template in templates:
                here = f"{settings.place(('stages', template))}: stages.{template}"
                try:
                    name = _fill_name(template, point)
                    filled = _fill_stage(stages[template], point)
                except KeyError as error:
                    raise InputError(f"{here}: <{error.args[0]}> is not among {', '.join(point)} of its each") from None
                except ValueError as error:
                    raise InputError(f"{here}: {error}") from None
                if len(expanded) == MAX_STAGES:
                    raise InputError(f"{here}: with all points of its each the recipe has more than {MAX_STAGES:,} "
                                     "stages; expected a smaller grid, or several recipes")
                if name in expanded:
                    raise InputError(f"{here}: there is a stage {name!r} already")
                expanded[name] = filled
                for key, place in of_template.get(template, []):
                    places["stages", name, *_fill_key(key, point)] = place
    return Settings({**settings.values, "stages": expanded}, places)


def _grid(entry: Any) -> Any:
    return entry.get("each") if isinstance(entry, dict) else None


def _points(settings: Settings, template: str, entry: Any) -> Iterator[Point]:
    each = _grid(entry)
    if each is None:
        yield {}
        return
    grids = each if isinstance(each, list) and each else [each]
    for grid in grids:
        if not isinstance(grid, dict) or not grid or not all(isinstance(v, list) and v for v in grid.values()):
            raise InputError(f"{settings.place(('stages', template, 'each'))}: stages.{template}.each: expected names, "
                             "each with a list of values")
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


def _fill_stage(entry: Any, point: Point) -> Any:
    if not point:
        return entry
    filled = {key: _fill(value, point) for key, value in entry.items() if key not in ("each", "reads")}
    reads = entry.get("reads")
    if isinstance(reads, dict):
        reads = {_fill_text(name, point): _fill_name(stage, point) for name, stage in reads.items()}
    return filled if reads is None else {**filled, "reads": reads}


def _fill(value: Any, point: Point) -> Any:
    if isinstance(value, dict):
        return {_fill_text(key, point): _fill(item, point) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, point) for item in value]
    if not isinstance(value, str):
        return value
    alone = _PLACEHOLDER.fullmatch(value)
    return point[alone[1]] if alone else _fill_text(value, point)


def _fill_text(text: Any, point: Point) -> Any:
    if not isinstance(text, str):
        return text
    return _with_values(text, {name: str(value) for name, value in point.items()})


def _fill_name(name: Any, point: Point) -> Any:
    if not isinstance(name, str) or not point:
        return name
    return _with_values(name, {name: str(value).replace(".", "") for name, value in point.items()})


def _with_values(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `<name>` replaced; KeyError: a name without a value, ValueError: too long a text."""
    length = len(text) + sum(len(values[name]) for name in _PLACEHOLDER.findall(text))
    if length > MAX_FILLED_TEXT:
        raise ValueError(f"a text of {length:,} characters with the values of its each; "
                         f"expected at most {MAX_FILLED_TEXT:,}")
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _fill_key(key: Key, point: Point) -> Key:
    return tuple(_fill_text(part, point) for part in key) if point else key
