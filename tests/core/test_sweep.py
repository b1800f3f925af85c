"""One entry of a recipe that stands for a grid of stages."""

import time
from pathlib import Path

import pytest

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.recipe import Recipe, read_recipe
from asr_kd.core.stages import StageKind

RECIPE = """\
description: a grid
stages:
  teach-T<T>:
    run: soft
    each: {T: [1, 2]}
    settings: {temperature: <T>}
  learn-T<T>-q<q>:
    run: learn
    each:
    - {T: [1], q: [0.5]}
    - {T: [2], q: [0, 0.5]}
    reads: {targets: teach-T<T>}
    settings: {weights: [<q>, 1], note: T <T> and q <q>, by_id: {kd-T<T>-q<q>: <q>}}
"""


class Soft(Config):
    temperature: float


class Learn(Config):
    weights: list[float]
    note: str
    by_id: dict[str, float]


def _nothing(*_: object) -> None:
    raise AssertionError("not run")


KINDS = {"soft": StageKind("soft", Soft, _nothing), "learn": StageKind("learn", Learn, _nothing, reads=("targets",))}


def _read(folder: Path, text: str = RECIPE, **more: object) -> Recipe:
    (folder / "recipe.yaml").write_text(text)
    return read_recipe(folder, KINDS, **more)  # type: ignore[arg-type]


def test_a_stage_for_each_point_with_its_values(tmp_path: Path) -> None:
    recipe = _read(tmp_path)
    assert [stage.name for stage in recipe.stages] == ["teach-T1", "teach-T2", "learn-T1-q05", "learn-T2-q0",
                                                       "learn-T2-q05"]
    learn = recipe.stage("learn-T2-q05")
    assert learn.inputs["targets"].name == "teach-T2"
    assert learn.config == Learn(weights=[0.5, 1], note="T 2 and q 0.5", by_id={"kd-T2-q0.5": 0.5})
    assert recipe.stage("teach-T2").config == Soft(temperature=2)


def test_neighbours_of_one_grid_take_turns(tmp_path: Path) -> None:
    text = RECIPE.replace("    each:\n    - {T: [1], q: [0.5]}\n    - {T: [2], q: [0, 0.5]}\n",
                          "    each: {T: [1, 2]}\n").replace("<q>", "3")
    assert [stage.name for stage in _read(tmp_path, text).stages] == ["teach-T1", "learn-T1-q3", "teach-T2",
                                                                      "learn-T2-q3"]


def test_a_point_is_overridden_by_its_own_name(tmp_path: Path) -> None:
    recipe = _read(tmp_path, overrides=["teach-T2.temperature=3"])
    assert recipe.stage("teach-T2").config == Soft(temperature=3)
    assert recipe.stage("teach-T1").config == Soft(temperature=1)


@pytest.mark.parametrize(("old", "new", "said"), [
    ("each: {T: [1, 2]}", "each: {T: []}", r"yaml:5: stages.teach-T<T>.each: expected names, each with a list"),
    ("each: {T: [1, 2]}", "each: []", r"yaml:5: stages.teach-T<T>.each: expected names"),
    ("each: {T: [1, 2]}", "each: {t: [1, 2]}", r"yaml:3: stages.teach-T<T>: <T> is not among t of its each"),
    ("each: {T: [1, 2]}", "each: {T: [1, 1]}", r"yaml:3: stages.teach-T<T>: there is a stage 'teach-T1' already"),
    ("temperature: <T>", "temperature: x<T>", r"yaml:6: teach-T1.temperature: expected a valid number.*'x1'"),
    ("targets: teach-T<T>", "targets: teach-T<q>", r"yaml:12: stages.learn-T1-q05.reads.targets: 'teach-T05' is no"),
])
def test_wrong_sweeps_are_named_with_their_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _read(tmp_path, RECIPE.replace(old, new))


def test_a_grid_of_more_stages_than_a_recipe_may_have_is_refused_at_once(tmp_path: Path) -> None:
    grid = f"{{T: {list(range(200))}, q: {list(range(100))}}}"
    text = f"description: x\nstages:\n  teach-T<T>-q<q>:\n    run: soft\n    each: {grid}\n"
    with pytest.raises(InputError, match="recipe.yaml:3: .* the recipe has more than 2,000 stages"):
        _read(tmp_path, text)


def test_values_that_blow_up_a_text_are_refused(tmp_path: Path) -> None:
    text = f"description: x\nstages:\n  teach:\n    run: soft\n    each: {{T: [{'x' * 5000}]}}\n" \
           f"    settings: {{temperature: a{'<T>' * 1000}}}\n"
    with pytest.raises(InputError, match="recipe.yaml:3: stages.teach: a text of 5,003,001 characters"):
        _read(tmp_path, text)


def test_a_recipe_of_many_stages_is_read_quickly(tmp_path: Path) -> None:
    text = f"description: x\nstages:\n  teach-T<T>:\n    run: soft\n    each: {{T: {list(range(1, 2001))}}}\n" \
           "    settings: {temperature: <T>}\n"
    begin = time.process_time()
    assert len(_read(tmp_path, text).stages) == 2000
    assert time.process_time() - begin < 5
