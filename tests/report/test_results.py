import dataclasses
import inspect
import json
import typing
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from asr_kd.cli import results as command
from asr_kd.core.errors import InputError
from asr_kd.report.declarations import Declarations, read_declarations
from asr_kd.report.results import make_results, place_of, results_rows
from asr_kd.report.tables import render_wer_table
from asr_kd.scoring.bootstrap import DrawnSystem, compare, draw_speakers, share_of_gap_closed, wer_interval
from asr_kd.scoring.system_counts import SystemCounts, write_counts
from asr_kd.scoring.wer import ErrorCounts

KEYS = ["id", "split", "wer", "ci_low", "ci_high", "words", "seeds", "wer_per_seed", "frame_accuracy", "params",
        "bytes", "train_minutes", "real_time_factor", "command", "runs", "versus",
        "versus_holm", "oov_rate", "closed_vocabulary", "lm_weights", "revisions", "notes"]  # fmt: skip
RECIPE = """description: tiny
claims:
  test: {hdnn128-kd: [hdnn128-ce, teacher-ce]}
stages:
  prepare: {run: prepare-demo}
  score:
    run: score
    settings:
      systems:
        gmm-tri: {reference: true}
        teacher-ce: {role: teacher}
        hdnn128-ce: {role: baseline, teacher: teacher-ce}
        hdnn128-kd: {role: student, baseline: hdnn128-ce, teacher: teacher-ce, reference: true}
"""
RATES = {"gmm-tri": 0.6, "teacher-ce": 0.4, "hdnn128-ce": 0.5, "hdnn128-kd": 0.45}


