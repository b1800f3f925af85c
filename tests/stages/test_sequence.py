"""Sequence training from the jack-knifed graphs to a decoded network, on tones; and what its stages refuse."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.cli.main import main
from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import AsrKdError, InputError, WorkError
from asr_kd.core.files import hash_file, read_json, write_json
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest, write_manifest
from asr_kd.graph.hclg import GraphConfig, build_graph
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.training_lattices import TrainingLattices
from asr_kd.lm.text import read_vocabulary
from asr_kd.lm.training import LanguageModelConfig, train_language_model
from asr_kd.scoring.system_counts import read_counts
from asr_kd.scoring.wer import total_errors
from asr_kd.stages.decoding import DecodeConfig
from asr_kd.stages.decoding import decode as decode_stage
from asr_kd.stages.sequence import SequenceStageConfig, train_sequence
from asr_kd.stages.training_lattices import (
    TrainingGraphsConfig,
    TrainingLatticesConfig,
    build_graphs,
    make_lattices,
)
from tests.stages.tone_corpus import RECIPE, write_tone_corpus

SEQUENCE = """\
  ali:
    run: align
    reads: {manifests: prepare, features: mfcc, hmm: mono}
  net:
    run: network
    reads: {features: mfcc, hmm: mono, alignments: ali}
    settings:
      network: {architecture: highway, hidden_dim: 16, num_layers: 2}
      training: {epochs: 3, held_out_speakers: 1, batch_size: 64, learning_rate: 0.01, TRAINING}
      splice_left: 2
      splice_right: 2
  graphs:
    run: training-graphs
    reads: {manifests: prepare, hmm: mono}
    settings: {folds: 2}
  lattices:
    run: training-lattices
    reads: {manifests: prepare, graphs: graphs, features: mfcc, hmm: mono, network: net, alignments: ali}
  smbr:
    run: sequence-training
    reads: {features: mfcc, hmm: mono, lattices: lattices, network: net, alignments: ali}
    settings:
      training: {epochs: 2, held_out_speakers: 1, learning_rate: 1e-4, TRAINING}
      keep_passes: true
  lm:
    run: language-model
    reads: {manifests: prepare}
    settings: {dev: null, model: {order: 2}}
  graph:
    run: graph
    reads: {manifests: prepare, hmm: mono, language_model: lm}
  decoded:
    run: decode
    reads: {graph: graph, features: mfcc, hmm: mono, network: smbr}
    settings: {splits: [train]}
  decoded-passes:
    run: decode
    reads: {graph: graph, features: mfcc, hmm: mono, network: smbr}
    settings: {splits: [train], each_pass: true}
  score:
    run: score
    reads: {manifests: prepare, tones-smbr: decoded}
    settings: {splits: [train], choose_on: train, systems: {tones-smbr: {}}}
  score-passes:
    run: score
    reads: {manifests: prepare, tones-smbr: decoded-passes}
    settings: {splits: [train], choose_on: train, systems: {tones-smbr: {each_pass: true}}}
""".replace("TRAINING", "threads: 1, precision: float32, tensorboard: false, device: cpu")
FOLDERS = {"manifests": "prepare", "features": "mfcc", "hmm": "mono", "alignments": "ali", "network": "net-seed1",
           "graphs": "graphs", "lattices": "lattices-seed1"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of the whole recipe."""
    root = tmp_path_factory.mktemp("tones")
    corpus = write_tone_corpus(root / "corpus", speakers=4)
    fewer_passes = RECIPE.replace("num_passes: 12, realign_passes: [1, 2, 3, 4, 5, 6, 8, 10], num_gaussians: 60",
                                  "num_passes: 6, realign_passes: [1, 2, 3, 4], num_gaussians: 40")
    assert fewer_passes != RECIPE
    (root / "recipe").mkdir()
    (root / "recipe/recipe.yaml").write_text(fewer_passes + SEQUENCE)
    assert main(["run", str(root / "recipe"), "--corpus", str(corpus.folder), "--run-dir", str(root / "run")]) == 0
    return root / "run"


def inputs_of(run: Path, *names: str, **changes: Path) -> dict[str, Path]:
    return {name: run / FOLDERS[name] for name in names} | changes


