"""The stages of both recipes are those that were there before recipes could extend a base."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from asr_kd.core.files import hash_json
from asr_kd.core.recipe import Recipe, read_recipe
from asr_kd.core.stages import Stage
from asr_kd.stages.registry import STAGE_KINDS

ROOT = Path(__file__).resolve().parents[2]
# Recorded from the recipes of one file each: digests of every stage with all options, of the stages that `--fast`
# changes, and of the order of stages with each set of options. Options that a recipe got later are not in it.
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "resolved_stages.json").read_text())
SEED = 1
# What recipes say since then, without another result: that a vocabulary is closed, and the roles of scored systems.
SETTINGS_ADDED = {"prepare-kaldi": {"closed_vocabulary"}}
ROLES_ADDED = {"role", "plain", "family", "trial", "headline", "reference"}
# Stages whose settings changed on purpose: 80 numbers, the prior of running normalisation, are computed now.
CHANGED = {"speechocean762": {"fbank"}, "demo": set()}
# Kinds of stage that recipes got since then.
KINDS_ADDED = {"adaptation-reserve"}
# Of the small version, whose weak student gives lattices that are slow to determinise.
FAST_CHANGED: dict[str, set[str]] = {"speechocean762": set(), "demo": {"student-kd-lattices-seed1"}}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_stages_are_as_they_were_recorded(name: str) -> None:
    options = recorded_options(name)
    assert unchanged(name, stage_digests(read(name, options))) == unchanged(name, RECORDED[name]["stages"])


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_stages_of_the_small_version_are_as_they_were_recorded(name: str) -> None:
    options = recorded_options(name)
    expected = RECORDED[name]["stages"] | RECORDED[name]["fast"]
    digests = unchanged(name, stage_digests(read(name, options, fast=True)))
    expected = unchanged(name, expected)
    for folder in FAST_CHANGED[name]:
        del digests[folder], expected[folder]
    assert digests == expected


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name in sorted(RECORDED) for options in RECORDED[name]["orders"]]
)
def test_each_option_alone_adds_the_stages_that_it_added(name: str, options: str) -> None:
    recipe = read(name, options.split())
    digests = unchanged(name, stage_digests(recipe))
    assert order_digest(recipe) == RECORDED[name]["orders"][options]
    assert digests == {folder: RECORDED[name]["stages"][folder] for folder in digests}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_settings_that_were_added_later_leave_results_made_before_valid(name: str) -> None:
    """Defaults included: a new setting whose default makes the same results is marked as `AddedLater`."""
    recorded = json.loads((Path(__file__).parent / "result_settings.json").read_text())[name]
    options = [option for option in recorded_options(name) if option != "adaptation"]
    found = {stage.folder: hash_json([stage.kind.name, stage.kind.version, stage.config.result_settings()])[:10]
             for stage in recorded_stages(read(name, options))}
    assert found == recorded


def test_filterbanks_of_speechocean762_take_their_prior_from_train() -> None:
    config = read("speechocean762", ["fbank"]).stage("fbank").config
    assert config.model_dump(exclude_defaults=True) == {"features": {"normalisation": "running"}}
    assert config.model_dump()["prior_split"] == "train"


def unchanged(name: str, digests: dict[str, str]) -> dict[str, str]:
    """The digests without those of stages that changed on purpose."""
    return {folder: value for folder, value in digests.items() if folder not in CHANGED[name]}


def recorded_options(name: str) -> list[str]:
    return [option for option in RECORDED[name]["orders"] if option]


def read(name: str, options: list[str], fast: bool = False) -> Recipe:
    return read_recipe(ROOT / "recipes" / name, STAGE_KINDS, options=options, seed=SEED, fast=fast)


def stage_digests(recipe: Recipe) -> dict[str, str]:
    """Folder -> kind, digest of the inputs, digest of the settings that are not the kind's defaults."""
    return {
        stage.folder: f"{stage.kind.name} {digest(inputs_of(stage))} {digest(settings_of(stage))}"
        for stage in recorded_stages(recipe)
    }


def order_digest(recipe: Recipe) -> str:
    return digest([stage.folder for stage in recorded_stages(recipe)])


def recorded_stages(recipe: Recipe) -> list[Stage]:
    return [stage for stage in recipe.stages if stage.kind.name not in KINDS_ADDED]


def inputs_of(stage: Stage) -> dict[str, str]:
    return {name: needed.folder for name, needed in stage.inputs.items()}


def settings_of(stage: Stage) -> dict[str, Any]:
    settings = stage.config.model_dump(mode="json", exclude_defaults=True)
    for name in SETTINGS_ADDED.get(stage.kind.name, set()) & settings.keys():
        del settings[name]
    for roles in settings.get("systems", {}).values():
        for name in ROLES_ADDED & roles.keys():
            del roles[name]
    return settings


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
