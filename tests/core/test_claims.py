"""The table of claims that a recipe declares."""

from pathlib import Path

import pytest

from asr_kd.core.errors import InputError
from asr_kd.core.recipe import Claim, read_outline

ROOT = Path(__file__).resolve().parents[2]
STAGES = "stages:\n  prepare:\n    run: prepare-demo\n"


def recipe_with(folder: Path, claims: str) -> Path:
    (folder / "recipe.yaml").write_text(f"description: x\nclaims:\n{claims}\n{STAGES}")
    return folder


def read_claims(recipe: Path) -> tuple[Claim, ...]:
    return read_outline(recipe, "score")[1]


def test_claims_are_read_in_their_order(tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path, "  test: {b: [a, c]}\n  dev: {b: [a]}")
    assert read_claims(recipe) == (Claim("test", "b", "a"), Claim("test", "b", "c"), Claim("dev", "b", "a"))


def test_thirty_claims_are_taken_and_one_more_is_refused(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(31)]
    assert len(read_claims(recipe_with(tmp_path, f"  test: {{x: [{', '.join(names[:30])}]}}"))) == 30
    with pytest.raises(InputError, match=r"recipe.yaml:2: claims: 31 comparisons, expected at most 30"):
        read_claims(recipe_with(tmp_path, f"  test: {{x: [{', '.join(names)}]}}"))


@pytest.mark.parametrize(("claims", "message"), [
    ("  test: {a: [b], b: [a]}", "b against a on test stands there twice"),
    ("  test: {a: [a]}", "a is compared with itself on test"),
    ("  test: {a: b}", "claims.test.a: expected"),
])
def test_claims_that_make_no_sense_are_refused(tmp_path: Path, claims: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_claims(recipe_with(tmp_path, claims))


def test_stages_of_every_option_are_read_with_their_settings() -> None:
    stages, _ = read_outline(ROOT / "recipes/demo", "score")
    assert stages["score-smbr"].values["systems"]["hdnn128-kd-smbr-kd0.2"]["plain"] == "hdnn128-kd"
