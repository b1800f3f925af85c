"""Compare the record of a stage with the stage that a recipe asks for now."""

from collections.abc import Mapping
from typing import Any

from asr_kd.core.files import hash_json
from asr_kd.core.stages import Stage

_SHOWN = 6
_LONGEST = 60
_ABSENT = object()


def is_of_key(record: Mapping[str, Any], stage: Stage, outside: Mapping[str, str]) -> bool:
    """Return True if the record is of the stage as it is now; what only the execution depends on may differ."""
    identity = stage.identity(outside)
    if record["key"] == hash_json(identity):
        return True
    # Keys of earlier versions held the settings of the execution too; a record has all settings of its build.
    settings = stage.config.without_execution_only(record.get("settings"))
    if settings != identity["settings"]:
        return False
    return record["key"] == hash_json({**identity, "settings": record["settings"]})


def describe_changes(record: Mapping[str, Any], stage: Stage, outside: Mapping[str, str]) -> str:
    """Say which settings, versions, inputs and outside files differ from the record's, old and new."""
    new = stage.identity(outside)
    old = record.get("identity")
    changes = []
    if not isinstance(old, dict):
        old = {**new, "version": record.get("version"), "settings": record.get("settings")}
        settings = stage.config.without_execution_only(old["settings"])
        old["settings"] = old["settings"] if settings is None else settings
    if old.get("version") != new["version"]:
        changes.append(f"the code of this kind of stage changed (version {old.get('version')} -> {new['version']})")
    for part, word in (("settings", ""), ("inputs", "input "), ("outside", "outside file ")):
        before, now = _flat(old.get(part)), _flat(new[part])
        for name in [*before, *(name for name in now if name not in before)]:
            if before.get(name, _ABSENT) == now.get(name, _ABSENT):
                continue
            if part == "outside":
                change = "is gone" if name not in now else "is new" if name not in before else "changed"
                changes.append(f"{word}{name} {change}")
            else:
                changes.append(f"{word}{name}: {_shown(before, name)} -> {_shown(now, name)}")
    if old.get("seed") != new["seed"]:
        changes.append(f"seed: {old.get('seed')} -> {new['seed']}")
    if not changes:
        return "settings, code or outside files changed (the record is of an earlier version of asr-kd)"
    more = f"; and {len(changes) - _SHOWN} more changes" if len(changes) > _SHOWN else ""
    return "; ".join(changes[:_SHOWN]) + more


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of nested mappings."""
    if not isinstance(value, dict):
        return {}
    leaves: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict) and item:
            leaves |= _flat(item, f"{prefix}{name}." if "/" not in str(name) else f"{prefix}{name}:")
        else:
            leaves[f"{prefix}{name}"] = item
    return leaves


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not set"
    text = str(values[name])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
