"""The table at the end of a run marks what belongs to an older network."""

from pathlib import Path

import pytest

from asr_kd.stages import run as run_module
from asr_kd.stages.run import run_recipe
from tests.report.test_run_counts import KINDS, RECIPE


def test_rows_of_an_older_network_are_marked_in_the_table_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "STAGE_KINDS", KINDS)
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    (recipe / "recipe.yaml").write_text(RECIPE)
    first = run_recipe(str(recipe), tmp_path / "run").rows
    run_recipe(str(recipe), tmp_path / "run", seed=2)
    few = "fewer than 10 speakers, no verdict"
    assert [row["notes"] for row in first] == [["one seed, no verdict", few]]
    (row,) = run_recipe(str(recipe), tmp_path / "run", set_=["network.errors=9"], seed=2).rows
    assert row["seeds"] == [1, 2] and row["wer_per_seed"] == [3, 9] and row["notes"] == [few]
    (row,) = run_recipe(str(recipe), tmp_path / "run", set_=["network.errors=5"], until="network").rows
    assert row["wer_per_seed"] == [3, 9]
    note, *_ = row["notes"]
    assert note.startswith("of an older run: stage score-seed1 is to be run again")
    (tmp_path / "run/counts/hdnn.2.dev.json").write_text(
        (tmp_path / "run/counts/hdnn.2.dev.json").read_text().replace('"sub": 9', '"sub": 1'))
    (row,) = run_recipe(str(recipe), tmp_path / "run", set_=["network.errors=5"]).rows
    assert row["wer_per_seed"] == [5, 1] and len(row["notes"]) == 2 and "was edited" in row["notes"][0]