def context(work: Path) -> StageContext:
    work.mkdir(parents=True, exist_ok=True)
    return StageContext("stage", 1, None, work, "run", "asr-kd run")


def sequence_settings(**settings: Any) -> SequenceStageConfig:
    training = {"epochs": 1, "held_out_speakers": 1, "learning_rate": 1e-4, "threads": 1, "precision": "float32",
                "tensorboard": False, "device": "cpu", **settings.pop("training", {})}
    return build_config(SequenceStageConfig, Settings({"training": training, **settings}, {}))


def trained(run: Path, folder: Path, inputs: Mapping[str, Path] | None = None, **settings: Any) -> dict[str, Any]:
    inputs = inputs or inputs_of(run, "features", "hmm", "lattices", "network", "alignments")
    return train_sequence(inputs, sequence_settings(**settings), folder / "out", context(folder / "work"))


def made_lattices(run: Path, folder: Path, work: Path | None = None, **changes: Any) -> dict[str, Any]:
    settings = changes.pop("settings", {})
    names = ("manifests", "graphs", "features", "hmm", "network", "alignments")
    config = build_config(TrainingLatticesConfig, Settings(settings, {}))
    return make_lattices(inputs_of(run, *names, **changes), config, folder, context(work or folder.parent / "work"))


def test_a_trained_network_goes_through_every_stage(run: Path) -> None:
    smbr, lattices = read_json(run / "smbr-seed1/stage.json"), read_json(run / "lattices-seed1/stage.json")
    summary = lattices["summary"]
    assert summary["utterances"]["kept"] == 24
    hmm = HmmModel.load(run / "mono")
    made = TrainingLattices.open(run / "lattices-seed1", hmm.digest)
    (quality,) = read_json(run / "lattices-seed1/report.json")["splits"]
    assert quality["split"] == "train" and quality["utterances"] == 24 and quality["oracle_wer"] <= quality["wer"] < 20
    assert all(known.numerator_cost is not None for known in made.utterances.values())
    history = smbr["summary"]["history"]
    assert [record["epoch"] for record in history] == [0, 1, 2]
    criteria = [record["cv_smbr"] for record in history]
    assert criteria == sorted(criteria) and criteria[-1] > criteria[0]
    said = {u.id: u.text.split() for u in read_manifest(run / "prepare", "train")}
    found = {row["id"]: row["words"] for row in map(json.loads, (run / "decoded-seed1/train/hypotheses.jsonl").open())}
    assert found.keys() == said.keys() and total_errors(said, found) < 0.1 * sum(map(len, said.values()))


def test_every_pass_is_kept_and_the_best_one_is_the_result(run: Path) -> None:
    history = read_json(run / "smbr-seed1/stage.json")["summary"]["history"]
    assert sorted(path.name for path in (run / "smbr-seed1/passes").iterdir()) == ["1", "2"]
    best = history[-1]["best_epoch"]
    start, passes, chosen = (load_file(path / "model.safetensors") for path in (
        run / "net-seed1/model", run / f"smbr-seed1/passes/{best}", run / "smbr-seed1/model"))
    assert all(torch.equal(value, chosen[name]) for name, value in passes.items())
    assert not all(torch.equal(value, start[name]) for name, value in chosen.items())
    cards = [read_json(run / folder / "model.json") for folder in ("net-seed1/model", "smbr-seed1/model")]
    assert cards[0]["priors"] == cards[1]["priors"]


def test_each_pass_is_decoded_and_scored(run: Path, tmp_path: Path) -> None:
    decoded = (run / "decoded-seed1", *(run / f"decoded-passes-seed1/pass{number}" for number in (1, 2)))
    lattices = [hash_file(folder / "train/lattices.bin") for folder in decoded]
    assert lattices[2] == lattices[0] != lattices[1]
    chosen, first, last = (read_counts(run / f"counts/{name}.1.train.json")
                           for name in ("tones-smbr", "tones-smbr-pass1", "tones-smbr-pass2"))
    assert last.total == chosen.total and first.id == "tones-smbr-pass1"
    assert chosen.passes is not None and chosen.training_lattices is not None
    assert [one.split for one in chosen.training_lattices.splits] == ["train"]
    config = DecodeConfig(splits=["train"], each_pass=True)
    for network in ({}, {"network": run / "net-seed1"}):
        with pytest.raises(InputError, match="each_pass is set, but no network with passes is among the inputs"):
            decode_stage({**inputs_of(run, "features", "hmm", graph=run / "graph"), **network}, config,
                         tmp_path / "none", context(tmp_path / "work"))


