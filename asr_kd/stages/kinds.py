"""The kinds of stage that a recipe may name, described from their types; `asr-kd stages` prints them."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asr_kd.core.config import nearest_name
from asr_kd.core.errors import InputError
from asr_kd.core.settings_help import SettingHelp, SettingsGroup, describe_settings, documentation
from asr_kd.core.stages import StageKind
from asr_kd.stages.registry import STAGE_KINDS

_WIDTH = 100


@dataclass(frozen=True)
class KindHelp:
    """One kind of stage: its inputs, and groups of settings, the stage's own first.

    `any_input` is True where inputs of other names are taken too; `seeded` where the result depends on the seed.
    """

    name: str
    version: int
    description: str
    inputs: list[str]
    optional_inputs: list[str]
    any_input: bool
    seeded: bool
    settings: list[SettingsGroup]


def describe_kinds(kind: str | None = None) -> list[KindHelp]:
    """Describe all kinds of stage, or one; InputError with the nearest name where there is no such kind."""
    if kind is None:
        return [_describe(stage_kind) for stage_kind in STAGE_KINDS.values()]
    if kind not in STAGE_KINDS:
        raise InputError(f"no kind of stage {kind!r}; {nearest_name(kind, list(STAGE_KINDS))}")
    return [_describe(STAGE_KINDS[kind])]


def render_list(kinds: Sequence[KindHelp]) -> str:
    """One line a kind: name, inputs (optional ones in brackets)."""
    width = max(len(kind.name) for kind in kinds)
    lines = []
    for kind in kinds:
        optional = [f"[{name}]" for name in _shortened(kind.optional_inputs)]
        inputs = ", ".join([*kind.inputs, *optional, *(["any name"] if kind.any_input else [])]) or "no input"
        lines.append(f"{kind.name:{width}}  {inputs}")
        lines += _wrapped(kind.description, " " * (width + 2))
    return "\n".join(lines)


def render_kind(kind: KindHelp) -> str:
    """All of one kind: what it writes, its inputs, and each setting with type, bounds and default."""
    lines = [f"{kind.name} (version {kind.version})", *_wrapped(kind.description, "  "), ""]
    lines.append(f"inputs: {', '.join(kind.inputs) or 'none'}")
    if kind.optional_inputs:
        lines += _wrapped(f"optional inputs: {', '.join(kind.optional_inputs)}", "")
    if kind.any_input:
        lines.append("takes inputs of any other name")
    if kind.seeded:
        lines.append("depends on the seed")
    for group in kind.settings:
        lines += ["", f"settings{f' {group.key}' if group.key else ''}:"]
        lines += _wrapped(group.description, "  ")
        for setting in group.settings:
            lines += _render_setting(setting)
    return "\n".join(lines)


def _describe(kind: StageKind) -> KindHelp:
    return KindHelp(
        name=kind.name,
        version=kind.version,
        description=documentation(kind.function),
        inputs=list(kind.reads),
        optional_inputs=list(kind.may_read),
        any_input=kind.reads_any,
        seeded=kind.seeded,
        settings=list(describe_settings(kind.config)),
    )


def _render_setting(setting: SettingHelp) -> list[str]:
    if setting.type == "settings":
        return [f"  {setting.key}: settings, see below"]
    default = "required" if setting.required else f"default {_as_yaml(setting.default)}"
    result = "" if setting.rebuilds else "; does not change the result"
    lines = _wrapped(f"{setting.key}: {setting.type}; {default}{result}", "  ", "      ")
    return lines + _wrapped(setting.description, "      ")


def _as_yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value or "''"


def _wrapped(text: str, indent: str, following: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent if following is None else following,
        break_long_words=False, break_on_hyphens=False,
    )


def _shortened(names: Sequence[str]) -> list[str]:
    """Names with runs such as teacher_2, teacher_3 shown by their first and last."""
    numbered = [name for name in names if name.rpartition("_")[2].isdecimal()]
    if len(numbered) < 3:
        return list(names)
    others = [name for name in names if name not in numbered]
    return [*others, f"{numbered[0]} to {numbered[-1]}"]
