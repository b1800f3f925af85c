"""Settings of the stages: what no stage could work with is refused before any work."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from asr_kd.core.config import Config, ExecutionOnly, Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.stages.decoding import DecodeConfig
from asr_kd.stages.features import FeaturesConfig
from asr_kd.stages.registry import STAGE_KINDS
from asr_kd.stages.scoring import ScoreConfig
from asr_kd.training.config import TrainingConfig


@pytest.mark.parametrize("kind", [FeaturesConfig, DecodeConfig])
def test_a_split_is_a_name_and_no_path(kind: type[Config]) -> None:
    with pytest.raises(InputError, match="splits.0: "):
        build_config(kind, Settings({"splits": ["../../elsewhere"]}, {}))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"lm_weights": [0.0]}, "lm_weights.0"), ({"lm_weights": [-1.0]}, "lm_weights.0"),
     ({"systems": {"../x": {}}}, "systems"), ({"choose_on": "a/b"}, "choose_on")],
)
def test_what_cannot_be_scored_with(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        build_config(ScoreConfig, Settings({"systems": {"gmm-tri": {}}, **settings}, {}))


_EXECUTION = re.compile(r"threads|workers|jobs|tensorboard|verbose|(log|checkpoint)_\w+")


def test_settings_that_say_how_work_is_done_are_marked_in_every_kind_of_stage() -> None:
    fields = [field for kind in STAGE_KINDS.values() for field in _fields(kind.config, ())]
    named = [(name, field) for name, field in fields if _EXECUTION.fullmatch(name)]
    assert {name for name, _ in named} >= {"threads", "tensorboard", "log_steps", "checkpoint_minutes"}
    for name, field in named:
        assert any(isinstance(mark, ExecutionOnly) for mark in field.metadata), name


def test_another_number_of_threads_is_the_same_training() -> None:
    other = TrainingConfig(threads=2, log_steps=7, tensorboard=False, checkpoint_minutes=9.0, checkpoint_steps=3)
    assert other.result_settings() == TrainingConfig().result_settings()
    assert TrainingConfig(batch_size=7).result_settings() != TrainingConfig().result_settings()


def _fields(config: type[Config], above: tuple[type[Config], ...]) -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a type of settings, at any depth."""
    for name, field in config.model_fields.items():
        yield name, field
        for inner in _configs_in(field.annotation):
            if inner not in above:
                yield from _fields(inner, (*above, config))


def _configs_in(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [config for part in get_args(annotation) for config in _configs_in(part)]


def groups_with_defaults(kind: type[Config]) -> Iterator[tuple[type[Config], str, Config]]:
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, Config):
            yield kind, name, default
            yield from groups_with_defaults(type(default))


def test_a_group_given_in_part_keeps_the_default_of_its_field() -> None:
    found = [group for kind in STAGE_KINDS.values() for group in groups_with_defaults(kind.config)]
    assert len(found) > 20
    for kind, name, default in found:
        values = {one: "x" for one, field in kind.model_fields.items() if field.is_required()}
        try:
            built = kind.model_validate({**values, name: {}})
        except ValidationError as error:
            assert all(fault["loc"][0] != name for fault in error.errors()), (kind, name)
        else:
            assert getattr(built, name) == default, (kind, name)