def test_the_teacher_itself_has_nothing_to_learn_from_its_own_paths(run: Path, tmp_path: Path) -> None:
    inputs = inputs_of(run, "features", "hmm", "lattices", "network", teacher=run / "net-seed1")
    summary = trained(run, tmp_path, inputs, criterion={"criterion": "distillation"})
    start = summary["history"][0]
    assert start["epoch"] == 0 and start["cv_loss"] == pytest.approx(0, abs=1e-3)
    assert start["cv_frame_accuracy"] is None and start["cv_cross_entropy"] is None  # no alignments, no labels


def test_a_teacher_may_smooth_a_criterion(run: Path, tmp_path: Path) -> None:
    inputs = inputs_of(run, "features", "hmm", "lattices", "network", "alignments", teacher=run / "net-seed1")
    summary = trained(run, tmp_path, inputs, criterion={"smoothing": 0.2}, distillation={"distillation_weight": 1.0})
    assert summary["history"][0]["cv_smoothing"] == pytest.approx(0, abs=1e-5)
    assert summary["history"][0]["cv_smbr"] > 0.5


def test_only_the_chosen_parameters_move(run: Path, tmp_path: Path) -> None:
    summary = trained(run, tmp_path, parameters=["gates"], training={"judge_start": False})
    assert summary["moved"] == 2 * 16 * 16
    before, after = (load_file(folder / "model/model.safetensors") for folder in (run / "net-seed1", tmp_path / "out"))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"transform_gate.weight", "carry_gate.weight"}


def with_texts(run: Path, folder: Path, change: Callable[[int, str], str]) -> Path:
    """The manifests of the run, with other texts (number of the utterance, own text)."""
    shutil.copytree(run / "prepare", folder)
    write_manifest(folder, "train", [replace(u, text=change(number, u.text))
                                     for number, u in enumerate(read_manifest(run / "prepare", "train"))])
    return folder


def test_a_folds_language_model_knows_no_sentence_of_its_speakers(run: Path, tmp_path: Path) -> None:
    # Every fifth sentence is said by several speakers.
    manifests = with_texts(run, tmp_path / "manifests", lambda number, text: text if number % 5 else "ab ba cad")
    config = TrainingGraphsConfig(folds=3)
    inputs = inputs_of(run, "hmm", manifests=manifests)
    summary = build_graphs(inputs, config, tmp_path / "graphs", context(tmp_path / "work"))
    speakers = read_json(tmp_path / "graphs/folds.json")["speakers"]
    utterances = list(read_manifest(manifests, "train"))
    assert speakers.keys() == {u.speaker for u in utterances} and set(speakers.values()) == {0, 1, 2}
    hmm, vocabulary = HmmModel.load(run / "mono"), read_vocabulary(manifests / "lexicon.txt")
    shared_is_left_out = 0
    for fold in range(3):
        own = [u.text for u in utterances if speakers[u.speaker] == fold]
        others = [u.text for u in utterances if speakers[u.speaker] != fold]
        kept = [text.split() for text in others if own.count(text) == 0]
        shared_is_left_out += len(others) - len(kept)
        found = summary[f"fold-{fold}"]
        assert (found["sentences"], found["own_sentences"]) == (len(kept), len(own))
        model, _ = train_language_model(kept, vocabulary=vocabulary, config=LanguageModelConfig(order=2))
        build_graph(hmm, model, tmp_path / f"expected-{fold}", GraphConfig())
        assert hash_file(tmp_path / f"expected-{fold}/HCLG.fst") == hash_file(tmp_path / f"graphs/fold-{fold}/HCLG.fst")
    assert shared_is_left_out > 0
    assert len({hash_file(tmp_path / f"graphs/fold-{fold}/HCLG.fst") for fold in range(3)}) == 3


