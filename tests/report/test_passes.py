"""Passes of sequence training: through the counts, into the table and the drawing."""

from dataclasses import replace
from pathlib import Path

import pytest

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.report.comparisons import judge
from asr_kd.report.declarations import Declarations
from asr_kd.report.markdown import render_results
from asr_kd.report.passes import draw_passes, pass_curves, passes_table
from asr_kd.report.training_lattices import training_lattices_table
from asr_kd.scoring.system_counts import (
    LatticeCounts,
    SystemCounts,
    TrainingLatticesCounts,
    TrainingPass,
    read_counts,
    write_counts,
)
from asr_kd.scoring.system_roles import SystemRoles
from asr_kd.scoring.wer import ErrorCounts


def lattices(wer: float) -> TrainingLatticesCounts:
    train = LatticeCounts("train", 2500, wer, 12.5, 0.36, 9_000_000)
    dev = LatticeCounts("dev", 1000, 60.0, 30.0, 0.6, 4_000_000)
    return TrainingLatticesCounts(0.1, 11.0, 7.0, 3, 1048, 2, (train, dev))


def counts(
    name: str, seed: int, errors: int, *criteria: float, trained_on: TrainingLatticesCounts | None = None,
) -> SystemCounts:
    passes = tuple(TrainingPass(n, "smbr", value, None if n == 0 else value + 0.1, 40.0 - n)
                   for n, value in enumerate(criteria))
    speakers = {"a": ErrorCounts(100, errors, 0, 0), "b": ErrorCounts(100, errors, 0, 0)}
    return SystemCounts(name, seed, "dev", speakers, passes=passes or None, training_lattices=trained_on)


ROWS = [counts("x-smbr", 1, 40, 0.60, 0.64, trained_on=lattices(38.0)),
        counts("x-smbr", 2, 42, 0.62, 0.66, 0.70, trained_on=lattices(40.0)),
        counts("x-smbr-ce0.2", 1, 41, trained_on=lattices(38.0)), counts("x-smbr-pass1", 1, 45),
        counts("x", 1, 50), counts("x", 2, 60), counts("x-passable", 1, 50)]
DECLARED = Declarations({"x": SystemRoles(), "x-passable": SystemRoles(), "x-smbr": SystemRoles(start="x"),
                         "x-smbr-ce0.2": SystemRoles(start="x")}, {"x-smbr": SystemRoles(each_pass=True)})


def test_values_are_means_over_seeds_and_scored_passes_join_their_curve() -> None:
    (curve,) = pass_curves(judge(ROWS, DECLARED))
    assert (curve.id, curve.criterion) == ("x-smbr", "smbr")
    assert curve.values == pytest.approx({0: 0.61, 1: 0.65, 2: 0.70})
    assert curve.frame_accuracy == {0: 40.0, 1: 39.0, 2: 38.0}
    assert curve.wer == {0: 50.0, 1: 45.0}  # of seed 1, which alone has pass 1
    table = passes_table([curve], "dev").splitlines()
    assert table[2] == "| `x-smbr` | smbr | 0.6100 | 0.6500 | 0.7000 |"
    assert table[4] == "| `x-smbr` | dev WER % | 50.00 | 45.00 | – |"


def test_scored_passes_stand_in_their_own_table_only() -> None:
    text = render_results("x", judge(ROWS, DECLARED))
    systems, passes = text.split("## Sequence training")
    assert "`x-smbr`" in systems and "`x-passable`" in systems and "x-smbr-pass1" not in text
    assert "| `x-smbr` | dev WER % | 50.00 | 45.00 | – |" in passes


def test_lattices_have_a_line_for_the_network_that_made_them_and_each_split() -> None:
    table = training_lattices_table(judge(ROWS, DECLARED))
    assert table is not None and table.splitlines()[2:] == [
        "| `x` | train | 2 | 0.1 | 11 | 7 | 2,500 | 3 | 1,048 | 2 | 39.00 | 12.50 | 0.36 | 9.0 |",
        "| `x` | dev | 2 | 0.1 | 11 | 7 | 1,000 | – | – | – | 60.00 | 30.00 | 0.60 | 4.0 |"]
    assert table in render_results("x", judge(ROWS, DECLARED))
    assert training_lattices_table(judge(ROWS[-1:], DECLARED)) is None


