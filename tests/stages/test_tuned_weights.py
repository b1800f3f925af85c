"""`asr-kd decode` takes the weights that the run's score stage chose, and says of a wrong folder what it is."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.cli.main import main
from asr_kd.core.errors import InputError
from asr_kd.hmm.model import HmmModel
from asr_kd.models.architecture import NetworkConfig, build_network
from asr_kd.models.bundle import save_bundle
from asr_kd.stages import folder_kinds
from asr_kd.stages.alignment import align_manifest
from asr_kd.stages.decoding import build_decoding_graph
from asr_kd.stages.folder_kinds import require_kind
from asr_kd.stages.rescoring import rescore_lattices
from asr_kd.stages.transcription import decode_manifest
from asr_kd.stages.tuned_weights import find_tuned_weights
from tests.stages.tone_corpus import RECIPE, WORDS, write_tone_corpus

SCORED = RECIPE + """\
  graph:
    run: graph
    reads: {manifests: prepare, hmm: mono}
  decode:
    run: decode
    reads: {graph: graph, features: mfcc, hmm: mono}
    settings: {splits: [train]}
  score:
    run: score
    reads: {manifests: prepare, gmm-mono: decode}
    settings:
      splits: [train]
      choose_on: train
      lm_weights: [7, 9]
      insertion_penalties: [0.5]
      systems: {gmm-mono: {}}
  a-score-with-fixed-weights:
    run: score
    reads: {manifests: prepare, gmm-fixed: decode}
    settings: {splits: [train], choose_on: train, lm_weights: [3], insertion_penalties: [2], systems: {gmm-fixed: {}}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that scored a model, and one folder of each kind that commands take."""
    root = tmp_path_factory.mktemp("tones")
    corpus = write_tone_corpus(root / "corpus", utterances=12)
    rows = ["-0.7 </s>", "-99 <s>", *(f"-1.2 {word}" for word in WORDS)]
    (corpus.folder / "lm.arpa").write_text(
        f"\\data\\\nngram 1={len(rows)}\n\n\\1-grams:\n" + "\n".join(rows) + "\n\n\\end\\\n")
    (root / "recipe").mkdir()
    (root / "recipe/recipe.yaml").write_text(SCORED)
    assert main(["run", str(root / "recipe"), "--corpus", str(corpus.folder), "--run-dir", str(root / "run")]) == 0
    hmm = HmmModel.load(root / "run/mono")
    torch.manual_seed(0)
    pdfs = hmm.tree.num_pdfs
    network = build_network(NetworkConfig(architecture="dnn", hidden_dim=4, num_layers=1), 13, pdfs)
    save_bundle(root / "network", network, feature_recipe=hmm.feature_recipe, splice_left=0, splice_right=0,
                hmm_digest=hmm.digest, lexicon_digest=hmm.lexicon.digest, priors=np.full(pdfs, 1 / pdfs),
                prior_source="even")
    return root


def decoded(root: Path, output: Path, **changes: Any) -> dict[str, Any]:
    run = root / "run"
    arguments: dict[str, Any] = {"manifests": run / "prepare", "split": "train", "model": run / "mono",
                                 "graph": run / "graph", **changes}
    return decode_manifest(**arguments, output=output)


def test_the_weights_that_were_chosen_are_taken_and_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = json.loads((root / "run/score/stage.json").read_text())["summary"]["gmm-mono"]
    assert chosen["lm_weight"] in (7, 9) and chosen["insertion_penalty"] == 0.5
    run = root / "run"
    assert main(["decode", "--manifests", str(run / "prepare"), "--split", "train", "--model", str(run / "mono"),
                 "--graph", str(run / "graph"), "--output", str(tmp_path / "out")]) == 0
    assert (f"LM weight {chosen['lm_weight']:g}, insertion penalty 0.5: chosen for gmm-mono by the stage score of the "
            f"run {run}") in capsys.readouterr().out
    summary = json.loads((tmp_path / "out/decoding.json").read_text())
    assert (summary["lm_weight"], summary["insertion_penalty"]) == (chosen["lm_weight"], 0.5)
    # What was decoded then is what was scored.
    hypotheses = next((run / "score/hypotheses").iterdir()).read_text()
    assert sorted((tmp_path / "out/text").read_text().split()) == sorted(hypotheses.split())


def test_what_is_given_wins_over_what_was_chosen(root: Path, tmp_path: Path) -> None:
    summary = decoded(root, tmp_path / "weight", lm_weight=5.0)
    assert (summary["lm_weight"], summary["insertion_penalty"]) == (5.0, 0.5)
    assert summary["weights_from"].startswith("LM weight as given; penalty chosen for")
    summary = decoded(root, tmp_path / "penalty", insertion_penalty=0.0)
    assert summary["insertion_penalty"] == 0.0
    assert summary["weights_from"].startswith("penalty as given; LM weight chosen for")
    summary = decoded(root, tmp_path / "both", lm_weight=5.0, insertion_penalty=1.0)
    assert (summary["lm_weight"], summary["insertion_penalty"], summary["weights_from"]) == (5.0, 1.0, "as given")


def test_a_model_that_no_stage_scored_has_no_weights(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "run/mono", tmp_path / "mono")
    summary = decoded(root, tmp_path / "out", model=tmp_path / "mono")
    assert summary["lm_weight"] == pytest.approx(12, abs=0.01)
    assert summary["weights_from"].startswith("1 / acoustic scale")
    assert find_tuned_weights(root / "run/mono", root / "run/graph", network=root / "network") is None


def test_a_table_of_weights_that_was_edited_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "run", tmp_path / "run")
    table = tmp_path / "run/score/weights/gmm-mono.json"
    table.write_text(table.read_text().replace("7.0", "700"))
    with pytest.raises(InputError, match="weights/gmm-mono.json: was changed since its stage wrote it"):
        find_tuned_weights(tmp_path / "run/mono", tmp_path / "run/graph")


def folders(root: Path) -> dict[str, Path]:
    run = root / "run"
    return {folder_kinds.HMM_MODEL: run / "mono", folder_kinds.NETWORK: root / "network",
            folder_kinds.GRAPH: run / "graph", folder_kinds.FEATURES: run / "mfcc",
            folder_kinds.MANIFESTS: run / "prepare", folder_kinds.LATTICES: run / "decode/train"}


def test_each_kind_of_folder_is_told_from_all_others(root: Path) -> None:
    for (kind, folder), (other, wrong) in itertools.product(folders(root).items(), repeat=2):
        if kind == other:
            require_kind(folder, kind, "--option")
            continue
        with pytest.raises(InputError, match=f"{wrong}: that is {other}, expected {kind} as option"):
            require_kind(wrong, kind, "--option")


def test_every_command_says_what_it_was_given(root: Path, tmp_path: Path) -> None:
    run = root / "run"
    common: dict[str, Any] = {"manifests": run / "prepare", "split": "train", "model": run / "mono",
                              "output": tmp_path / "out"}
    cases = [("model", run / "graph", "a decoding graph"), ("model", root / "network", "a network"),
             ("manifests", root / "corpus/train", "a Kaldi data directory"), ("features", run / "mono", "an HMM model"),
             ("network", run / "mono", "an HMM model"), ("transforms", run / "mfcc", "features"),
             ("network", run, "a run directory"), ("model", root / "recipe", "a recipe"),
             ("model", run / "mono/model.json", "a file")]
    for option, folder, kind in cases:
        for command in (align_manifest, decode_manifest):
            graph = {"graph": run / "graph"} if command is decode_manifest else {}
            with pytest.raises(InputError, match=f"{folder}: that is {kind}, expected .* as {option}"):
                command(**{**common, **graph, option: folder})  # type: ignore[operator]
    with pytest.raises(InputError, match="that is an HMM model, expected a decoding graph as graph"):
        decode_manifest(**common, graph=run / "mono")
    with pytest.raises(InputError, match="that is a decoding graph, expected an HMM model as model"):
        build_decoding_graph(run / "graph", root / "corpus/lm.arpa", tmp_path / "out")
    with pytest.raises(InputError, match="that is a stage with lattices of each split, expected lattices as lattices"):
        rescore_lattices(run / "decode", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_directory_is_answered_with_its_stages(root: Path) -> None:
    with pytest.raises(InputError, match="that is a run directory, expected an HMM model as model; its stages of that "
                                         "kind: mono$"):
        require_kind(root / "run", folder_kinds.HMM_MODEL, "--model")
