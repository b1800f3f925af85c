"""The demo recipe, small: from nothing to a table of word error rates, also when it is killed in every stage."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from asr_kd.cli.main import main
from asr_kd.core.recipe import read_recipe
from asr_kd.scoring.system_counts import read_counts
from asr_kd.stages.registry import STAGE_KINDS
from tests.conftest import ROOT, demo_arguments, demo_command

pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
SYSTEMS = ("gmm-tri", "gmm-sat", "teacher-ce", "hdnn128-ce", "hdnn128-kd", "hdnn128-kd-smbr-kd0.2")
RESULTS_OF_THE_PROJECT = ("counts", "results.json")


def stages() -> list[str]:
    recipe = read_recipe(ROOT / "recipes/demo", STAGE_KINDS, fast=True, options=["smbr"], seed=1)
    return [stage.folder for stage in recipe.stages]


@pytest.mark.slow
def test_it_ends_with_a_table_of_word_error_rates(demo_run: tuple[Path, str]) -> None:
    run_dir, printed = demo_run
    table = printed.splitlines()
    for split in ("dev", "test"):
        for system in SYSTEMS:
            assert any(line.split()[:2] == [system, split] for line in table), (system, split)
            counts = read_counts(run_dir / "counts" / f"{system}.1.{split}.json")
            assert 0 < counts.total.wer < 100 and counts.total.words > 100
    assert "CPU s" in printed


@pytest.mark.slow
def test_students_are_smaller_than_the_limit(demo_run: tuple[Path, str]) -> None:
    counts = read_counts(demo_run[0] / "counts/hdnn128-kd.1.test.json")
    assert counts.params is not None and counts.params < 800_000


@pytest.mark.slow
def test_counts_say_what_soft_targets_left_out(demo_run: tuple[Path, str]) -> None:
    caches = {system: read_counts(demo_run[0] / f"counts/{system}.1.test.json").soft_targets for system in SYSTEMS}
    cache = caches.pop("hdnn128-kd")
    assert cache is not None and cache.top_k <= cache.num_pdfs and 0 <= cache.lost_mass < 0.5
    assert not any(caches.values())


@pytest.mark.slow
def test_what_is_done_is_skipped(demo_run: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(demo_run[0], tmp_path / "run")
    done = subprocess.run(demo_command(tmp_path / "run", "--json"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {stage["outcome"] for stage in json.loads(done.stdout)["stages"]} == {"done before"}


@pytest.mark.slow
def test_results_are_made_from_the_counts(demo_run: tuple[Path, str], tmp_path: Path) -> None:
    recipe = shutil.copytree(ROOT / "recipes/demo", tmp_path / "demo", ignore=lambda *_: RESULTS_OF_THE_PROJECT)
    results = [sys.executable, "-m", "asr_kd.cli.main", "results", str(recipe), "--from", str(demo_run[0])]
    subprocess.run(results, check=True, timeout=120)
    rows = json.loads((recipe / "results.json").read_text())["rows"]
    assert {(row["id"], row["split"]) for row in rows} == {(s, split) for s in SYSTEMS for split in ("dev", "test")}
    student = next(row for row in rows if row["id"] == "hdnn128-kd" and row["split"] == "test")
    assert {"hdnn128-ce", "teacher-ce"} <= set(student["versus"])
    text = (recipe / "RESULTS.md").read_text()
    assert "hdnn128-kd" in text and "passes.svg" in text
    assert (recipe / "passes.svg").read_text().count("<svg") == 1


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "asr_kd.cli.main", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_commands_say_of_a_network_on_adapted_features_what_the_recipe_says(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    """From the audio on, transforms by a first pass: the recipe's lattices, so the recipe's words."""
    folder = demo_run[0]
    search = read_recipe(ROOT / "recipes/demo", STAGE_KINDS, fast=True, seed=1).stage("decode-student-kd").config
    scale = search.model_dump()["search"]["acoustic_scale"]
    done = run("decode", "--manifests", folder / "prepare", "--split", "dev", "--model", folder / "sat", "--graph",
               folder / "graph", "--network", folder / "student-kd-seed1", "--acoustic-scale", scale, "--n-best", 2,
               "--lm-weight", 1 / scale, "--output", tmp_path / "decoded")
    assert done.returncode == 0, done.stderr
    by_recipe = [json.loads(line) for line in
                 (folder / "decode-student-kd-seed1/dev/hypotheses.jsonl").read_text().splitlines()]
    by_command = dict(line.split(maxsplit=1) if " " in line else (line, "")
                      for line in (tmp_path / "decoded/text").read_text().splitlines())
    assert by_command.keys() == {row["id"] for row in by_recipe}
    same = sum(by_command[row["id"]].split() == row["words"] for row in by_recipe)
    assert same >= 0.9 * len(by_recipe)  # the stored features have 16 bits, the command's 32
    done = run("rescore", "--lattices", tmp_path / "decoded", "--output", tmp_path / "rescored", "--lm-weight",
               1 / scale, "--old-lm", folder / "lm/lm.arpa.gz", "--new-lm", folder / "lm/lm.arpa.gz", "--kaldi")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rescored/text").read_text() == (tmp_path / "decoded/text").read_text()
    assert {"lattices.ark", "lattices.scp"} <= {path.name for path in (tmp_path / "rescored").iterdir()}


@pytest.mark.slow
def test_alignment_adapted_to_the_transcripts_by_the_command(demo_run: tuple[Path, str], tmp_path: Path) -> None:
    folder = demo_run[0]
    done = run("align", "--manifests", folder / "prepare", "--split", "dev", "--model", folder / "sat", "--adapt",
               "--max-dropped", 0.2, "--output", tmp_path / "aligned")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "aligned/words.ctm").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("what", ["transforms", "features"])
def test_what_knows_the_transcripts_is_not_decoded_to_be_scored(
    demo_run: tuple[Path, str], tmp_path: Path, what: str
) -> None:
    folder = demo_run[0]
    known = {"transforms": ["--transforms", folder / "sat"],
             "features": ["--features", folder / "fmllr", "--network", folder / "student-kd-seed1"]}[what]
    done = run("decode", "--manifests", folder / "prepare", "--split", "train", "--model", folder / "sat", "--graph",
               folder / "graph", *known, "--output", tmp_path / "decoded")
    assert done.returncode == 2
    assert "estimated from transcripts" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "decoded").exists()


def run_demo(run_dir: Path, stderr: Connection) -> None:
    os.dup2(stderr.fileno(), 2)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.exit(main(demo_arguments(run_dir)))


@pytest.mark.slow
def test_killed_in_every_stage_it_still_ends_with_the_same_counts(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    """Processes are forked from one that has imported everything, which takes longer than most stages."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asr_kd.cli.application", "asr_kd.stages.run"])
    run_dir = tmp_path / "run"
    to_kill = stages()
    while True:
        output, stderr = context.Pipe(duplex=False)
        process = context.Process(target=run_demo, args=(run_dir, stderr))
        process.start()
        stderr.close()
        said = []
        begun = None
        with os.fdopen(os.dup(output.fileno())) as lines:
            for line in lines:
                said.append(line)
                if line.split(":")[0] in to_kill:
                    begun = line.split(":")[0]
                    time.sleep(0.15)
                    process.kill()
                    break
        process.join(300)
        if begun is None:
            assert process.exitcode == 0, "".join(said)
            break
        assert process.exitcode in (0, -signal.SIGKILL), "".join(said)  # 0: it was done before the signal came
        to_kill.remove(begun)
    assert to_kill == []
    names = sorted(path.name for path in (run_dir / "counts").iterdir())
    assert names == sorted(path.name for path in (demo_run[0] / "counts").iterdir())
    for name in names:
        killed, whole = read_counts(run_dir / "counts" / name), read_counts(demo_run[0] / "counts" / name)
        assert killed.speakers == whole.speakers, name
