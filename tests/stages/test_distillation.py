"""Distillation from perturbed speech and several teachers to trained students, on tones; and what its stages refuse."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.cli.main import main
from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.core.recipe import read_recipe
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.bundle import load_bundle
from asr_kd.stages.networks import NetworkStageConfig, SoftTargetsStageConfig, cache_soft_targets, train_network
from asr_kd.stages.perturbation import SpeedStageConfig, add_speeds
from asr_kd.stages.registry import STAGE_KINDS
from tests.stages.tone_corpus import RECIPE, write_tone_corpus

STUDENT = """
    settings:
      network: {architecture: highway, hidden_dim: 12, num_layers: 2EXTRA}
      training: {epochs: 2, held_out_speakers: 1, batch_size: 64, learning_rate: 0.01, TRAINING}
      splice_left: 2
      splice_right: 2
      distillation: SWITCHES
"""
DISTILLATION = """\
  speeds:
    run: speed-perturbation
    reads: {manifests: prepare}
    settings: {factors: [0.9, 1.1]}
  mfcc-speeds:
    run: features
    reads: {manifests: speeds}
    settings: {features: {kind: mfcc, num_mel_bins: 23, store_dtype: float32, normalise_variance: false}}
  ali:
    run: align
    reads: {manifests: speeds, features: mfcc-speeds, hmm: mono}
    settings: {adapt: true}
  adapted:
    run: adapted-features
    reads: {features: mfcc-speeds, hmm: mono, train_transforms: ali}
  teacher:
    run: network
    reads: {features: adapted, hmm: mono, alignments: ali}
    settings:
      network: {architecture: dnn, hidden_dim: 24, num_layers: 2, activation: relu}
      training: {epochs: 2, held_out_speakers: 1, batch_size: 64, learning_rate: 0.01, TRAINING}
      splice_left: 3
      splice_right: 3
  targets:
    run: soft-targets
    reads: {features: adapted, hmm: mono, teacher: teacher}
    settings: {top_k: 5, hidden: true}
  ensemble:
    run: soft-targets
    reads: {features: adapted, hmm: mono, teacher: teacher@1, teacher_2: teacher@2}
    settings: {top_k: 5}
"""
SWITCHES = {
    "plain": "{}", "noisy": "{noise: {sigma: 0.2, share: 0.5}}", "projector": "{projector: {weight: 0.1}}",
    "dynamic": "{cross_entropy_weight: 0.5, weight_schedule: {schedule: dynamic, every: 2}}"}


def student(name: str, switches: str, targets: str, extra: str = "") -> str:
    reads = f"{{features: adapted, hmm: mono, alignments: ali, soft_targets: {targets}}}"
    settings = STUDENT.replace("SWITCHES", switches).replace("EXTRA", extra)
    return f"  {name}:\n    run: network\n    reads: {reads}{settings}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of everything above."""
    root = tmp_path_factory.mktemp("tones")
    corpus = write_tone_corpus(root / "corpus", speakers=3)
    students = [student(name, switches, "targets") for name, switches in SWITCHES.items()]
    students += [student("of-ensemble", "{}", "ensemble"), student("factorised", "{}", "targets", ", output_rank: 4")]
    recipe = RECIPE.replace("num_passes: 12, realign_passes: [1, 2, 3, 4, 5, 6, 8, 10], num_gaussians: 60",
                            "num_passes: 6, realign_passes: [1, 2, 3, 4], num_gaussians: 40")
    text = (recipe + DISTILLATION + "".join(students)).replace(
        "TRAINING", "threads: 1, precision: float32, tensorboard: false, device: cpu")
    (root / "recipe").mkdir()
    (root / "recipe/recipe.yaml").write_text(text)
    assert main(["run", str(root / "recipe"), "--corpus", str(corpus.folder), "--run-dir", str(root / "run")]) == 0
    return root / "run"


def summary(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run / stage / "stage.json")["summary"]
    return found