def test_with_a_language_model_there_is_one_fold(run: Path, tmp_path: Path) -> None:
    inputs = inputs_of(run, "hmm", "manifests", language_model=run / "prepare")
    summary = build_graphs(inputs, TrainingGraphsConfig(), tmp_path / "graphs", context(tmp_path / "work"))
    assert list(summary) == ["fold-0"] and read_json(tmp_path / "graphs/folds.json")["folds"] == 1
    made_lattices(run, tmp_path / "lattices", graphs=tmp_path / "graphs")
    assert len(TrainingLattices.open(tmp_path / "lattices", HmmModel.load(run / "mono").digest).utterances) == 24


def test_another_split_is_judged_beside_the_training_speech(run: Path, tmp_path: Path) -> None:
    # The same speech under another name, searched with the same language model, has the same lattices.
    manifests, features = (Path(shutil.copytree(run / name, tmp_path / name)) for name in ("prepare", "mfcc"))
    write_manifest(manifests, "dev", list(read_manifest(manifests, "train")))
    shutil.copytree(features / "train", features / "dev")
    config = TrainingGraphsConfig(compare_with="dev")
    inputs = inputs_of(run, "hmm", manifests=manifests, language_model=run / "prepare")
    build_graphs(inputs, config, tmp_path / "graphs", context(tmp_path / "work"))
    made_lattices(run, tmp_path / "lattices", graphs=tmp_path / "graphs", manifests=manifests, features=features)
    train, dev = read_json(tmp_path / "lattices/report.json")["splits"]
    assert (train.pop("split"), dev.pop("split")) == ("train", "dev") and dev == train and train["utterances"] == 24
    with pytest.raises(InputError, match="no sentence of train is left for the language model of compared"):
        build_graphs(inputs_of(run, "hmm", manifests=manifests), TrainingGraphsConfig(folds=2, compare_with="dev"),
                     tmp_path / "without", context(tmp_path / "work"))
    write_manifest(manifests, "dev", list(read_manifest(manifests, "train"))[1:])
    with pytest.raises(InputError, match="s0-u00 is no utterance of dev"):
        made_lattices(run, tmp_path / "other", work=tmp_path / "unsearched", graphs=tmp_path / "graphs",
                      manifests=manifests, features=features)
    assert not list((tmp_path / "unsearched").iterdir())  # refused before any search


def test_more_folds_than_speakers_and_folds_without_text_are_refused(run: Path, tmp_path: Path) -> None:
    inputs = inputs_of(run, "hmm", "manifests")
    with pytest.raises(InputError, match="4 speakers cannot be parted into 5 folds; take fewer folds"):
        build_graphs(inputs, TrainingGraphsConfig(), tmp_path / "graphs", context(tmp_path / "work"))
    inputs["manifests"] = with_texts(run, tmp_path / "manifests", lambda number, text: "ab ba")
    with pytest.raises(InputError, match="no sentence of train is left for the language model of fold-0"):
        build_graphs(inputs, TrainingGraphsConfig(folds=2), tmp_path / "graphs", context(tmp_path / "work"))


def test_a_killed_search_goes_on_with_the_block_that_it_was_in(run: Path, tmp_path: Path) -> None:
    made_lattices(run, tmp_path / "whole/lattices")
    shutil.copytree(tmp_path / "whole/work/fold-0", tmp_path / "killed/work/fold-0")
    (tmp_path / "killed/work/fold-1/0").mkdir(parents=True)
    (tmp_path / "killed/work/fold-1/0/lattices.bin").write_bytes(b"half")
    before = (tmp_path / "killed/work/fold-0/0/summary.json").stat().st_mtime_ns
    made_lattices(run, tmp_path / "killed/lattices")
    assert (tmp_path / "killed/work/fold-0/0/summary.json").stat().st_mtime_ns == before
    for name in ("lattices.bin", "lattices.json", "utterances.json"):
        assert hash_file(tmp_path / "killed/lattices" / name) == hash_file(tmp_path / "whole/lattices" / name)
        assert hash_file(run / "lattices-seed1" / name) == hash_file(tmp_path / "whole/lattices" / name)


