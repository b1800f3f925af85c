"""The page on distillation: who is compared with whom, what is said of it, what is drawn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_kd.core.files import write_json
from asr_kd.core.recipe import Claim
from asr_kd.report.comparisons import judge
from asr_kd.report.declarations import Declarations
from asr_kd.report.distillation import (
    distilled,
    draw_grid_curves,
    draw_learning_curves,
    grid_curves,
    learning_curves,
    render_distillation,
)
from asr_kd.report.markdown import render_results
from asr_kd.report.results import make_results
from asr_kd.report.soft_targets import soft_targets_table
from asr_kd.scoring.system_counts import (
    SoftTargetsCounts,
    SystemCounts,
    TrainingEpoch,
    read_counts,
    write_counts,
)
from asr_kd.scoring.system_roles import SystemRoles
from asr_kd.scoring.wer import ErrorCounts

SPEAKERS = [f"s{number:02d}" for number in range(30)]


def counts(
    name: str, errors: int, split: str = "test", seed: int = 1, epochs: tuple[TrainingEpoch, ...] | None = None,
    minutes: float = 5.0, spread: int = 3,
) -> SystemCounts:
    """A system with `errors` errors of 100 words a speaker, give or take."""
    rng = np.random.default_rng(seed)
    speakers = {s: ErrorCounts(100, errors + int(rng.integers(-spread, spread + 1)), 0, 0) for s in SPEAKERS}
    return SystemCounts(name, seed, split, speakers, frame_accuracy=40.0, params=300, train_minutes=minutes,
                        epochs=epochs)


def curve(*accuracies: float, **measures: float) -> tuple[TrainingEpoch, ...]:
    return tuple(TrainingEpoch(n, 1.0, value, {name: at + n for name, at in measures.items()})
                 for n, value in enumerate(accuracies, 1))


SYSTEMS = [
    counts("teacher-ce", 30), counts("teacher-smbr", 20),
    counts("hdnn128-ce", 50),
    counts("hdnn128-kd", 40), counts("hdnn128-kd-noisy", 40, minutes=10.0), counts("hdnn128-kd-best", 34, minutes=15.0),
    counts("hdnn128-kd-smbrteacher", 30), counts("hdnn128-kd-smbrteacher-smbr-kd0.2", 36),
    counts("hdnn128-kd-T2", 44, split="dev"), counts("hdnn128-kd", 42, split="dev", epochs=curve(38, 40)),
    counts("hdnn128-kd-dynamic", 41, split="dev", epochs=curve(
        37, 39, 41, train_distillation_weight=1.0, train_gradient_cosine=0.1)),
    counts("hdnn128-ce", 52, split="dev"),
    counts("hdnn128-ce-r0.001", 53, split="dev", epochs=curve(36, 37)),
    counts("hdnn128-ce-r0.004-w0", 54, split="dev"), counts("hdnn128-kd-r0.004-w0", 43, split="dev"),
    counts("hdnn128-ce-r0.002-w0", 51, split="dev"), counts("hdnn128-kd-r0.002-w0", 45, split="dev"),
    counts("hdnn128-kd-noisy-dynamic", 45, split="dev"), counts("hdnn128-kd-best-dynamic", 45, split="dev")]
TWICE = [*SYSTEMS, *(replace(one, seed=2) for one in SYSTEMS if one.split == "test")]

_STUDENT = {"role": "student", "baseline": "hdnn128-ce", "teacher": "teacher-ce"}
_VARIANT = {**_STUDENT, "plain": "hdnn128-kd"}
ROLES: dict[str, dict[str, Any]] = {
    "teacher-ce": {"role": "teacher"},
    "teacher-smbr": {"role": "teacher", "headline": True},
    "hdnn128-ce": {"role": "baseline", "teacher": "teacher-ce"},
    "dnn128-ce": {"role": "baseline", "teacher": "teacher-ce"},
    "hdnn128-kd": {**_STUDENT, "reference": True},
    **{f"hdnn128-kd-{name}": _VARIANT for name in ("best", "dynamic", "noisy-dynamic", "best-dynamic", "q1")},
    **{f"hdnn128-kd-{name}": {**_VARIANT, "family": name[:1]} for name in ("T2",)},
    **{f"hdnn128-kd-{name}": {**_VARIANT, "family": "noisy"} for name in ("noisy", "noisy-s0.1", "noisy-s0.3")},
    "hdnn128-kd-smbrteacher": {**_STUDENT, "teacher": "teacher-smbr"},
    "hdnn128-kd-smbrteacher-smbr-kd0.2": {**_STUDENT, "teacher": "teacher-smbr", "plain": "hdnn128-kd-smbrteacher"},
    "hdnn128-ce-r0.001": {"role": "baseline", "teacher": "teacher-ce"},
    **{f"hdnn128-ce-{trial}": {"role": "baseline", "plain": "hdnn128-ce", "trial": trial}
       for trial in ("r0.004-w0", "r0.002-w0", "r0.1")},
    **{f"hdnn128-kd-{trial}": {**_VARIANT, "trial": trial} for trial in ("r0.004-w0", "r0.002-w0", "r0.1")},
}
DECLARED = Declarations(
    {name: SystemRoles(**roles) for name, roles in ROLES.items()},
    claims=(Claim("test", "hdnn128-kd-best", "hdnn128-kd"), Claim("test", "hdnn128-kd-noisy", "hdnn128-kd"),
            Claim("test", "hdnn128-kd-smbrteacher-smbr-kd0.2", "hdnn128-kd-smbrteacher")))


def cached(lost_mass: float, temperature: float = 1.0, top_k: int = 32) -> SoftTargetsCounts:
    return SoftTargetsCounts(temperature, top_k, 900, 2.86, lost_mass, 7 * lost_mass, 2 * lost_mass, 48_000_000)


def test_students_of_the_same_soft_targets_share_a_line(tmp_path: Path) -> None:
    learnt = [replace(counts(name, 40, seed=seed), soft_targets=cache) for name, seed, cache in (
        ("hdnn128-kd", 1, cached(0.02)), ("hdnn128-kd", 2, cached(0.04)), ("hdnn128-kd-q1", 1, cached(0.02)),
        ("hdnn128-kd-T2", 1, cached(0.0, 2.0, 900)))]
    rows = judge([*learnt, *SYSTEMS[:3]], DECLARED)
    table = soft_targets_table(rows)
    assert table is not None
    lines = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()[2:]}
    assert lines == {
        "hdnn128-kd": ["2", "2", "1", "32", "900", "2.9", "0.0300", "0.210", "0.060", "48"],
        "hdnn128-kd-T2": ["1", "1", "2", "900", "900", "2.9", "0.0000", "0.000", "0.000", "48"]}
    assert "## Soft targets" in render_distillation("x", rows, DECLARED)
    assert soft_targets_table(judge(SYSTEMS, DECLARED)) is None and "## Soft targets" not in render_distillation(
        "x", judge(SYSTEMS, DECLARED), DECLARED)
    assert read_counts(write_counts(tmp_path, learnt[0])) == learnt[0]


@pytest.fixture(scope="module")
def page() -> str:
    return render_distillation("x", judge(TWICE, DECLARED), DECLARED)


def test_students_stand_in_order_with_their_shares_to_both_teachers(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| `hdnn128-kd")]
    names = [line.split("`")[1] for line in rows]
    assert names[:5] == ["hdnn128-kd-smbrteacher", "hdnn128-kd-best", "hdnn128-kd-smbrteacher-smbr-kd0.2", "hdnn128-kd",
                         "hdnn128-kd-noisy"]
    plain = [cell.strip() for cell in rows[3].split("|")]
    assert float(plain[3]) == pytest.approx(40, abs=1) and float(plain[5]) == pytest.approx(42, abs=1)
    assert plain[9] == "50" and plain[11] == "33"  # of 50 to 30, of 50 to 20


def verdicts_of(section: str) -> dict[str, list[str]]:
    """Verdict -> its students, as the page lists them."""
    lists: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line.startswith("- "):
            verdict, _, none = line[2:].partition(":")
            lists[verdict] = [none.strip()] if none else []
        elif line.startswith("  - "):
            lists[verdict].append(line[4:])
    return lists


def test_refinements_are_judged_against_the_plain_student_of_the_same_teacher(page: str) -> None:
    judged = page.split("## What helps and what does not")[1].split("##")[0]
    verdicts = verdicts_of(judged)
    assert verdicts["Fewer errors than the plain student"] == [
        "`hdnn128-kd-best`: -6.00, 3.0 times the training time"]
    assert verdicts["No difference shown"] == ["`hdnn128-kd-noisy`: +0.00, 2.0 times the training time"]
    assert verdicts["More errors"] == ["`hdnn128-kd-smbrteacher-smbr-kd0.2`: +6.00, 1.0 times the training time"]
    assert "No verdict" not in verdicts


def test_grids_on_dev_are_printed_without_verdict(page: str) -> None:
    grids = page.split("## Grids, on dev only")[1].split("##")[0]
    assert "Differences are printed without verdict." in grids and verdicts_of(grids) == {}
    line = next(line for line in grids.splitlines() if line.startswith("| `hdnn128-kd-T2`"))
    assert line.split("|")[-3].strip() == "+2.00" and "verdict" not in grids.splitlines()[4]


def test_one_seed_gets_no_verdict() -> None:
    page = render_distillation("x", judge(SYSTEMS, DECLARED), DECLARED)
    verdicts = verdicts_of(page.split("## What helps and what does not")[1].split("##")[0])
    assert len(verdicts["No verdict"]) == 3 and verdicts["Fewer errors than the plain student"] == ["none."]
    assert page.count("| none: one seed |") == 3


def test_shares_are_told_from_other_networks_without_a_teacher_too() -> None:
    best = DECLARED.systems["hdnn128-kd-best"].model_copy(update={"versus": ["dnn128-ce", "hdnn128-kd"]})
    declared = replace(DECLARED, systems={**DECLARED.systems, "hdnn128-kd-best": best})
    rows = judge([*TWICE, counts("dnn128-ce", 48), counts("dnn128-ce", 48, seed=2)], declared)
    page = render_distillation("x", rows, declared)
    line = next(line for line in page.splitlines() if line.startswith("| `hdnn128-kd-best` | `dnn128-ce` |"))
    assert line.split("|")[3].strip() == "50"  # of 48 to 20
    of_best = next(row for row in rows if row.id == "hdnn128-kd-best" and row.split == "test")
    assert {(share.baseline, share.teacher) for share in of_best.shares} == {
        (baseline, teacher) for baseline in ("hdnn128-ce", "dnn128-ce") for teacher in ("teacher-ce", "teacher-smbr")}
    students = page.split("## Students on test")[1]
    own = next(line for line in students.splitlines() if line.startswith("| `hdnn128-kd-best` | 2"))
    assert own.split("|")[9].strip() == "80"  # of 50 to 30, its own baseline's


def test_trials_that_several_kinds_of_student_share_stand_side_by_side(page: str) -> None:
    section = page.split("## The same trials for each kind of student, on dev only")[1].split("##")[0]
    table = section.strip().splitlines()
    kinds = [cell.strip().split("`")[1] for cell in table[0].split("|")[2:-1]]
    assert kinds == ["hdnn128-ce", "hdnn128-kd"]
    cells = {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in table[2:]}
    assert list(cells) == ["r0.004-w0", "r0.002-w0"]
    assert [cell.startswith("**") for trial in cells.values() for cell in trial] == [False, True, True, False]
    assert page.count("r0.004-w0") == page.count("r0.002-w0") == 1
    grids = page.split("## Grids, on dev only")[1]
    assert "`hdnn128-kd-noisy-dynamic`" in grids and "`hdnn128-kd-best-dynamic`" in grids, "variants of variants"


def test_rows_on_dev_alone_are_grids_and_others_are_references(page: str) -> None:
    assert "`hdnn128-kd-T2`" in page.split("## Grids, on dev only")[1]
    references = page.split("## Networks without a teacher")[1].split("##")[0]
    assert all(f"`{name}`" in references for name in ("hdnn128-ce", "teacher-ce", "teacher-smbr"))
    assert "`hdnn128-ce-r0.001`" in page.split("## Others without a teacher, on dev only")[1]
    assert "hdnn128-ce-r0.001" not in references


def test_what_is_on_one_split_alone_stands_apart_in_the_results() -> None:
    text = render_results("x", judge(SYSTEMS, DECLARED), DECLARED)
    whole, alone = text.split("## test")[0].split("Grids and trials, scored on dev alone:")
    assert "`hdnn128-kd`" in whole and "`hdnn128-kd`" not in alone
    assert "`hdnn128-kd-T2`" in alone and "`hdnn128-kd-T2`" not in whole


def test_curves_are_means_over_seeds_and_only_what_moves_is_drawn(tmp_path: Path) -> None:
    systems = [counts("hdnn128-kd", 40, split="dev", epochs=curve(38, 40, train_distillation_weight=1.0)),
               counts("hdnn128-kd", 40, split="dev", seed=2, epochs=curve(40, 42, train_distillation_weight=1.0)),
               next(one for one in SYSTEMS if one.id == "hdnn128-kd-dynamic")]
    curves = learning_curves(judge(systems, DECLARED), "dev")
    assert curves["hdnn128-kd"]["held-out frame accuracy, %"] == {1: 39.0, 2: 41.0}
    draw_learning_curves(tmp_path / "one.svg", curves)
    draw_learning_curves(tmp_path / "two.svg", curves)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "cosine of the two gradients" in drawn and "singular value" not in drawn
    beside = learning_curves(judge(SYSTEMS, DECLARED), "dev")
    assert beside["hdnn128-kd"].keys() == {"held-out frame accuracy, %"} and "hdnn128-ce-r0.001" not in beside
    assert "held-out frame accuracy, %" not in beside["hdnn128-kd-dynamic"], "accuracies of grids are too many to draw"
    assert "cosine of the two gradients" in beside["hdnn128-kd-dynamic"]


def test_curves_of_grids_stand_by_family_beside_the_plain_student(tmp_path: Path) -> None:
    systems = [counts("hdnn128-kd", 40, split="dev", epochs=curve(38, 40)), counts("hdnn128-kd", 40),
               *(counts(f"hdnn128-kd-{name}", 40, split="dev", epochs=curve(37, 39))
                 for name in ("noisy-s0.1", "noisy-s0.3", "T2", "r0.1")),
               counts("hdnn128-ce", 50), counts("hdnn128-ce-r0.1", 50, split="dev")]
    families = grid_curves(judge(systems, DECLARED), "dev")
    assert {family: list(curves) for family, curves in families.items()} == {
        "hdnn128-kd: T": ["hdnn128-kd", "hdnn128-kd-T2"],
        "hdnn128-kd: noisy": ["hdnn128-kd", "hdnn128-kd-noisy-s0.1", "hdnn128-kd-noisy-s0.3"]}
    assert families["hdnn128-kd: T"]["hdnn128-kd-T2"] == {1: 37.0, 2: 39.0}
    draw_grid_curves(tmp_path / "grid.svg", families)
    assert (tmp_path / "grid.svg").read_text().count("hdnn128-kd-noisy-s0.3") == 1


def test_the_page_is_made_for_any_recipe_with_a_student(tmp_path: Path) -> None:
    """Whatever its systems and splits are called."""
    for name, role in (("taught", "student"), ("untaught", "baseline")):
        recipe = tmp_path / name
        recipe.mkdir()
        (recipe / "recipe.yaml").write_text(f"""description: x