def test_speech_at_other_speeds_is_aligned_and_adapted_to(run: Path) -> None:
    utterances = read_manifest(run / "speeds", "train")
    assert len(utterances) == 72 and len({u.speaker for u in utterances}) == 9
    store = FrameStore.open(run / "adapted/train")
    lengths = {name: len(store[name]) for name in store.ids}
    for name in (u.id for u in utterances if u.speed == 1):
        assert lengths[f"{name}_sp0.9"] == pytest.approx(lengths[name] / 0.9, abs=2)
        assert lengths[f"{name}_sp1.1"] == pytest.approx(lengths[name] / 1.1, abs=2)
    aligned = AlignmentStore.open(run / "ali", HmmModel.load(run / "mono"))
    assert set(aligned) == set(store.ids) and store.supervision == "transcript"


def test_a_cache_says_what_it_lost_and_weighs(run: Path) -> None:
    facts = summary(run, "targets-seed1")
    store = FrameStore.open(run / "adapted/train")
    assert 0 < facts["lost_mass"] < 1 and facts["divergence_error"] > facts["lost_mass"]
    assert facts["gradient_error"] == pytest.approx(2 * facts["lost_mass"], abs=2e-6)  # both are rounded
    assert len(facts["teachers"]) == 1
    assert summary(run, "ensemble")["combination"] == "posteriors" and len(summary(run, "ensemble")["teachers"]) == 2
    assert facts["bytes_per_hour"] == 360_000 * (5 * 4 + 2 + 4 + 24 * 2) and facts["frames"] == store.num_frames
    of_student = load_bundle(run / "plain-seed1/model")[1].provenance["result"]["soft_targets"]
    assert of_student == {name: facts[name] for name in of_student} and of_student["lost_mass"] == facts["lost_mass"]


@pytest.mark.parametrize(("top_k", "is_much"), [(1, True), (500, False)])
def test_a_cache_that_leaves_much_out_says_so(
    run: Path, tmp_path: Path, top_k: int, is_much: bool, caplog: pytest.LogCaptureFixture
) -> None:
    config = SoftTargetsStageConfig(top_k=top_k, temperature=20)
    (tmp_path / "out").mkdir()
    inputs = {"features": run / "adapted", "hmm": run / "mono", "teacher": run / "teacher-seed1"}
    cache_soft_targets(inputs, config, tmp_path / "out",
                       StageContext("targets", 1, None, tmp_path / "work", "run", "asr-kd run"))
    assert ("of the teacher's probability is on pdfs that are not kept" in caplog.text) == is_much


@pytest.mark.parametrize(("settings", "message"), [
    (["targets.temperature=2"], "distillation.temperature is 1, that of soft targets of stage 'targets' 2"),
    (["projector.distillation.temperature=3"], "stages.projector.settings: distillation.temperature is 3, that of"),
    (["targets.hidden=false"], "stages.projector.settings: distillation.projector needs the teacher's last hidden"),
    (["plain.split=dev"], "split is dev, that of soft targets of stage 'targets' train"),
    (["noisy.unlabelled=true", "noisy.distillation.cross_entropy_weight=1"], "leave cross_entropy_weight at 0"),
    (["plain.distillation=null"], "the input 'soft_targets' teaches nothing"),
    (["teacher.distillation.temperature=1"], "distillation needs the input 'teacher' or its 'soft_targets'")], ids=str)
