"""A recipe out of its files: the base that it extends, its own, and one for each of its options."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr_kd.core.config import Settings, nearest_name, read_settings
from asr_kd.core.errors import InputError
from asr_kd.core.opening import reading, resolved

MAX_BASES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_OPTION_KEYS = ("description", "stages", "fast")


def load_recipe(file: Path) -> Settings:
    """Read the recipe in `file`, laid over the base that it `extends`, with the stages of its option files.

    `extends` is the name of an installed base (`recipes/base/NAME.yaml`) or recipe, or a path relative to the file
    that says it. Over a base, mappings merge and all else replaces. `null` takes a stage, an input or a setting of the
    base away. A stage of another kind takes the whole place of the base's. Stages that the base does not have come
    behind its own, or where they say: `before: STAGE`, `after: STAGE`.

    `options` maps names to descriptions, or lists names of files `options/NAME.yaml` beside the recipe: each has a
    `description`, `stages` (of that option unless they name others) and `fast`. These stages come last.

    InputError with file and line: a base that is not there, extends itself or has more than `MAX_BASES` below it;
    a stage without a kind that the base does not have; a stage taken away that another one reads; a place before or
    after no stage.
    """
    return _load(file, [])


def installed_folders() -> list[Path]:
    """The folders that hold the package's recipes."""
    import recipes

    return [Path(root) for root in recipes.__path__]


def _load(file: Path, above: list[Path]) -> Settings:
    own = read_settings(file)
    options = own.values.get("options")
    base = _load_base(own, file, [*above, file])
    merged = _in_stated_order(own if base is None else _overlaid(base, own), own)
    return merged if not isinstance(options, list) else _with_option_files(merged, own, options, file.parent)


def _load_base(own: Settings, file: Path, above: list[Path]) -> Settings | None:
    name = own.values.pop("extends", None)
    if name is None:
        return None
    place = f"{own.place(('extends',))}: extends"
    if not isinstance(name, str):
        raise InputError(f"{place}: expected the name of a base, or a path to one; found {name!r}")
    base = _find_base(name, file, place)
    chain = " -> ".join(str(path) for path in [*above, base])
    if resolved(base) in [resolved(path) for path in above]:
        raise InputError(f"{place}: a recipe cannot extend itself: {chain}")
    if len(above) > MAX_BASES:
        raise InputError(f"{place}: more than {MAX_BASES} bases below one another: {chain}")
    return _load(base, above)


def _find_base(name: str, file: Path, place: str) -> Path:
    if _NAME.fullmatch(name):
        candidates = [path for root in installed_folders()
                      for path in (root / "base" / f"{name}.yaml", root / name / "recipe.yaml")]
        hint = f"{nearest_name(name, sorted(_installed_names()))} (a file beside the recipe: ./{name}.yaml)"
    else:
        path = file.parent / name
        with reading(path):
            candidates = [path / "recipe.yaml" if path.is_dir() else path]
        hint = f"expected the file {candidates[0]}"
    for path in candidates:
        with reading(path):
            if path.is_file():
                return path
    raise InputError(f"{place}: no base {name!r}; {hint}")


def _installed_names() -> Iterator[str]:
    for root in installed_folders():
        yield from (path.stem for path in (root / "base").glob("*.yaml"))
        yield from (path.parent.name for path in root.glob("*/recipe.yaml"))


def _overlaid(base: Settings, own: Settings) -> Settings:
    base_stages, own_stages = _stages(base), _stages(own)
    _check_known(base_stages, own)
    replaced = [
        name for name, entry in own_stages.items()
        if name in base_stages and not _same_kind(base_stages[name], entry)
    ]
    kept = {name: ({} if name in replaced else entry) for name, entry in base_stages.items()}
    fast = base.values.get("fast")
    if isinstance(fast, dict):
        fast = {name: settings for name, settings in fast.items() if name not in replaced}
    base_values = {**base.values, "stages": kept, "fast": fast or {}}
    own_values = dict(own.values)
    if isinstance(own_values.get("options"), list):
        del own_values["options"]
    places = {key: place for key, place in base.places.items() if key[:1] != ("stages",) or key[1:2] not in
              [(name,) for name in replaced]}
    merged = Settings(_patched(base_values, own_values), {**places, **own.places})
    _check_dropped(merged, own)
    return merged


