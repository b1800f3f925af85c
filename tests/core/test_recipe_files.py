"""Recipes that extend a base, and options in files of their own."""

from pathlib import Path

import pytest

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.recipe import Recipe, read_recipe
from asr_kd.core.recipe_files import MAX_BASES
from asr_kd.core.stages import StageKind
from asr_kd.stages.registry import STAGE_KINDS

BASE = """\
description: the base
stages:
  corpus:
    run: number
    settings: {value: 1}
  double:
    run: sum
    reads: {left: corpus, right: corpus}
    settings:
      times: 2
      label: base
  report:
    run: sum
    reads: {left: double}
fast:
  corpus: {value: 0}
  double: {times: 1}
"""


class Number(Config):
    value: int = 7


class Sum(Config):
    times: int = 1
    label: str | None = None


def _nothing(*_: object) -> None:
    raise AssertionError("not run")


KINDS = {
    "number": StageKind("number", Number, _nothing),
    "sum": StageKind("sum", Sum, _nothing, reads=("left",), may_read=("right",)),
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(tmp_path: Path, text: str, base: str = BASE, **more: object) -> Recipe:
    write(tmp_path / "base.yaml", base)
    write(tmp_path / "mine/recipe.yaml", f"description: mine\nextends: ../base.yaml\n{text}")
    return read_recipe(tmp_path / "mine", KINDS, **more)  # type: ignore[arg-type]


def refusal(tmp_path: Path, text: str, **more: object) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, text, **more)  # type: ignore[arg-type]
    return str(error.value).replace(f"{tmp_path}/", "")


def names(recipe: Recipe) -> list[str]:
    return [stage.name for stage in recipe.stages]


def test_a_setting_of_a_base_stage_is_changed_and_the_rest_stays(tmp_path: Path) -> None:
    recipe = read(tmp_path, "stages: {double: {settings: {times: 5}}}\n")
    assert names(recipe) == ["corpus", "double", "report"]
    assert recipe.stage("double").config == Sum(times=5, label="base")
    assert recipe.description == "mine"


def test_null_takes_a_setting_an_input_and_a_stage_away(tmp_path: Path) -> None:
    recipe = read(tmp_path, "stages:\n  corpus: {settings: {value: null}}\n"
                            "  double: {reads: {right: null}, settings: {label: null}}\n  report: null\n")
    assert names(recipe) == ["corpus", "double"]
    assert recipe.stage("corpus").config == Number(value=7)
    assert recipe.stage("double").config == Sum(times=2, label=None)
    assert set(recipe.stage("double").inputs) == {"left"}


def test_new_stages_come_last_or_where_they_say(tmp_path: Path) -> None:
    entry = "run: number"
    recipe = read(tmp_path, f"""
stages:
  last: {{{entry}}}
  second: {{{entry}, after: corpus}}
  third: {{{entry}, after: corpus}}
  first: {{{entry}, before: corpus}}
  fourth: {{{entry}, before: double}}
""")
    assert names(recipe) == ["first", "corpus", "second", "third", "fourth", "double", "report", "last"]


def test_a_stage_of_the_base_can_be_moved(tmp_path: Path) -> None:
    recipe = read(tmp_path, "stages: {corpus: {settings: {value: 3}}, late: {run: number, before: corpus}}\n")
    assert names(recipe)[:2] == ["late", "corpus"]
    moved = read(tmp_path, "stages: {report: {reads: {left: corpus}, after: corpus}}\n")
    assert names(moved) == ["corpus", "report", "double"]


def test_a_stage_of_another_kind_takes_the_whole_place_of_the_base_stage(tmp_path: Path) -> None:
    recipe = read(tmp_path, "stages: {double: {run: number, settings: {value: 4}}}\n", fast=True)
    assert names(recipe) == ["corpus", "double", "report"]
    assert recipe.stage("double").config == Number(value=4)
    assert not recipe.stage("double").inputs