def test_stages_that_contradict_each_other_are_refused_before_any_work(
    run: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_recipe(run.parent / "recipe", STAGE_KINDS, overrides=settings)
    assert "recipe.yaml:" in str(error.value)


@pytest.mark.parametrize("name", [*SWITCHES, "of-ensemble", "factorised"])
def test_every_student_learns_and_says_how(run: Path, name: str) -> None:
    history = summary(run, f"{name}-seed1")["history"]
    assert history[-1]["cv_distillation"] < history[0]["train_distillation"]
    measures = {"noisy": {"train_sigma"}, "projector": {"train_representation", "projector_largest_singular_value"},
                "dynamic": {"train_gradient_cosine", "train_distillation_weight"}}.get(name, set())
    assert measures <= history[-1].keys()


def test_switches_and_teachers_make_a_difference_and_a_projector_is_left_behind(run: Path) -> None:
    weights = {name: load_file(run / f"{name}-seed1/model/model.safetensors")
               for name in (*SWITCHES, "of-ensemble", "factorised")}
    plain = weights["plain"]
    for name in ("noisy", "projector", "dynamic", "of-ensemble"):
        assert weights[name].keys() == plain.keys()
        assert not all(torch.equal(value, plain[key]) for key, value in weights[name].items())
    assert weights["factorised"]["output_layer.0.weight"].shape[0] == 4
    assert (run / "ensemble").is_dir() and (run / "teacher-seed2").is_dir()  # of named seeds: shared by all seeds


INPUTS = {"features": "adapted", "hmm": "mono", "alignments": "ali", "soft_targets": "targets-seed1"}


def trained(
    run: Path, folder: Path, distillation: dict[str, Any] | None, settings: dict[str, Any] | None = None, *,
    without: Sequence[str] = (), **inputs: Path
) -> None:
    training = {"epochs": 1, "held_out_speakers": 1, "batch_size": 64, "threads": 1, "precision": "float32",
                "tensorboard": False, "device": "cpu"}
    config = build_config(NetworkStageConfig, Settings({
        "network": {"architecture": "highway", "hidden_dim": 12, "num_layers": 2}, "training": training,
        "distillation": distillation, "splice_left": 2, "splice_right": 2, **(settings or {})}, {}))
    folder.mkdir(exist_ok=True)
    context = StageContext("student", 1, None, folder / "work", "run", "asr-kd run")
    given = {name: run / of for name, of in INPUTS.items() if name not in without}
    train_network(given | inputs, config, folder / "out", context)


@pytest.mark.parametrize(("distillation", "inputs", "message"), [
    ({"temperature": 2.0}, {}, "cached at temperature 1.0, the student is to learn at 2.0"),
    ({"distance": "logits"}, {}, "needs all .* of them, soft targets hold the 5 best"),
    ({"projector": {"weight": 1.0, "projector": "none"}}, {}, "equally wide last hidden layers, they have 12 and 24"),
    ({"projector": {"weight": 1.0}}, {"soft_targets": "ensemble"}, "needs the last hidden layers of student and"),
    ({"cross_entropy_weight": 1.0, "weight_schedule": {"schedule": "dynamic", "parameters": ["decoder"]}}, {},
     "belongs to the group 'decoder'"),
    ({}, {"features": "mfcc-speeds"}, "stale soft targets, of features"),
    ({}, {"teacher": "teacher-seed2"}, "stale soft targets, of teacher"),
    ({"cross_entropy_weight": -1.0}, {}, "cross_entropy_weight"),
], ids=str)
def test_what_does_not_go_together_is_refused_in_one_line(
    run: Path, tmp_path: Path, distillation: dict[str, Any], inputs: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        trained(run, tmp_path, distillation, **{name: run / of for name, of in inputs.items()})
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["teacher", "soft_targets", "teacher_features"])
def test_what_teaches_nothing_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    others = {"teacher": "teacher-seed1", "soft_targets": "targets-seed1", "teacher_features": "adapted"}
    with pytest.raises(InputError, match=f"input '{name}' teaches nothing"):
        trained(run, tmp_path, None, without=("soft_targets",), **{name: run / others[name]})


def test_a_teacher_on_the_fly_teaches_what_its_cache_does_not_and_hears_what_its_student_hears(
    run: Path, tmp_path: Path
) -> None:
    teacher = {"teacher": run / "teacher-seed1"}
    trained(run, tmp_path, {}, {"splice_left": 3, "splice_right": 3}, without=("soft_targets",), **teacher)
    card = read_json(tmp_path / "out/model/model.json")
    assert card["provenance"]["objective"]["teacher"] == load_bundle(run / "teacher-seed1/model")[1].digest
    with pytest.raises(InputError, match="needs the student's own splice"):
        trained(run, tmp_path / "splice", {}, without=("soft_targets",), **teacher)
    with pytest.raises(InputError, match="hears what its student hears"):
        trained(run, tmp_path / "heard", {}, {"splice_left": 3, "splice_right": 3}, without=("soft_targets",),
                features=run / "mfcc-speeds", teacher_features=run / "adapted", **teacher)


def test_a_teacher_on_other_features_teaches_through_its_cache(run: Path, tmp_path: Path) -> None:
    trained(run, tmp_path, {}, features=run / "mfcc-speeds", teacher_features=run / "adapted")
    history = [json.loads(line) for line in (tmp_path / "out/log/train.jsonl").read_text().splitlines()]
    assert history[-1]["cv_distillation"] < history[0]["train_distillation"]
    assert load_bundle(tmp_path / "out/model")[1].feature_recipe == FrameStore.open(run / "mfcc-speeds/train").recipe


def test_a_teacher_of_another_tree_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "teacher-seed1", tmp_path / "teacher")
    card = tmp_path / "teacher/model/model.json"
    write_json(card, {**read_json(card), "hmm_digest": "0" * 64})
    for inputs in ({"teacher": tmp_path / "teacher"}, {"teacher": tmp_path / "teacher", "soft_targets": None}):
        with pytest.raises(InputError, match="tree"):
            trained(run, tmp_path / "student", {}, without=[name for name, path in inputs.items() if path is None],
                    **{name: path for name, path in inputs.items() if path is not None})


