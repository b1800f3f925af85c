"""`asr-kd lm`: from files to files, faults, and one signature per job."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from asr_kd.cli import lm
from asr_kd.core.errors import InputError
from asr_kd.data.manifest import Utterance, write_manifest
from asr_kd.lm import api
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.perplexity import perplexity


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "text").write_text("u1 A B A B\nu2 A B C\nu3 C A B\n")
    (tmp_path / "dev").write_text("u4 A B C\nu5 C D\n")
    (tmp_path / "extra.txt").write_text("D D C\nC B D\n")
    (tmp_path / "words").write_text("A\nB\nC\nD\n")
    return tmp_path


def run(*arguments: object) -> None:
    app = typer.Typer()
    lm.register(app)
    app(["lm", *map(str, arguments)], standalone_mode=False)


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    run(*arguments, "--json")
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("command", "function"), [
    (lm.train, api.train_files), (lm.interpolate, api.interpolate_files), (lm.prune, api.prune_file),
    (lm.perplexity, api.perplexity_of_files),
])
def test_command_and_function_share_one_signature(
    command: Callable[..., None], function: Callable[..., object]
) -> None:
    shell = {name: p.default for name, p in inspect.signature(command).parameters.items() if name != "json"}
    python = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    assert shell == python and list(shell) == list(python)


def test_train_writes_a_model_and_says_how_good_it_is(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "--text", files / "text", "--dev", files / "dev", "--ids", "--vocabulary", files / "words"]
    run(*train, "--output", files / "lm.arpa.gz")
    out = capsys.readouterr().out
    model = read_arpa(files / "lm.arpa.gz")
    dev = [["A", "B", "C"], ["C", "D"]]
    assert f"development text: perplexity {perplexity(model, dev).perplexity:.2f} (" in out
    assert "2 sentences, 5 words, 0 outside the vocabulary (0.00 %)" in out
    assert "text: 3 sentences, 10 words, 0 outside the vocabulary" in out
    assert "text: too little text for discounts of their own (1-grams, 2-grams, 3-grams)" in out
    mixed = run_json(capsys, *train, "--extra", files / "extra.txt", "--output", files / "mixed.arpa", "--order", 2)
    assert len(mixed["components"]) == 2 and len(mixed["ngrams"]) == 2  # type: ignore[arg-type]
    assert read_arpa(files / "mixed.arpa").order == 2


def test_the_file_gives_the_perplexity_that_training_reported(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = run_json(capsys, "train", "--text", files / "text", "--dev", files / "dev", "--ids",
                       "--output", files / "lm.arpa")
    measured = run_json(capsys, "perplexity", "--lm", files / "lm.arpa", "--text", files / "dev", "--ids")
    assert measured["perplexity"] == pytest.approx(trained["dev"]["perplexity"], rel=1e-6)  # type: ignore[index]
    assert (measured["words"], measured["oov"]) == (5, 1)


def test_interpolate_and_prune_write_models(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("train", "--text", files / "text", "--ids", "--output", files / "a.arpa")
    run("train", "--text", files / "extra.txt", "--output", files / "b.arpa")
    pair = ["--lm", files / "a.arpa", "--lm", files / "b.arpa"]
    mixed = run_json(capsys, "interpolate", *pair, "--dev", files / "dev", "--ids", "--output", files / "m.arpa")
    assert sum(mixed["weights"]) == pytest.approx(1)  # type: ignore[arg-type]
    run("interpolate", *pair, "--weight", 0.5, "--weight", 0.5, "--output", files / "half.arpa")
    assert set(read_arpa(files / "half.arpa").words) == {"<s>", "</s>", *"ABCD"}
    small = run_json(capsys, "prune", "--lm", files / "m.arpa", "--max-ngrams", 9, "--output", files / "s.arpa",
                     "--dev", files / "dev", "--ids")
    assert sum(small["ngrams"]) == read_arpa(files / "s.arpa").num_ngrams <= 9  # type: ignore[arg-type]
    report = perplexity(read_arpa(files / "s.arpa"), [["A", "B", "C"], ["C", "D"]])
    assert small["dev"]["perplexity"] == pytest.approx(report.perplexity, rel=1e-6)  # type: ignore[index]


def test_splits_of_manifests_are_text_too(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, text in (("train", "A B"), ("dev", "B A C")):
        write_manifest(files, split, [Utterance("u", "s", text, files / "a.wav", 0.0, 1.0, 16000)])
    run("train", "--manifests", files, "--split", "train", "--output", files / "lm.arpa")
    found = run_json(capsys, "perplexity", "--lm", files / "lm.arpa", "--manifests", files, "--split", "dev")
    assert (found["words"], found["oov"]) == (3, 1)


@pytest.mark.parametrize(("arguments", "message"), [
    ("train --output OUT", "no text: give --text FILE, or --manifests DIR and --split NAME"),
    ("train --output OUT --text F/absent", "absent: no such file"),
    ("train --output OUT --text F/empty", "empty: no words in it"),
    ("train --output OUT --text F/text --split train", "--text and a split of manifests are both given"),
    ("train --output OUT --split train", "--split train is a split of manifests; give their folder"),
    ("train --output OUT --text F/text --dev F/absent", "absent: no such file"),
    ("train --output OUT --text F/text --dev F/foreign --ids", "knows no word of the text"),
    ("train --output OUT --text F/text --vocabulary F/empty", "empty: no word in it"),
    ("train --output OUT --text F/text --extra F/extra.txt", "extra texts need a development text"),
    ("train --output OUT --text F/text --weight 0.3", "interpolation weights 0.3: expected shares"),
    ("train --output OUT --text F/text --unknown-word UNK", "unknown_word: expected '<unk>' or '<UNK>'"),
    ("interpolate --output OUT --lm F/a.arpa", "interpolation needs two language models or more"),
    ("interpolate --output OUT --lm F/a.arpa --lm F/a.arpa", "interpolation needs weights (--weight"),
    ("interpolate --output OUT --lm F/a.arpa --lm F/a.arpa --weight 1", "1 interpolation weights (1) for 2"),
    ("interpolate --output OUT --lm F/a.arpa --lm F/cut.arpa --weight 1 --weight 0", "is it truncated?"),
    ("interpolate --output OUT --lm F/a.arpa --lm F/a.arpa --dev F/foreign", "no word of the development text"),
    ("prune --output OUT --lm F/a.arpa", "pruning takes either a threshold or a number of n-grams"),
    ("prune --output OUT --lm F/cut.arpa --threshold 1e-6", "cut.arpa:8: the file ends before \\end\\"),
    ("perplexity --lm F/cut.arpa --text F/text", "is it truncated?"),
    ("perplexity --lm F/absent --text F/text", "absent: no such file"),
    ("perplexity --lm F/a.arpa --text F/foreign", "knows no word of the text"),
])
def test_faults_are_one_line_and_leave_nothing(files: Path, arguments: str, message: str) -> None:
    (files / "empty").write_text("\n")
    (files / "foreign").write_text("x y z\n")
    run("train", "--text", files / "text", "--ids", "--output", files / "a.arpa")
    whole = (files / "a.arpa").read_text()
    (files / "cut.arpa").write_text("".join(whole.splitlines(keepends=True)[:8]))
    before = sorted(files.iterdir())
    words = [word.replace("F/", f"{files}/").replace("OUT", str(files / "out.arpa")) for word in arguments.split()]
    with pytest.raises(InputError) as error:
        run(*words)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert sorted(files.iterdir()) == before


def test_order_0_is_wrong_usage(files: Path) -> None:
    with pytest.raises(Exception, match="greater than or equal to 1") as error:
        run("train", "--text", files / "text", "--output", files / "out.arpa", "--order", 0)
    assert error.type.__name__ == "BadParameter"
    with pytest.raises(InputError, match="order: expected greater than or equal to 1, found 0"):
        api.train_files(files / "out.arpa", [files / "text"], order=0)


@pytest.mark.parametrize("command", ["train", "interpolate", "prune", "perplexity"])
def test_help_gives_a_worked_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, "--help")
    assert f"Example: asr-kd lm {command} --" in re.sub(r"\s+", " ", capsys.readouterr().out)