stages:
  score:
    run: score
    settings:
      splits: [valid, eval]
      choose_on: valid
      systems:
        big: {{role: teacher}}
        small: {{role: baseline, teacher: big}}
        pupil: {{role: {role}, baseline: small, teacher: big}}
""")
        for split in ("valid", "eval"):
            for seed in (1, 2):
                for system, errors in (("big", 30), ("small", 50), ("pupil", 40)):
                    write_counts(recipe / "counts", counts(system, errors, split, seed, curve(38, 40)))
        make_results(recipe)
    made = {path.name for path in (tmp_path / "taught").iterdir()}
    assert {"DISTILLATION.md", "distillation.svg"} <= made
    page = (tmp_path / "taught" / "DISTILLATION.md").read_text()
    student = next(line for line in page.splitlines() if line.startswith("| `pupil`"))
    assert "## Students on eval" in page and "valid WER %" in page and student.split("|")[9].strip() == "50"
    assert not (tmp_path / "untaught" / "DISTILLATION.md").exists()
    assert len(distilled(judge(SYSTEMS, DECLARED), "test")) == 5


def test_epochs_come_back_from_the_counts_file(tmp_path: Path) -> None:
    from asr_kd.core.errors import InputError
    from asr_kd.core.files import read_json
    from asr_kd.scoring.system_counts import read_counts

    one = counts("hdnn128-kd", 40, epochs=curve(38, 40, train_loss=1.0))
    path = write_counts(tmp_path, one)
    assert read_counts(path) == one
    write_json(path, {**read_json(path), "epochs": [{"number": 1}]})
    with pytest.raises(InputError, match="epochs.0.loss"):
        read_counts(path)
