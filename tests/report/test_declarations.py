"""Roles and claims are read from the recipe, and what does not fit is refused before any work."""

import shutil
from pathlib import Path

import pytest

from asr_kd.core.errors import InputError
from asr_kd.core.recipe import Claim
from asr_kd.report.declarations import read_declarations
from asr_kd.stages.run import run_recipe
from asr_kd.stages.scoring import ScoreConfig

ROOT = Path(__file__).resolve().parents[2]


def recipe_with(folder: Path, systems: str, claims: str = "{}", more: str = "") -> Path:
    (folder / "recipe.yaml").write_text(f"""description: x
options: {{more: a second score}}
claims: {claims}
stages:
  prepare: {{run: prepare-demo}}
  score:
    run: score
    reads: {{manifests: prepare}}
    settings: {{splits: [valid, eval], choose_on: valid, systems: {systems}}}
{more}""")
    return folder


SECOND = """  score-more:
    run: score
    option: more
    reads: {manifests: prepare}
    settings: {systems: %s}
"""


def test_roles_of_all_options_and_splits_and_claims_are_read(tmp_path: Path) -> None:
    declared = read_declarations(recipe_with(
        tmp_path, "{big: {role: teacher, headline: true}, small: {reference: true}}", "{eval: {pupil: [small]}}",
        SECOND % "{pupil: {role: student, plain: small}, big: {each_pass: true}}"))
    assert (declared.tuned_on, declared.judged_on, declared.headline) == ("valid", "eval", "big")
    assert declared.references == ["small"] and declared.roles("pupil").related == ["small"]
    assert declared.claims == (Claim("eval", "pupil", "small"),)
    assert declared.pass_of("big-pass2") == ("big", 2) and declared.roles("big-pass2").each_pass
    assert declared.declares("big-pass2") and not declared.declares("small-pass2")
    assert declared.pass_of("small-pass2") is None and declared.roles("small-pass2").role is None


def test_a_system_of_its_own_may_be_called_like_a_pass(tmp_path: Path) -> None:
    declared = read_declarations(recipe_with(tmp_path, "{big-pass1: {role: teacher}, big: {}}"))
    assert declared.pass_of("big-pass1") is None and declared.roles("big-pass1").role == "teacher"


@pytest.mark.parametrize(("systems", "claims", "more", "message"), [
    ("{small: {teacher: bgi}, big: {}}", "{}", "", "small names the system 'bgi', which no stage .*'big'"),
    ("{small: {}}", "{}", SECOND % "{small: {each_pass: true, start: bgi}}", "small names the system 'bgi'"),
    ("{small: {}}", "{eval: {small: [big]}}", "", "claims.eval names the system 'big'"),
    ("{small: {}, big: {}}", "{evl: {small: [big]}}", "", "claims names the split 'evl'.*'eval'"),
    ("{a: {headline: true}, b: {headline: true}}", "{}", "", "a and b are both declared headline"),
    ("{a: {role: teacher}}", "{}", SECOND % "{a: {role: student}}", "score-more gives a other roles"),
    ("{a: {role: pupil}}", "{}", "", "role"),
])
def test_declarations_that_do_not_fit_are_refused(
    tmp_path: Path, systems: str, claims: str, more: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_declarations(recipe_with(tmp_path, systems, claims, more))


def test_a_run_refuses_them_before_any_work(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    shutil.copytree(ROOT / "recipes" / "demo", recipe, ignore=shutil.ignore_patterns("counts"))
    text = (recipe / "recipe.yaml").read_text()
    (recipe / "recipe.yaml").write_text(text.replace("[hdnn128-kd]", "[nothing]"))
    for dry_run in (True, False):
        with pytest.raises(InputError, match="claims.test names the system 'nothing'"):
            run_recipe(str(recipe), tmp_path / "run", dry_run=dry_run)
    assert not (tmp_path / "run").exists()


def test_a_changed_role_rebuilds_no_scores() -> None:
    """Roles say what figures are compared with, not what they are."""
    settings = [ScoreConfig.model_validate({"systems": {"a": roles}}).result_settings() for roles in (
        {}, {"role": "student", "teacher": "b", "versus": ["c"], "headline": True}, {"each_pass": True})]
    assert settings[0] == settings[1] != settings[2]
