"""`asr-kd stages`: kinds, inputs and settings, from the types."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter

from asr_kd.cli.main import main
from asr_kd.core.config import Config, ExecutionOnly
from asr_kd.core.settings_help import describe_settings
from asr_kd.stages.kinds import describe_kinds
from asr_kd.stages.registry import STAGE_KINDS


class Inner(Config):
    """The inner ones."""

    rate: float = Field(0.5, gt=0, lt=1, description="how fast")


class Outer(Config):
    """The outer ones."""

    size: int = Field(ge=2)
    word: Literal["a", "b"] = "b"
    inner: Inner = Inner()
    slow: Inner = Inner(rate=0.25)
    by_name: dict[str, Inner | None] = {}
    bounds: list[Annotated[int, Field(gt=0)]] = Field([1], min_length=1)
    threads: Annotated[int, ExecutionOnly()] = 0


def test_settings_are_described_from_their_types() -> None:
    groups = {group.key: group for group in describe_settings(Outer)}
    assert list(groups) == ["", "inner", "slow", "by_name.NAME"]
    assert groups["inner"].description == "The inner ones."
    settings = {setting.key: setting for group in groups.values() for setting in group.settings}
    size, rate = settings["size"], settings["inner.rate"]
    assert (size.type, size.required) == ("integer, at least 2", True)
    assert (rate.type, rate.default, rate.description) == ("number, above 0, below 1", 0.5, "how fast")
    assert (settings["slow.rate"].default, settings["by_name.NAME.rate"].default) == (0.25, 0.5)
    assert (settings["word"].type, settings["word"].default) == ("a | b", "b")
    assert settings["by_name"].type == "mapping of text to settings or null"
    assert settings["bounds"].type == "list of integer (above 0), not empty"
    assert not settings["threads"].rebuilds and size.rebuilds


def test_defaults_that_are_told_are_those_of_each_group() -> None:
    for kind in STAGE_KINDS.values():
        told = {setting.key: setting.default for group in describe_settings(kind.config) for setting in group.settings}
        for name, field in kind.config.model_fields.items():
            default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
            groups = [(name, default)]
            while groups:
                key, group = groups.pop()
                if isinstance(group, Config):
                    groups += [(f"{key}.{inner}", getattr(group, inner)) for inner in type(group).model_fields]
                elif default is not group:
                    assert told[key] == TypeAdapter(Any).dump_python(group, mode="json"), (kind.name, key)


def test_every_setting_of_every_kind_is_described_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "--json"]) == 0
    kinds = {kind["name"]: kind for kind in json.loads(capsys.readouterr().out)}
    assert list(kinds) == list(STAGE_KINDS)
    for name, kind in STAGE_KINDS.items():
        keys = [setting["key"] for setting in kinds[name]["settings"][0]["settings"]]
        assert keys == list(kind.config.model_fields)
        assert kinds[name]["inputs"] == list(kind.reads)
        assert kinds[name]["description"]
    training = next(group for group in kinds["network"]["settings"] if group["key"] == "training")
    assert {"key": "training.warm_up", "type": "number, at least 0, below 1", "required": False, "default": 0.1,
            "description": "part of a one_cycle run spent going up", "rebuilds": True} in training["settings"]


def test_the_defaults_that_are_told_are_those_that_hold() -> None:
    for kind in describe_kinds():
        config = STAGE_KINDS[kind.name].config
        own = kind.settings[0].settings
        if any(setting.required for setting in own):
            continue
        told = {setting.key: setting.default for setting in own}
        assert config.model_validate_json(json.dumps(told)) == config()


def test_the_list_names_each_kind_with_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages"]) == 0
    text = capsys.readouterr().out
    assert "network              features, hmm, alignments, [teacher], [teacher_features], [soft_targets]" in text
    assert "soft-targets         features, hmm, teacher, [adapters], [teacher_2 to teacher_9]" in text
    assert all(f"\n{name} " in f"\n{text}" for name in STAGE_KINDS)


def test_one_kind_is_shown_with_types_bounds_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "network"]) == 0
    text = capsys.readouterr().out
    assert "network.hidden_dim: integer, above 0; required" in text
    assert "training.threads: integer, at least 0; default 0; does not change the result" in text
    assert "optional inputs: teacher, teacher_features, soft_targets" in text
    assert "depends on the seed" in text


def test_an_unknown_kind_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", "netwrok"]) == 2
    assert capsys.readouterr().err == "asr-kd: no kind of stage 'netwrok'; did you mean 'network'?\n"