def counts_of(name: str, seed: int = 0, split: str = "test", rate: float | None = None,
              **changes: object) -> SystemCounts:
    rng = np.random.default_rng([sorted(RATES).index(name), seed, len(split)])
    rate = RATES[name] if rate is None else rate
    made = SystemCounts(
        id=name,
        seed=seed,
        split=split,
        speakers={f"s{i:02}": ErrorCounts(100, int(rng.binomial(100, rate)), 0, 0) for i in range(30)},
        frame_accuracy=None if name == "gmm-tri" else 45.0 + seed,
        params=375_952,
        command=f"asr-kd run recipes/tiny --seed {seed}",
        run=f"run{seed}",
        lm_weight=11,
        insertion_penalty=0.5,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes" / "tiny"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def declarations(tmp_path_factory: pytest.TempPathFactory) -> Declarations:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "recipe.yaml").write_text(RECIPE)
    return read_declarations(folder)


def drawn_systems(counts: list[SystemCounts]) -> dict[str, DrawnSystem]:
    systems: dict[str, dict[int, dict[str, ErrorCounts]]] = {}
    for one in counts:
        systems.setdefault(one.id, {})[one.seed] = one.speakers
    return draw_speakers({name: c.words for name, c in counts[0].speakers.items()}).of_all(systems)


def make_run(folder: Path, *counts: SystemCounts) -> Path:
    for one in counts:
        write_counts(folder / "counts", one)
    return folder


def run_command(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    command.register(app)
    return CliRunner().invoke(app, ["results", *map(str, arguments)])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_rows_have_exactly_the_keys_of_the_design(recipe: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run0", *(counts_of(name, split=s) for name in RATES for s in ("dev", "test")))
    make_results(recipe, [run])
    rows = json.loads((recipe / "results.json").read_text())["rows"]
    assert [list(row) for row in rows] == [KEYS] * 8
    assert [(row["split"], row["id"]) for row in rows] == [
        (s, i) for s in ("dev", "test") for i in sorted(RATES)
    ]


def test_figures_are_those_of_the_counts(declarations: Declarations) -> None:
    seeds = [counts_of("hdnn128-kd", seed) for seed in (0, 1, 2)]
    others = [counts_of(name) for name in ("hdnn128-ce", "teacher-ce", "gmm-tri")]
    row = next(row for row in results_rows([*others, *reversed(seeds)], declarations)
               if row["id"] == "hdnn128-kd")
    drawn = drawn_systems([*seeds, *others])
    estimate = wer_interval(drawn["hdnn128-kd"])
    assert (row["wer"], row["ci_low"], row["ci_high"]) == tuple(
        round(value, 4) for value in (estimate.value, estimate.low, estimate.high) if value is not None
    )
    assert row["seeds"] == [0, 1, 2]
    assert row["wer_per_seed"] == [round(one.total.wer, 4) for one in seeds]
    assert row["words"] == 3000
    assert row["frame_accuracy"] == 46
    assert row["runs"] == ["run0", "run1", "run2"]
    assert row["command"].count("asr-kd run") == 3
    assert list(row["versus"]) == ["hdnn128-ce", "teacher-ce", "gmm-tri"]
    for other in others:
        p_value = compare(drawn["hdnn128-kd"], drawn[other.id]).p_value
        assert p_value is not None and row["versus"][other.id] == round(p_value, 6)


def test_claims_are_corrected_together_and_other_comparisons_are_not(declarations: Declarations) -> None:
    counts = [counts_of(name, seed, rate=rate) for seed in (1, 2) for name, rate in
              (("hdnn128-kd", 0.47), ("hdnn128-ce", 0.485), ("teacher-ce", 0.462), ("gmm-tri", 0.6))]
    rows = {row["id"]: row for row in results_rows(counts, declarations)}
    row = rows["hdnn128-kd"]
    assert list(row["versus_holm"]) == list(row["versus"])
    first, second = sorted((row["versus"]["hdnn128-ce"], row["versus"]["teacher-ce"]))
    corrected = sorted((row["versus_holm"]["hdnn128-ce"], row["versus_holm"]["teacher-ce"]))
    assert 1e-5 < first < second < 1
    assert corrected == pytest.approx([min(1, 2 * first), max(min(1, 2 * first), second)], abs=2e-6)
    assert row["versus_holm"]["gmm-tri"] is None
    assert rows["hdnn128-ce"]["versus_holm"] == {
        "teacher-ce": None, "gmm-tri": None, "hdnn128-kd": row["versus_holm"]["hdnn128-ce"]}


def test_a_claim_without_counts_is_a_hypothesis_too(declarations: Declarations) -> None:
    (row, *_) = [row for row in results_rows([counts_of("hdnn128-kd"), counts_of("hdnn128-ce")], declarations)
                 if row["id"] == "hdnn128-kd"]
    assert row["versus_holm"]["hdnn128-ce"] == pytest.approx(2 * row["versus"]["hdnn128-ce"], abs=2e-6)


def test_every_system_is_compared_with_the_references(declarations: Declarations) -> None:
    rows = {row["id"]: row for row in results_rows([counts_of(name) for name in RATES], declarations)}
    assert all("hdnn128-kd" in row["versus"] for name, row in rows.items() if name != "hdnn128-kd")
    assert "gmm-tri" in rows["teacher-ce"]["versus"]
    assert all(name not in row["versus"] for name, row in rows.items())


def test_splits_do_not_mix(declarations: Declarations) -> None:
    rows = results_rows(
        [counts_of("hdnn128-ce", split="dev"), counts_of("hdnn128-kd", split="test")], declarations)
    assert [row["versus"] for row in rows] == [{}, {}]


def test_rebuilding_from_the_repository_alone_changes_nothing(recipe: Path, tmp_path: Path) -> None:
    make_results(recipe, [make_run(tmp_path / "run0", *map(counts_of, RATES))])
    before = files_of(recipe)
    assert set(before) == {
        "recipe.yaml",
        "results.json",
        "size.svg",
        "RESULTS.md",
        "DISTILLATION.md",
        *(f"counts/{i}.0.test.json" for i in RATES),
    }
    make_results(recipe)
    assert files_of(recipe) == before


def test_the_order_of_runs_does_not_matter_where_they_agree(recipe: Path, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"run{seed}", *(counts_of(name, seed) for name in RATES)) for seed in (0, 1)]
    assert make_results(recipe, runs).replaced == []
    before = files_of(recipe)
    assert make_results(recipe, runs[::-1]).replaced == []
    assert files_of(recipe) == before


def test_of_two_values_the_later_wins_and_it_is_said(recipe: Path, tmp_path: Path) -> None:
    old = counts_of("gmm-tri")
    new = dataclasses.replace(old, speakers={**old.speakers, "s00": ErrorCounts(100, 0, 0, 0)})
    first, second = make_run(tmp_path / "first", old), make_run(tmp_path / "second", new)
    outcome = run_command(recipe, "--from", first, "--from", second)
    errors = f"errors {old.total.errors} -> {new.total.errors}"
    assert f"gmm-tri.0.test.json: {second} replaces {first} ({errors})" in outcome.stderr
    assert json.loads((recipe / "results.json").read_text())["rows"][0]["wer"] == round(new.total.wer, 4)
    assert "replaces tiny/counts" in run_command(recipe, "--from", first).stderr


def test_nothing_is_written_where_a_run_is_damaged(recipe: Path, tmp_path: Path) -> None:
    good = make_run(tmp_path / "good", counts_of("gmm-tri"))
    bad = make_run(tmp_path / "bad", counts_of("hdnn128-ce"))
    (bad / "counts" / "hdnn128-ce.0.test.json").write_text("{")
    with pytest.raises(InputError, match=r"hdnn128-ce.0.test.json:\d: not JSON"):
        make_results(recipe, [good, bad])
    assert set(files_of(recipe)) == {"recipe.yaml"}


def test_systems_of_one_split_must_have_the_same_words(recipe: Path, tmp_path: Path) -> None:
    half = counts_of("hdnn128-kd")
    half = dataclasses.replace(half, speakers=dict(list(half.speakers.items())[:15]))
    run = make_run(tmp_path / "run", counts_of("gmm-tri"), half)
    with pytest.raises(InputError, match="hdnn128-kd.0.test.json: 1500 words, gmm-tri.0.test.json: 3000"):
        make_results(recipe, [run])
    (run / "counts" / half.file_name).unlink()
    make_run(run, dataclasses.replace(half, partial=True))
    rows = make_results(recipe, [run]).rows
    assert [(row["id"], row["split"], row["versus"]) for row in rows] == [
        ("gmm-tri", "test", {}),
        ("hdnn128-kd", "test-partial", {}),
    ]
    assert "**PARTIAL**" in (recipe / "RESULTS.md").read_text()
    assert "test-partial" in render_wer_table(rows)


def test_missing_recipe_run_or_counts_are_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder with recipe.yaml"):
        make_results(tmp_path)
    with pytest.raises(InputError, match=r"absent: no counts"):
        make_results(recipe, [tmp_path / "absent"])
    with pytest.raises(InputError, match=r"no counts yet; give the run directories"):
        make_results(recipe)


def test_markdown_gives_intervals_verdicts_shares_and_commands(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    counts = [counts_of(name, seed) for name in RATES for seed in (0, 1)]
    make_results(recipe, [make_run(tmp_path / "run0", *counts)])
    text = (recipe / "RESULTS.md").read_text()
    assert text.startswith("# Results of `recipes/tiny`")
    assert "`asr-kd results recipes/tiny`" in text
    assert str(tmp_path) not in text
    drawn = drawn_systems(counts)
    found = compare(drawn["hdnn128-kd"], drawn["teacher-ce"])
    row = next(r for r in make_results(recipe).rows if r["id"] == "hdnn128-kd")
    difference = (f"{found.difference:+.2f} | {found.low:+.2f} to {found.high:+.2f} | {found.p_value:.2g} | "
                  f"{row['versus_holm']['teacher-ce']:.2g} | more errors |")
    assert f"| `hdnn128-kd` − `teacher-ce` | {difference}" in text
    without = text.split("Other paired differences, without verdict:")[1]
    assert "`gmm-tri` − `hdnn128-kd`" in without and "`hdnn128-kd` − `teacher-ce`" not in without
    share = share_of_gap_closed(drawn["hdnn128-kd"], drawn["hdnn128-ce"], drawn["teacher-ce"])
    assert share is not None
    shown = f"{100 * share.value:.0f} | {100 * share.low:.0f} to {100 * share.high:.0f} |"  # type: ignore[operator]
    assert f"| `hdnn128-kd` | `hdnn128-ce` | `teacher-ce` | {shown}" in text
    figures = [
        line for line in text.splitlines() if line.startswith("| `") and "−" not in line and "375,952" in line
    ]
    assert len(figures) == 4 and all("`asr-kd run recipes/tiny --seed 0`" in line for line in figures)


def test_claims_about_systems_of_one_split_are_on_the_page(recipe: Path, tmp_path: Path) -> None:
    counts = [counts_of(name, seed, split) for name in RATES for seed in (0, 1) for split in ("dev", "test")
              if split == "test" or name != "hdnn128-kd"]
    make_results(recipe, [make_run(tmp_path / "run0", *counts)])
    text = (recipe / "RESULTS.md").read_text()
    assert "scored on test alone" in text
    assert "`hdnn128-kd` − `teacher-ce`" in text.split("Claims:")[1].split("Other paired differences")[0]


def test_one_seed_or_few_speakers_are_said_in_the_place_of_a_verdict(recipe: Path, tmp_path: Path) -> None:
    make_results(recipe, [make_run(tmp_path / "run0", *map(counts_of, RATES))])
    claims = [line for line in (recipe / "RESULTS.md").read_text().splitlines() if "| none: one seed |" in line]
    assert len(claims) == 2
    assert all("| 0 (one seed) |" in line for line in (recipe / "RESULTS.md").read_text().splitlines()
               if line.startswith("| `") and "375,952" in line)
    few = [dataclasses.replace(counts_of(name, seed), speakers=dict(list(counts_of(name, seed).speakers.items())[:9]))
           for name in RATES for seed in (0, 1)]
    for path in (recipe / "counts").iterdir():
        path.unlink()
    make_results(recipe, [make_run(tmp_path / "run1", *few)])
    assert (recipe / "RESULTS.md").read_text().count("| none: 9 speakers |") == 2
    assert "Share of the gap" not in (recipe / "RESULTS.md").read_text()


def test_no_share_is_given_where_the_teacher_is_no_better(recipe: Path, tmp_path: Path) -> None:
    baseline = [counts_of("hdnn128-ce", seed) for seed in (0, 1)]
    teacher = [dataclasses.replace(counts_of("teacher-ce", one.seed), speakers=one.speakers) for one in baseline]
    students = [counts_of("hdnn128-kd", seed) for seed in (0, 1)]
    make_results(recipe, [make_run(tmp_path / "run0", *baseline, *teacher, *students)])
    assert "Share of the gap" not in (recipe / "RESULTS.md").read_text()


def test_a_page_names_its_recipe_where_it_is(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place_of(Path(__file__).parents[2] / "recipes" / "demo") == "recipes/demo"
    monkeypatch.chdir(recipe.parent)
    assert place_of(recipe) == place_of(Path("tiny")) == "tiny"
    monkeypatch.chdir(recipe)
    assert place_of(Path()) == str(recipe.resolve())


def test_what_runs_and_commands_are_called_stands_on_the_page_as_it_is(recipe: Path, tmp_path: Path) -> None:
    named = counts_of("gmm-tri", run="a*b* <img src=x> `c` | d", command="asr-kd run `x` | <b>\x1b[31m\nred\u202e")
    make_results(recipe, [make_run(tmp_path / "run", named)])
    text = (recipe / "RESULTS.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| `gmm-tri`"))
    assert "| a\\*b\\* &lt;img src=x&gt; \\`c\\` \\| d |" in line
    assert "| `` asr-kd run `x` \\| <b>\\x1b[31m\\nred\\u202e `` |" in line
    assert not any(one in text for one in ("\x1b", "\u202e", "<img"))


def test_rows_say_oov_rate_revision_and_what_was_not_scored_by_the_recipe(
    recipe: Path, tmp_path: Path
) -> None:
    old = counts_of("hdnn128-ce", revision="<=" + "ab" * 20, bytes=1000, bytes_with_log=True, oov_rate=2.5,
                    closed_vocabulary=False)
    new = counts_of("hdnn128-ce", 1, revision="cd" * 20 + "+", bytes=900, oov_rate=2.5, closed_vocabulary=False)
    other = counts_of("gmm-tri", id="gmm-unknown", closed_vocabulary=True, oov_rate=0.0)
    rows = {row["id"]: row for row in make_results(recipe, [make_run(tmp_path / "run", old, new, other)]).rows}
    row = rows["hdnn128-ce"]
    assert (row["oov_rate"], row["closed_vocabulary"], row["bytes"]) == (2.5, False, 1000)
    assert row["revisions"] == ["<=" + "ab" * 20, "cd" * 20 + "+"]
    assert row["notes"] == ["bytes hold the training log too"]
    assert (rows["gmm-unknown"]["oov_rate"], rows["gmm-unknown"]["closed_vocabulary"]) == (0, True)
    assert rows["gmm-unknown"]["notes"] == ["one seed, no verdict", "not scored by the recipe as it stands"]
    text = (recipe / "RESULTS.md").read_text()
    assert "| ≤ abababa, cdcdcdc+ |" in text and "| ≤ 1,000 |" in text
    assert "2.50 % of the words are out of vocabulary." in text and "**closed vocabulary**" in text
    assert "Not scored by the recipe as it stands: `gmm-unknown`" in text
    table = render_wer_table(list(rows.values()))
    assert "0.00 closed" in table and " 2.50 " in table
    assert "\nnot scored by the recipe as it stands: gmm-unknown test" in table
    assert " bytes " in table and " LM weight " in table


def test_table_has_a_line_for_each_row_and_a_dash_for_what_is_not_known() -> None:
    rows = [row | {"notes": []} for row in results_rows([counts_of(name) for name in RATES])]
    lines = render_wer_table(rows).splitlines()
    assert len(lines) == 2 + len(RATES)
    gmm = next(line for line in lines if line.startswith("gmm-tri"))
    assert gmm.split()[1] == "test" and "–" in gmm


def test_one_speaker_leaves_its_interval_open() -> None:
    one = dataclasses.replace(counts_of("gmm-tri"), speakers={"s": ErrorCounts(10, 1, 0, 0)})
    row = results_rows([one])[0]
    assert (row["wer"], row["ci_low"], row["ci_high"]) == (10, None, None)
    assert "10.00" in render_wer_table([row])


def test_json_on_the_command_line_is_the_file(recipe: Path, tmp_path: Path) -> None:
    outcome = run_command(recipe, "--from", make_run(tmp_path / "run0", counts_of("gmm-tri")), "--json")
    assert json.loads(outcome.stdout) == json.loads((recipe / "results.json").read_text())
    assert "Example: asr-kd results recipes/demo --from runs/demo" in run_command("--help").stdout


def test_command_and_function_share_one_signature() -> None:
    shell = dict(inspect.signature(command.results).parameters)
    assert shell.pop("json").default is False
    python = inspect.signature(make_results).parameters
    assert {name: p.default for name, p in shell.items()} == {name: p.default for name, p in python.items()}
    hints, plain = typing.get_type_hints(command.results), typing.get_type_hints(make_results)
    assert {name: hints[name] for name in python} == {name: plain[name] for name in python}