def test_alignments_are_part_of_what_lattices_were_made_of(run: Path, tmp_path: Path) -> None:
    hmm = HmmModel.load(run / "mono")
    alignments = dict(AlignmentStore.open(run / "ali", hmm))
    left_out = sorted(alignments)[0]
    del alignments[left_out]
    write_alignments(tmp_path / "ali", alignments, hmm)
    summary = made_lattices(run, tmp_path / "lattices", alignments=tmp_path / "ali")
    assert summary["without_numerator"] == [left_out]
    first, second = (TrainingLattices.open(folder, hmm.digest).digest
                     for folder in (run / "lattices-seed1", tmp_path / "lattices"))
    assert first != second


def shorter(store: AlignmentStore, folder: Path, hmm: HmmModel) -> Path:
    write_alignments(folder, {name: ids[:-1] for name, ids in store.items()}, hmm)
    return folder


def test_bad_input_of_the_search_is_refused_before_it(run: Path, tmp_path: Path) -> None:
    hmm = HmmModel.load(run / "mono")
    write_json(tmp_path / "graphs/folds.json", {"speakers": {"s0": 0}, "folds": 1})
    shutil.copytree(run / "graphs/fold-0", tmp_path / "graphs/fold-0")
    edited = tmp_path / "edited"
    shutil.copytree(run / "graphs", edited)
    write_json(edited / "fold-1/graph.json", {**read_json(edited / "fold-1/graph.json"), "hmm": "other"})
    ali = shorter(AlignmentStore.open(run / "ali", hmm), tmp_path / "ali", hmm)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("leave search.lattices at words", {"settings": {"search": {"lattices": "states"}}}),
        ("no graph for s1-u01 .speaker s1.", {"graphs": tmp_path / "graphs"}),
        ("built with HMM other", {"graphs": edited}),
        ("frames of features; align these features again", {"alignments": ali}),
        ("no such file", {"alignments": run / "mono"}),
    ]
    for message, changes in cases:
        with pytest.raises(InputError, match=message) as error:
            made_lattices(run, tmp_path / "lattices", work=tmp_path / "work", **changes)
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "work").iterdir()) and not (tmp_path / "lattices").exists()


