"""The pages of the recipes follow from the counts that stand beside them."""

import functools
import hashlib
import json
import random
from pathlib import Path

import pytest

from asr_kd.core.recipe import read_outline
from asr_kd.report.comparisons import judge
from asr_kd.report.declarations import Declarations, read_declarations
from asr_kd.report.results import place_of, write_pages
from asr_kd.scoring.gate_trials import GATE_TRIALS, read_trials_folder
from asr_kd.scoring.system_counts import read_counts_folder
from data_prep.demo import DemoConfig, _make_sentences
from data_prep.demo_grammar import list_words

ROOT = Path(__file__).resolve().parents[2] / "recipes"
CORPUS = ROOT.parents[1] / "shared" / "corpora" / "speechocean762"
RECIPES = [path.parent.name for path in sorted(ROOT.glob("*/counts"))]
SPEAKERS = {
    "demo": "648b49860db38cb0",
    "speechocean762": "e228f6030df3b5a9",
}


@functools.cache
def declared(recipe: str) -> Declarations:
    return read_declarations(ROOT / recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_pages_are_byte_for_byte_those_of_the_counts(recipe: str, tmp_path: Path) -> None:
    """After a change of the pages' form: `asr-kd results recipes/NAME`."""
    folder = ROOT / recipe
    declarations = declared(recipe)
    write_pages(tmp_path, place_of(folder), judge(read_counts_folder(folder / "counts"), declarations), declarations,
                read_trials_folder(folder / GATE_TRIALS))
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"results.json", "RESULTS.md", "DISTILLATION.md"} <= made.keys()
    for name, content in made.items():
        assert (folder / name).read_bytes() == content, f"{folder / name} is not made from its counts"
    drawings = {path.name for path in folder.glob("*.svg")}
    assert drawings == {name for name in made if name.endswith(".svg")}


@pytest.mark.parametrize("recipe", RECIPES)
def test_errors_of_no_speaker_have_changed(recipe: str) -> None:
    """A new system or seed changes the digest, and so would a figure that somebody mended by hand."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / recipe / "counts").iterdir()):
        speakers = json.loads(path.read_text(encoding="utf-8"))["speakers"]
        digest.update(f"{path.name} {json.dumps(speakers, sort_keys=True)}\n".encode())
    assert digest.hexdigest()[:16] == SPEAKERS[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_recipe_scores_every_system_of_its_counts(recipe: str) -> None:
    declarations = declared(recipe)
    counted = {path.name.rsplit(".", 3)[0] for path in (ROOT / recipe / "counts").iterdir()}
    assert [name for name in sorted(counted) if not declarations.declares(name)] == []
    scored = {(counts.split, counts.id) for counts in read_counts_folder(ROOT / recipe / "counts")}
    claimed = {(claim.split, name) for claim in declarations.claims for name in (claim.system, claim.against)}
    assert claimed - scored <= {("test", "hdnn128-kd-smbr-kd0.2")}


def test_no_figure_is_not_a_number() -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} in results.json")

    for recipe in RECIPES:
        rows = json.loads((ROOT / recipe / "results.json").read_text(), parse_constant=refuse)["rows"]
        assert all(row["versus"].keys() == row["versus_holm"].keys() for row in rows)


def test_the_vocabulary_of_the_demo_is_closed_as_its_counts_say() -> None:
    """The words of the scored utterances, made again without speaking them."""
    settings, _ = read_outline(ROOT / "demo", "prepare-demo")
    config = DemoConfig.model_validate(settings["prepare"].values)
    words = set(list_words())
    for counts in read_counts_folder(ROOT / "demo" / "counts"):
        if counts.id == "hdnn128-kd":
            for speaker, errors in counts.speakers.items():
                sentences = _make_sentences(random.Random(f"0 text {speaker}"), config, 100)
                spoken, count = [], 0
                while count < errors.words:
                    spoken.append(sentences[len(spoken)])
                    count += len(spoken[-1])
                assert count == errors.words
                assert all(word in words for sentence in spoken for word in sentence)
            assert (counts.oov_rate, counts.closed_vocabulary) == (0.0, True)


def test_the_vocabulary_of_speechocean762_is_closed_as_its_counts_say() -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"needs {CORPUS}")
    lexicon = {line.split(maxsplit=1)[0] for line in (CORPUS / "lexicon/lexicon.txt").read_text().splitlines() if line}
    for split in ("dev", "test"):
        said = [word for line in (CORPUS / split / "text").read_text().splitlines() for word in line.split()[1:]]
        for counts in read_counts_folder(ROOT / "speechocean762" / "counts"):
            if counts.id == "hdnn128-kd" and counts.split == split:
                assert len(said) == counts.total.words and set(said) <= lexicon
                assert (counts.oov_rate, counts.closed_vocabulary) == (0.0, True)