def test_the_small_version_is_the_base_s_with_one_s_own_over_it(tmp_path: Path) -> None:
    recipe = read(tmp_path, "stages: {report: null}\nfast: {double: {label: small}}\n", fast=True)
    assert recipe.stage("corpus").config == Number(value=0)
    assert recipe.stage("double").config == Sum(times=1, label="small")


def test_the_small_version_of_a_dropped_stage_goes_with_it(tmp_path: Path) -> None:
    recipe = read(tmp_path, "stages: {double: null, report: {reads: {left: corpus}}}\n", fast=True)
    assert names(recipe) == ["corpus", "report"]


def test_a_base_may_have_a_base(tmp_path: Path) -> None:
    write(tmp_path / "deep/lowest.yaml", BASE)
    recipe = read(tmp_path, "stages: {double: {settings: {times: 9}}}\n",
                  base="description: middle\nextends: deep/lowest.yaml\nstages: {report: null}\n")
    assert names(recipe) == ["corpus", "double"]
    assert recipe.stage("double").config == Sum(times=9, label="base")


def test_a_folder_with_a_recipe_is_a_base(tmp_path: Path) -> None:
    write(tmp_path / "theirs/recipe.yaml", BASE)
    write(tmp_path / "mine/recipe.yaml", "description: mine\nextends: ../theirs\n")
    assert names(read_recipe(tmp_path / "mine", KINDS)) == ["corpus", "double", "report"]


def test_options_in_files_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "mine/options/more.yaml", """\
description: more of it
stages:
  extra: {run: sum, reads: {left: double}}
  shared: {run: number, option: [more, other]}
fast: {shared: {value: 0}}
""")
    write(tmp_path / "mine/options/other.yaml", """\
description: another
stages: {else: {run: sum, reads: {left: shared}}}
""")
    text = "options: [more, other]\n"
    assert read(tmp_path, text).options == {"more": "more of it", "other": "another"}
    assert names(read(tmp_path, text)) == ["corpus", "double", "report"]
    assert names(read(tmp_path, text, options=["more"])) == ["corpus", "double", "report", "extra", "shared"]
    assert names(read(tmp_path, text, options=["other"])) == ["corpus", "double", "report", "shared", "else"]
    assert read(tmp_path, text, options=["more"], fast=True).stage("shared").config == Number(value=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: {duoble: {settings: {times: 3}}}\n",
         "mine/recipe.yaml:3: stages.duoble: the base has no such stage; did you mean 'double'?"),
        ("stages: {duoble: null}\n", "mine/recipe.yaml:3: stages.duoble: the base has no such stage"),
        ("stages:\n  double: {settings: {tiems: 3}}\n", "mine/recipe.yaml:4: double.tiems: unknown key; did you mean"),
        ("stages: {corpus: {run: sum}}\n", "mine/recipe.yaml:3: stages.corpus.reads: sum needs the input 'left'"),
        ("stages: {new: {run: number, after: duoble}}\n",
         "mine/recipe.yaml:3: stages.new.after: no stage 'duoble'; did you mean 'double'?"),
        ("stages: {new: {run: number, after: new}}\n", "mine/recipe.yaml:3: stages.new.after: no stage 'new'"),
        ("stages: {new: {run: number, before: [double]}}\n", "mine/recipe.yaml:3: stages.new.before: no stage"),
        ("stages: {new: {run: number, before: double, after: double}}\n", "before and after; expected one"),
        ("stages: {double: null}\n",
         "mine/recipe.yaml:3: stages.double: dropped here, but report reads it (mine/../base.yaml:14); take the input "
         "away too, report: {reads: {left: null}}, or name another stage there"),
        ("options: [more]\n", "mine/recipe.yaml:3: options: no file"),
        ("options: [../more]\n", "mine/recipe.yaml:3: options: expected the NAME of a file"),
        ("stages: {double: {reads: {left: corpus@" + "1" * 5000 + "}}}\n", "is no seed; expected a whole number"),
        ("stages: {double: 3}\n", "mine/recipe.yaml:3: stages.double: expected a valid dictionary, found 3"),
        ("stages: 3\n", "mine/recipe.yaml:3: stages: expected a valid dictionary"),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_fault_of_the_base_is_named_there(tmp_path: Path) -> None:
    assert refusal(tmp_path, "", base=BASE.replace("times: 2", "times: two")).startswith(
        "mine/../base.yaml:10: double.times: expected a valid integer"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("description: x\nstages: {double: {run: number}}\n",
         "mine/options/more.yaml:2: stages.double: there is a stage of that name already"),
        ("stages: {extra: {run: number}}\n", "mine/options/more.yaml:1: options.more: expected a valid string"),
        ("description: x\noptions: {a: b}\n", "mine/options/more.yaml:2: options: unknown key"),
        ("description: x\nstages: {extra: {run: sum, reads: {left: nothing}}}\n",
         "mine/options/more.yaml:2: stages.extra.reads.left: 'nothing' is no stage above this one"),
    ],
)
def test_a_fault_of_an_option_file_is_named_there(tmp_path: Path, option: str, message: str) -> None:
    write(tmp_path / "mine/options/more.yaml", option)
    assert message in refusal(tmp_path, "options: [more]\n", options=["more"])