def edited_lattices(run: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    shutil.copytree(run / "lattices-seed1", folder)
    change(folder)
    return folder


def of_another_model(folder: Path) -> None:
    index = read_json(folder / "lattices.json")
    index["description"]["hmm"] = "0123456789abcdef"
    write_json(folder / "lattices.json", index)


def of_other_frames(folder: Path) -> None:
    known = read_json(folder / "utterances.json")
    write_json(folder / "utterances.json", {n: {**one, "frames": one["frames"] + 1} for n, one in known.items()})


def without_numerators(folder: Path) -> None:
    known = read_json(folder / "utterances.json")
    write_json(folder / "utterances.json", {n: {**one, "numerator_cost": None} for n, one in known.items()})


def cut(folder: Path) -> None:
    (folder / "lattices.bin").write_bytes((folder / "lattices.bin").read_bytes()[:-9])


def flipped(folder: Path) -> None:
    content = bytearray((folder / "lattices.bin").read_bytes())
    for begin, size, _ in read_json(folder / "lattices.json")["lattices"].values():
        content[begin + size // 2] ^= 1
    (folder / "lattices.bin").write_bytes(content)


@pytest.mark.parametrize(("change", "kind", "message"), [
    (of_another_model, InputError, "lattices of the model 0123456789ab, to be used with the model"),
    (of_other_frames, WorkError, "24 of 24 utterances dropped.*lattice of other frames"),
    (without_numerators, WorkError, "24 of 24 utterances dropped.*no numerator"),
    (cut, InputError, "lattices.bin: damaged"),
    (flipped, InputError, "s.-u..: damaged lattice"),
])
def test_lattices_that_do_not_fit_are_refused(
    run: Path, tmp_path: Path, change: Callable[[Path], None], kind: type[AsrKdError], message: str
) -> None:
    lattices = edited_lattices(run, tmp_path / "lattices", change)
    inputs = inputs_of(run, "features", "hmm", "network", "alignments", lattices=lattices)
    with pytest.raises(kind, match=message) as error:
        trained(run, tmp_path, inputs)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_distillation_over_lattices_of_other_frames_is_refused(run: Path, tmp_path: Path) -> None:
    lattices = edited_lattices(run, tmp_path / "lattices", of_other_frames)
    inputs = inputs_of(run, "features", "hmm", "network", lattices=lattices, teacher=run / "net-seed1")
    with pytest.raises(WorkError, match="lattice of other frames"):
        trained(run, tmp_path, inputs, criterion={"criterion": "distillation"})


ALL = ("features", "hmm", "lattices", "network", "alignments")
UNALIGNED = ALL[:-1]


@pytest.mark.parametrize(("names", "with_teacher", "settings", "message"), [
    (UNALIGNED, False, {}, "the criterion smbr needs the input 'alignments'"),
    (UNALIGNED, False, {"criterion": {"criterion": "mmi"}}, "the criterion mmi needs the input 'alignments'"),
    (UNALIGNED, False, {"criterion": {"criterion": "distillation"}}, "needs the input 'teacher'"),
    (UNALIGNED, True, {"criterion": {"criterion": "distillation", "smoothing": 0.1}},
     "smoothing by cross-entropy needs the input 'alignments'"),
    (UNALIGNED, True, {"criterion": {"criterion": "distillation", "smoothing": 0.1},
                       "distillation": {"cross_entropy_weight": 0.5}}, "smoothing by cross-entropy needs"),
    (ALL, False, {"distillation": {}}, "distillation is set, but smoothing is 0"),
    (ALL, False, {"distillation": {}, "criterion": {"smoothing": 0.1}}, "distillation needs the input 'teacher'"),
    (ALL, True, {}, "a teacher is among the inputs, but neither"),
    (ALL, False, {"parameters": ["gates", "decoder"]}, "belongs to the group 'decoder'"),
    (ALL, False, {"criterion": {"boost": 0.1}}, "boost and reject_frames are of the criterion mmi"),
    (ALL, False, {"criterion": {"criterion": "mpe", "reject_frames": True}}, "are of the criterion mmi"),
    (ALL, False, {"training": {"held_out_speakers": 4}}, "held_out_speakers is 4, but train has 4 speakers"),
    (ALL, False, {"split": "dev"}, "no feature store"),
], ids=str)
def test_settings_and_inputs_that_do_not_go_together_are_refused(
    run: Path, tmp_path: Path, names: tuple[str, ...], with_teacher: bool, settings: dict[str, Any], message: str
) -> None:
    inputs = inputs_of(run, *names, **({"teacher": run / "net-seed1"} if with_teacher else {}))
    with pytest.raises(InputError, match=message) as error:
        trained(run, tmp_path, inputs, **settings)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_utterances_longer_than_a_minibatch_are_counted(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="utterances dropped.*longer than a minibatch.*batch_size is 150"):
        trained(run, tmp_path, training={"batch_size": 150})


def test_alignments_of_other_frames_and_models_are_refused(run: Path, tmp_path: Path) -> None:
    hmm = HmmModel.load(run / "mono")
    ali = shorter(AlignmentStore.open(run / "ali", hmm), tmp_path / "ali", hmm)
    names = ("features", "hmm", "lattices", "network")
    with pytest.raises(InputError, match="frames of features; align these features again"):
        trained(run, tmp_path, inputs_of(run, *names, alignments=ali))
    description = read_json(ali / "alignments.json")
    write_json(ali / "alignments.json", {**description, "model_digest": "0123456789"})
    with pytest.raises(InputError, match="aligned with the model 01234567"):
        trained(run, tmp_path, inputs_of(run, *names, alignments=ali))


def test_a_network_of_another_tree_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "net-seed1", tmp_path / "net")
    card = tmp_path / "net/model/model.json"
    write_json(card, {**read_json(card), "hmm_digest": "0123456789"})
    with pytest.raises(InputError, match="belongs to the tree .HMM model. 0123456789, but"):
        trained(run, tmp_path, inputs_of(run, "features", "hmm", "lattices", "alignments", network=tmp_path / "net"))