def _check_dropped(merged: Settings, own: Settings) -> None:
    """InputError where a stage that `own` takes away is read by one that stays."""
    dropped = {name for name, entry in _stages(own).items() if entry is None}
    for name, entry in _stages(merged).items():
        reads = entry.get("reads") if isinstance(entry, dict) else None
        for input_name, reference in (reads.items() if isinstance(reads, dict) else ()):
            needed = str(reference).partition("@")[0]
            if needed in dropped:
                reader = merged.place(("stages", name, "reads", input_name))
                raise InputError(f"{own.place(('stages', needed))}: stages.{needed}: dropped here, but {name} reads it "
                                 f"({reader}); take the input away too, {name}: {{reads: {{{input_name}: null}}}}, or "
                                 "name another stage there")


def _check_known(base_stages: dict[str, Any], own: Settings) -> None:
    for name, entry in _stages(own).items():
        changes = entry is None or isinstance(entry, dict) and "run" not in entry
        if changes and name not in base_stages:
            raise InputError(f"{own.place(('stages', name))}: stages.{name}: the base has no such stage; "
                             f"{nearest_name(name, list(base_stages))} (a stage of your own names its kind under run)")


def _same_kind(base_entry: Any, entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(base_entry, dict):
        return False
    return "run" not in entry or entry["run"] == base_entry.get("run")


def _patched(base: Any, overlay: Any) -> Any:
    """`overlay` over `base`, as a JSON merge patch (RFC 7396): null takes away what the base has."""
    if not isinstance(base, dict) or not isinstance(overlay, dict):
        return overlay
    patched = dict(base)
    for key, value in overlay.items():
        if key not in base:
            patched[key] = value
        elif value is None:
            del patched[key]
        else:
            patched[key] = _patched(base[key], value)
    return patched


def _in_stated_order(merged: Settings, own: Settings) -> Settings:
    """The stages with those that `own` places `before` or `after` another moved there."""
    stages = merged.values.get("stages")
    if not isinstance(stages, dict):
        return merged
    order = list(stages)
    followers: dict[str, str] = {}
    for name, entry in _stages(own).items():
        if not isinstance(entry, dict) or not {"before", "after"} & entry.keys():
            continue
        if {"before", "after"} <= entry.keys():
            raise InputError(f"{own.place(('stages', name, 'after'))}: stages.{name}: before and after; expected one")
        side = "before" if "before" in entry else "after"
        anchor = entry[side]
        order.remove(name)
        if not isinstance(anchor, str) or anchor not in order:
            raise InputError(f"{own.place(('stages', name, side))}: stages.{name}.{side}: no stage {anchor!r}; "
                             f"{nearest_name(str(anchor), order)}")
        if side == "before":
            order.insert(order.index(anchor), name)
        else:
            # Stages that follow the same one keep their order.
            order.insert(order.index(followers.get(anchor, anchor)) + 1, name)
            followers[anchor] = name
    placed = {name: _without_place(stages[name]) for name in order}
    return Settings({**merged.values, "stages": placed}, merged.places)


def _without_place(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: value for key, value in entry.items() if key not in ("before", "after")}


def _with_option_files(merged: Settings, own: Settings, names: list[Any], folder: Path) -> Settings:
    """The recipe with the stages of each option's file behind its own."""
    options = merged.values.get("options")
    values = {**merged.values, "options": dict(options) if isinstance(options, dict) else {}}
    values["stages"] = dict(merged.slice("stages").values)
    values["fast"] = dict(merged.slice("fast").values)
    places = dict(merged.places)
    for number, name in enumerate(names):
        here = f"{own.place(('options', number))}: options"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(f"{here}: expected the NAME of a file options/NAME.yaml, found {name!r}")
        if name in values["options"]:
            raise InputError(f"{here}: {name!r} is an option of the base already")
        file = folder / "options" / f"{name}.yaml"
        if not file.is_file():
            raise InputError(f"{here}: no file {file} for the option {name!r}")
        option = read_settings(file)
        for key in option.values:
            if key not in _OPTION_KEYS:
                raise InputError(f"{option.place((key,))}: {key}: unknown key; "
                                 f"an option has {', '.join(_OPTION_KEYS)}")
        values["options"][name] = option.values.get("description")
        places["options", name] = option.place(("description",))
        _add_stages(values, option, name)
        places |= {key: place for key, place in option.places.items() if len(key) > 1 and key[0] in ("stages", "fast")}
    return Settings(values, places)


def _add_stages(values: dict[str, Any], option: Settings, name: str) -> None:
    for stage, entry in option.slice("stages").values.items():
        if stage in values["stages"]:
            place = option.place(("stages", stage))
            raise InputError(f"{place}: stages.{stage}: there is a stage of that name already")
        values["stages"][stage] = {"option": name, **entry} if isinstance(entry, dict) else entry
    values["fast"] |= option.slice("fast").values


def _stages(settings: Settings) -> dict[str, Any]:
    stages = settings.values.get("stages")
    return stages if isinstance(stages, dict) else {}
