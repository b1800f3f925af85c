"""Run what the README and the pages under docs/ show, as it stands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from asr_kd.distillation.config import DistillationConfig
from data_prep.kaldi import write_kaldi

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("recipes/*/README.md")]
# The demo's networks of the table in the README, by id: the test set's rows of speechocean762.
RESULTS = {
    "gmm-sat": "speaker-adapted GMMs",
    "teacher-smbr": "teacher, sequence-trained",
    "hdnn128-ce": "student without a teacher",
    "hdnn128-kd": "student, distilled",
    "hdnn128-kd-smbrteacher-best-smbr-kd0.2": "best student: distilled, sequence-trained",
    "hdnn128-kd-fbank": "student that can stream",
}
SHELL = """set -euo pipefail
asr-kd() { if [ "$1" = run ]; then "$PYTHON" -m asr_kd.cli.main "$@" --fast
           else "$PYTHON" -m asr_kd.cli.main "$@"; fi; }
"""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", ALL_PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_table_of_the_readme_is_that_of_the_results() -> None:
    rows = json.loads((ROOT / "recipes/speechocean762/results.json").read_text())["rows"]
    of_test = {row["id"]: row for row in rows if row["split"] == "test"}
    lines = ["| system | parameters | WER % (test) | 95 % interval | seeds |", "| --- | --: | --: | --: | --: |"]
    for name, what in RESULTS.items():
        row = of_test[name]
        lines.append(f"| {what} (`{name}`) | {row['params'] / 1e6:.2f} M | {row['wer']:.1f} | "
                     f"{row['ci_low']:.1f} to {row['ci_high']:.1f} | {len(row['seeds'])} |")
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("<!-- results:begin -->\n")[1].split("<!-- results:end -->")[0]
    assert shown == "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=named)
def test_settings_are_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        settings = yaml.safe_load(block)
        if "distillation" in settings:
            DistillationConfig.model_validate(settings["distillation"])


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=named)
def test_commands_run(page: Path, finished_demo: Path, tmp_path: Path) -> None:
    """In a folder with the fast demo's run and a corpus in Kaldi's format; `run` gets --fast."""
    shutil.copytree(finished_demo, tmp_path / "runs/demo")
    write_kaldi(finished_demo / "prepare", tmp_path / "my_corpus", root=finished_demo / "prepare")
    shutil.copytree(finished_demo / "prepare/audio", tmp_path / "my_corpus/audio")
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", SHELL + "\n".join(blocks(page, "sh"))], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_python_runs(page: Path) -> None:
    """In a process of its own: SpeechBrain leaves modules in sys.modules that fail when hypothesis looks at them."""
    code = "\n".join(blocks(page, "python"))
    if "brain.fit" in code:
        code = code.replace("brain.fit", "before = objective(student(minibatch.inputs), minibatch)\nbrain.fit")
        code += "\nafter = objective(student(minibatch.inputs), minibatch)\nassert brain.optimizer_step == 8\n"
        code += "assert after < before, (before, after)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