@pytest.mark.parametrize("part", ["fast: abc", "fast: [1]", "stages: [1]"])
def test_parts_of_another_shape_are_named_beside_option_files_too(tmp_path: Path, part: str) -> None:
    write(tmp_path / "mine/options/more.yaml", "description: x\n")
    assert f"{part.partition(':')[0]}: expected a mapping" in refusal(tmp_path, f"options: [more]\n{part}\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 300, "cannot be read (File name too long)"),
        ("hybird", "recipe.yaml:2: extends: no base 'hybird'; did you mean 'hybrid'?"),
        ("./nothing.yaml", "recipe.yaml:2: extends: no base './nothing.yaml'; expected the file"),
        ("..", "recipe.yaml:2: extends: no base '..'; expected the file"),
        ("3", "recipe.yaml:2: extends: expected the name of a base, or a path to one; found 3"),
        ("./recipe.yaml", "recipe.yaml:2: extends: a recipe cannot extend itself: "),
    ],
)
def test_a_base_that_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "recipe.yaml", f"description: mine\nextends: {name}\n")
    with pytest.raises(InputError) as error:
        read_recipe(tmp_path, KINDS)
    assert message in str(error.value)


def test_bases_in_a_circle_and_bases_without_end_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "description: a\nextends: ./b.yaml\n")
    write(tmp_path / "b.yaml", "description: b\nextends: ./a.yaml\n")
    write(tmp_path / "circle/recipe.yaml", "description: c\nextends: ../a.yaml\n")
    with pytest.raises(InputError, match=r"b.yaml:2: extends: a recipe cannot extend itself: .*a.yaml -> .*b.yaml -> "):
        read_recipe(tmp_path / "circle", KINDS)
    for number in range(MAX_BASES + 1):
        write(tmp_path / f"{number}.yaml", f"description: x\nextends: ./{number + 1}.yaml\n")
    write(tmp_path / "deep/recipe.yaml", "description: d\nextends: ../0.yaml\n")
    with pytest.raises(InputError, match=f"extends: more than {MAX_BASES} bases below one another"):
        read_recipe(tmp_path / "deep", KINDS)


@pytest.mark.parametrize("base", ["hybrid", "hybrid-fbank", "gmm"])
def test_a_recipe_of_a_few_lines_has_the_whole_chain(tmp_path: Path, base: str) -> None:
    write(tmp_path / "recipe.yaml", f"""\
description: my corpus
extends: {base}
stages:
  prepare: {{settings: {{lexicon: lexicon.txt}}}}
""")
    recipe = read_recipe(tmp_path, STAGE_KINDS)
    kinds = [stage.kind.name for stage in recipe.stages]
    assert kinds[0] == "prepare-kaldi" and kinds[-1] == "score"
    assert kinds.count("network") == (0 if base == "gmm" else 3)