def test_a_training_that_went_on_for_the_curve_gives_its_passes() -> None:
    longer = [counts("y-smbr", 1, 40, 0.60, 0.64, trained_on=lattices(38.0)),
              counts("y-smbr-pass2", 1, 44, 0.60, 0.64, 0.63, trained_on=lattices(38.0)),
              counts("y-smbr", 2, 40, 0.62, 0.66)]
    declared = Declarations({"y-smbr": SystemRoles(start="y")}, {"y-smbr": SystemRoles(each_pass=True)})
    (curve,) = pass_curves(judge(longer, declared))
    assert curve.values == pytest.approx({0: 0.61, 1: 0.65, 2: 0.63}) and curve.wer == {2: 44.0}
    table = training_lattices_table(judge(longer, declared))
    assert table is not None and "`y`" in table and "pass2" not in table


def test_a_system_is_compared_with_the_one_that_it_set_out_from() -> None:
    (row,) = [row for row in judge(ROWS, DECLARED) if row.id == "x-smbr"]
    assert "x" in row.comparisons


def test_a_criterion_without_labels_has_no_frame_accuracy(tmp_path: Path) -> None:
    passes = (TrainingPass(0, "distillation", -1.0, None, None), TrainingPass(1, "distillation", -0.5, -0.5, None))
    (curve,) = pass_curves(judge([replace(counts("x", 1, 40), passes=passes)]))
    assert curve.frame_accuracy == {} and "frame accuracy" not in passes_table([curve], "dev")
    draw_passes(tmp_path / "x.svg", [curve], "dev")


def test_criteria_are_drawn_apart(tmp_path: Path) -> None:
    other = replace(counts("y-mmi", 1, 40, -0.3, -0.2), passes=(TrainingPass(0, "mmi", -0.3, None, 40.0),
                                                                 TrainingPass(1, "mmi", -0.2, -0.1, 41.0)))
    draw_passes(tmp_path / "both.svg", pass_curves(judge([*ROWS, other])), "dev")
    drawn = (tmp_path / "both.svg").read_text()
    assert "smbr on held-out speakers" in drawn and "mmi on held-out speakers" in drawn


def test_the_same_curves_make_the_same_drawing(tmp_path: Path) -> None:
    curves = pass_curves(judge(ROWS, DECLARED))
    for name in ("one.svg", "two.svg"):
        draw_passes(tmp_path / name, curves, "dev")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "dev WER" in drawn and "x-smbr" in drawn


def test_passes_and_comparisons_come_back_from_the_counts_file(tmp_path: Path) -> None:
    whole = counts("x-smbr", 1, 40, 0.60, 0.64, trained_on=lattices(38.0))
    assert read_counts(write_counts(tmp_path, whole)) == whole
    plain = counts("x", 1, 50)
    path = write_counts(tmp_path, plain)
    assert read_counts(path) == plain
    assert not {"passes", "start", "training_lattices", "versus"} & read_json(path).keys()
    declared = Declarations({"x-smbr": SystemRoles(versus=["y"]), "y": SystemRoles()})
    (row,) = [row for row in judge([whole, counts("y", 1, 50)], declared) if row.id == "x-smbr"]
    assert "y" in row.comparisons


@pytest.mark.parametrize(("passes", "key"), [([1], "passes.0"), ([{"number": 1}], "passes.0.criterion"), (3, "passes")])
def test_damaged_passes_are_named(tmp_path: Path, passes: object, key: str) -> None:
    path = write_counts(tmp_path, counts("x-smbr", 1, 40, 0.6))
    write_json(path, {**read_json(path), "passes": passes})
    with pytest.raises(InputError, match=f"{path.name}: {key}"):
        read_counts(path)