@pytest.mark.parametrize("factors", [[1.0], [0.9, 0.9]])
def test_speeds_are_given_once(run: Path, tmp_path: Path, factors: list[float]) -> None:
    context = StageContext("speeds", 1, None, tmp_path, "run", "asr-kd run")
    with pytest.raises(InputError, match="each once, and 1 is there already"):
        add_speeds({"manifests": run / "prepare"}, SpeedStageConfig(factors=factors), tmp_path, context)


def test_soft_targets_of_another_tree_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "targets-seed1", tmp_path / "targets")
    card = tmp_path / "targets/soft_targets/soft_targets.json"
    content = read_json(card)
    write_json(card, {**content, "key": {**content["key"], "hmm": "0" * 64}})
    with pytest.raises(InputError, match="stale soft targets, of hmm 000000000000"):
        trained(run, tmp_path / "student", {}, soft_targets=tmp_path / "targets")


def test_a_class_that_is_never_seen_does_no_harm(run: Path, tmp_path: Path) -> None:
    hmm = HmmModel.load(run / "mono")
    store = AlignmentStore.open(run / "ali", hmm)
    pdfs_of = {name: set(pdfs.tolist()) for name, pdfs in store.pdf_ids(hmm).items()}
    pdfs = set().union(*pdfs_of.values())
    rare = min(pdfs, key=lambda pdf: (sum(pdf in of for of in pdfs_of.values()), pdf))
    write_alignments(tmp_path / "ali", {name: store[name] for name in store if rare not in pdfs_of[name]}, hmm)
    trained(run, tmp_path, {"cross_entropy_weight": 1.0}, alignments=tmp_path / "ali")
    priors = np.array(read_json(tmp_path / "out/model/model.json")["priors"])
    assert 0 < priors[rare] == priors.min()
    network, _ = load_bundle(tmp_path / "out/model")
    scores = torch.log_softmax(network(torch.randn(50, network.hyperparameters["input_dim"])), -1)  # type: ignore[index]
    assert torch.isfinite(scores - torch.from_numpy(priors).log()).all()


def test_frames_without_alignment_teach_by_soft_targets_alone(run: Path, tmp_path: Path) -> None:
    hmm = HmmModel.load(run / "mono")
    store = AlignmentStore.open(run / "ali", hmm)
    half = {name: store[name] for number, name in enumerate(sorted(store)) if number % 2}
    write_alignments(tmp_path / "ali", half, hmm)
    for name, settings in (("all", {"unlabelled": True}), ("half", {})):
        trained(run, tmp_path / name, {}, settings, alignments=tmp_path / "ali")
    steps = {name: json.loads((tmp_path / name / "out/log/train.jsonl").read_text().splitlines()[-1])["step"]
             for name in ("all", "half")}
    assert steps["all"] > 1.5 * steps["half"]
    with pytest.raises(InputError, match="leave cross_entropy_weight at 0"):
        trained(run, tmp_path / "wrong", {"cross_entropy_weight": 1.0}, {"unlabelled": True})
