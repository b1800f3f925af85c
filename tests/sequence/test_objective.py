"""The loss of sequence training by hand, and training with it."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr_kd.core.errors import WorkError
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.parameter_groups import train_only
from asr_kd.sequence.config import CriterionConfig, SequenceTrainingConfig
from asr_kd.sequence.data import UtteranceBatch, UtteranceData
from asr_kd.sequence.objective import SequenceObjective
from asr_kd.training.data import Minibatch
from asr_kd.training.engine import TrainingResult, train
from asr_kd.training.objective import CrossEntropy
from tests.sequence.brute_force import NUM_PDFS, TABLE, expected, path_accuracies, path_errors, path_scores
from tests.sequence.corpora import DIM, SequenceCorpus, teacher_paths, teacher_scores, write_corpus

SCALE = 0.3
PRIORS = np.log(np.random.default_rng(2).dirichlet(np.ones(NUM_PDFS))).astype(np.float32)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> SequenceCorpus:
    """Utterances so short that all paths of their lattices can be listed."""
    return write_corpus(tmp_path_factory.mktemp("few"), speakers=2, utterances=2, shortest=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> SequenceCorpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def criterion_of(**settings: Any) -> CriterionConfig:
    return CriterionConfig(**{"acoustic_scale": SCALE, **settings})


def objective_of(**settings: Any) -> SequenceObjective:
    return SequenceObjective(criterion_of(**settings), PRIORS, CrossEntropy())


def a_batch(data: UtteranceData) -> UtteranceBatch:
    """All utterances in one."""
    return data.minibatch(np.concatenate([data.train_utterances, data.cv_utterances])).to(torch.device("cpu"))


def some_logits(rows: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(4).normal(0, 3, (rows, NUM_PDFS)).astype(np.float32)).requires_grad_()


def by_hand(corpus: SequenceCorpus, name: str, scores: np.ndarray, config: CriterionConfig) -> float:
    """A supervised criterion of an utterance, from all its paths."""
    lattice, alignment = corpus.lattices.lattices.word_lattice(name).expand(), corpus.alignments[name]
    paths, of_paths = path_scores(lattice, scores, SCALE)
    if config.criterion != "mmi":
        unit = "state" if config.criterion == "smbr" else "phone"
        accuracies = path_accuracies(lattice, paths, alignment, unit, config.one_silence_class)
        return expected(lattice, scores, SCALE, accuracies)
    errors = path_errors(lattice, paths, alignment)
    cost = corpus.lattices.utterances[name].numerator_cost
    assert cost is not None
    aligned = scores[np.arange(len(alignment)), TABLE.pdfs[alignment]].sum()
    return float(-cost + SCALE * aligned - np.logaddexp.reduce(of_paths + config.boost * errors))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("settings", [
    {"criterion": "smbr"}, {"criterion": "smbr", "one_silence_class": False}, {"criterion": "mpe"},
    {"criterion": "mmi"}, {"criterion": "mmi", "boost": 0.5}], ids=str)
def test_the_loss_is_the_criterion_of_all_paths_and_the_smoothing(
    few: SequenceCorpus, settings: dict[str, Any], smoothing: float
) -> None:
    objective = objective_of(**settings, smoothing=smoothing)
    data = few.data(objective.config, held_out_speakers=1)
    batch = a_batch(data)
    logits = some_logits(batch.lattices.num_rows)
    names = data.utterances(np.concatenate([data.train_utterances, data.cv_utterances]))
    scores = np.split(logits.detach().numpy().astype(np.float64) - PRIORS, batch.lattices.row_begins[1:-1])
    total = sum(by_hand(few, name, own, objective.config) for name, own in zip(names, scores, strict=True))
    frame_loss = -logits.log_softmax(-1)[torch.arange(len(logits)), batch.pdf_ids].mean().item()
    wanted = -total / SCALE / len(logits) + smoothing * frame_loss
    assert objective(logits, batch).item() == pytest.approx(wanted, rel=1e-5)
    measures = objective.take_measures()
    assert measures[objective.config.criterion] == pytest.approx(total / len(logits), rel=1e-5)
    assert measures.get("smoothing") == (pytest.approx(frame_loss, rel=1e-5) if smoothing else None)
    assert objective.take_measures().get(objective.config.criterion, 0.0) == 0.0


def test_measures_are_means_over_frames(few: SequenceCorpus) -> None:
    objective = objective_of(smoothing=0.1)
    data = few.data(objective.config, held_out_speakers=1)
    batches = [data.minibatch(np.array(numbers)).to(torch.device("cpu")) for numbers in ([0], [1, 2, 3])]
    values, frames = [], []
    for batch in batches:
        objective(some_logits(batch.lattices.num_rows), batch)
        values.append(objective.take_measures())
        frames.append(batch.lattices.num_rows)
    for batch in batches:
        objective(some_logits(batch.lattices.num_rows), batch)
    together = objective.take_measures()
    for name in ("smbr", "smoothing"):
        assert together[name] == pytest.approx(np.average([value[name] for value in values], weights=frames))


def test_distillation_is_the_divergence_of_the_students_paths_from_the_teachers(few: SequenceCorpus) -> None:
    teacher = teacher_scores(few)
    objective = objective_of(criterion="distillation")
    data = few.data(objective.config, held_out_speakers=1, teacher_paths=teacher_paths(few, teacher, SCALE))
    batch = a_batch(data)
    logits = some_logits(batch.lattices.num_rows)
    names = data.utterances(np.concatenate([data.train_utterances, data.cv_utterances]))
    scores = np.split(logits.detach().numpy().astype(np.float64) - PRIORS, batch.lattices.row_begins[1:-1])
    divergence = 0.0
    for name, own in zip(names, scores, strict=True):
        lattice = few.lattices.lattices.word_lattice(name).expand()
        student, wanted = (of_paths - np.logaddexp.reduce(of_paths) for of_paths in (
            path_scores(lattice, either, SCALE)[1] for either in (own, teacher[name].astype(np.float64))))
        divergence += float(np.exp(wanted) @ (wanted - student))
    assert objective(logits, batch).item() == pytest.approx(divergence / SCALE / len(logits), rel=1e-4)


def test_distillation_costs_something_but_for_the_teacher_itself(corpus: SequenceCorpus) -> None:
    teacher = teacher_scores(corpus)
    objective = objective_of(criterion="distillation")
    data = corpus.data(objective.config, teacher_paths=teacher_paths(corpus, teacher, SCALE))
    batch = a_batch(data)
    names = data.utterances(np.concatenate([data.train_utterances, data.cv_utterances]))
    own = torch.from_numpy(np.concatenate([teacher[name] for name in names]) + PRIORS)
    constant = torch.from_numpy(np.random.default_rng(1).normal(0, 5, (len(own), 1)).astype(np.float32))
    itself = (own + constant).requires_grad_()
    loss = objective(itself, batch)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert itself.grad is not None and itself.grad.abs().max() < 1e-5
    for seed in range(5):
        torch.manual_seed(seed)
        assert objective(own + torch.randn(own.shape), batch).item() > 0.01


@pytest.mark.parametrize("settings", [{"criterion": "smbr"}, {"criterion": "mpe"}, {"criterion": "mmi", "boost": 0.2}])
def test_gradients_by_logits_sum_to_zero_in_every_frame(corpus: SequenceCorpus, settings: dict[str, Any]) -> None:
    objective = objective_of(**settings)
    batch = a_batch(corpus.data(objective.config))
    logits = some_logits(batch.lattices.num_rows)
    objective(logits, batch).backward()
    assert logits.grad is not None and logits.grad.abs().max() > 1e-4
    np.testing.assert_allclose(logits.grad.sum(1).numpy(), 0, atol=1e-8)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_makes_the_loss_so(corpus: SequenceCorpus, value: float) -> None:
    objective = objective_of()
    batch = a_batch(corpus.data(objective.config))
    logits = some_logits(batch.lattices.num_rows).detach()
    logits[3, 2] = value
    assert math.isnan(objective(logits, batch).item())


SETTINGS: dict[str, Any] = {"batch_size": 60, "epochs": 3, "learning_rate": 0.01, "held_out_speakers": 2, "threads": 1,
                            "precision": "float32", "tensorboard": False, "device": "cpu", "judge_start": False}


def network(seed: int = 0, **settings: Any) -> DNN:
    torch.manual_seed(seed)
    return DNN(3 * DIM, 16, 2, NUM_PDFS, **settings)


def run(
    corpus: SequenceCorpus, folder: Path, model: nn.Module, objective: SequenceObjective | None = None, **settings: Any
) -> TrainingResult:
    objective = objective or objective_of()
    config = SequenceTrainingConfig(**{**SETTINGS, **settings})
    return train(model, corpus.data(objective.config), objective, config, folder, seed=1)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("settings", [
    {"criterion": "smbr"}, {"criterion": "mpe"}, {"criterion": "mmi"}, {"criterion": "smbr", "smoothing": 0.1}])
def test_one_thread_and_two_end_with_the_same_weights(
    corpus: SequenceCorpus, tmp_path: Path, settings: dict[str, Any]
) -> None:
    expected, found = network(batch_norm=True), network(batch_norm=True)
    one = run(corpus, tmp_path / "1", expected, objective_of(**settings), threads=1, evaluation_mode=False, shards=3)
    two = run(corpus, tmp_path / "2", found, objective_of(**settings), threads=2, evaluation_mode=False, shards=3)
    assert one.cross_validation == two.cross_validation
    for name, value in weights(expected).items():
        assert torch.equal(value, weights(found)[name]), name


@pytest.mark.parametrize("settings", [
    {"criterion": "smbr"}, {"criterion": "mpe"}, {"criterion": "mmi"}, {"criterion": "smbr", "smoothing": 0.1}])
def test_training_raises_the_criterion_on_the_training_lattices(
    corpus: SequenceCorpus, tmp_path: Path, settings: dict[str, Any]
) -> None:
    objective, model = objective_of(**settings), network()
    data = corpus.data(objective.config)
    batch = data.minibatch(data.train_utterances).to(torch.device("cpu"))

    def measured() -> float:
        with torch.no_grad():
            objective(model.eval()(batch.inputs), batch)
        return objective.take_measures()[objective.config.criterion]

    before = measured()
    run(corpus, tmp_path, model, objective, learning_rate=0.03, epochs=6)
    assert measured() > before + 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("settings", [{"criterion": "smbr", "smoothing": 0.1}, {"criterion": "mmi"}])
def test_training_on_a_gpu_goes_as_on_the_cpu(corpus: SequenceCorpus, tmp_path: Path, settings: dict[str, Any]) -> None:
    losses = [[record["cv_loss"] for record in run(corpus, tmp_path / device, network(), objective_of(**settings),
                                                   device=device).history] for device in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_distillation_brings_the_student_to_the_teachers_paths(corpus: SequenceCorpus, tmp_path: Path) -> None:
    teacher = network(5)
    objective, model = objective_of(criterion="distillation"), network()
    spliced = corpus.data()

    def scores(name: str) -> np.ndarray:
        number = np.array([corpus.store.ids.index(name)])
        with torch.no_grad():
            logits = teacher(spliced.minibatch(number).to(torch.device("cpu")).inputs)
        return (3 * logits - torch.from_numpy(PRIORS)).numpy()

    paths = teacher_paths(corpus, {name: scores(name) for name in corpus.store.ids}, SCALE)
    data = corpus.data(objective.config, teacher_paths=paths)
    config = SequenceTrainingConfig(**{**SETTINGS, "epochs": 8})
    result = train(model, data, objective, config, tmp_path, seed=1)
    losses = [record["train_loss"] for record in result.history]
    assert losses[-1] < 0.7 * losses[0]
    assert result.cross_validation.measures["distillation"] < 0


@pytest.mark.parametrize("group", ["gates", "output", "biases"])
def test_training_moves_the_chosen_parameters_alone(corpus: SequenceCorpus, tmp_path: Path, group: str) -> None:
    torch.manual_seed(0)
    model = HighwayDNN(3 * DIM, 8, 3, NUM_PDFS)
    train_only(model, [group])
    chosen = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = weights(model)
    run(corpus, tmp_path, model, learning_rate=0.1, epochs=1)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == chosen


def test_in_evaluation_mode_dropout_and_batch_norms_rest(corpus: SequenceCorpus, tmp_path: Path) -> None:
    plain, dropping = network(batch_norm=True), network(batch_norm=True, dropout=0.5)
    for folder, model in (("plain", plain), ("dropping", dropping)):
        before, buffers = weights(model), {name for name, _ in model.named_buffers()}
        assert any("running_mean" in name for name in buffers)
        run(corpus, tmp_path / folder, model, epochs=1)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]) == (name in buffers), name
    for (_, one), (_, other) in zip(plain.named_parameters(), dropping.named_parameters(), strict=True):
        assert torch.equal(one, other)


def test_outputs_that_are_not_finite_stop_training_with_the_names_of_the_utterances(
    corpus: SequenceCorpus, tmp_path: Path
) -> None:
    data, objective = corpus.data(), objective_of()
    batches = data.batches(SETTINGS["batch_size"], 1, 0)
    model = network()
    with torch.no_grad():
        model.output_layer.weight.mul_(1e38)
    with pytest.raises(WorkError) as error:
        run(corpus, tmp_path / "run", model, objective)
    place = re.search(rf"the loss became nan in epoch 1, step (\d) of {len(batches)} .*frames of (.*); lower",
                      str(error.value))
    assert place is not None and place[2] == ", ".join(data.utterances(batches[int(place[1]) - 1]))
    with pytest.raises(WorkError, match="CV loss of the network to start from is nan"):
        run(corpus, tmp_path / "judged", model, objective, judge_start=True)


class _Interrupted(SequenceObjective):
    """Ctrl-C within a step of training."""

    steps_left = 10**6

    def forward(self, logits: Tensor, minibatch: Minibatch) -> Tensor:
        if logits.requires_grad:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise KeyboardInterrupt
        return super().forward(logits, minibatch)


def test_interrupted_training_ends_with_the_same_weights(corpus: SequenceCorpus, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint_steps": 2, "momentum": 0.5, "evaluation_mode": False, "epochs": 4}
    whole, seen = network(dropout=0.2, batch_norm=True), network(dropout=0.2, batch_norm=True)
    result = run(corpus, tmp_path / "whole", whole, objective_of(smoothing=0.1), **settings)
    steps = len(corpus.data().batches(SETTINGS["batch_size"], 1, 0))
    assert steps == 4
    for after in (0, 1, steps + 3):  # before anything, before a checkpoint, between those of the second epoch
        objective = _Interrupted(criterion_of(smoothing=0.1), PRIORS, CrossEntropy())
        objective.steps_left = after
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "run", network(dropout=0.2, batch_norm=True), objective, **settings)
    resumed = run(corpus, tmp_path / "run", seen, objective_of(smoothing=0.1), **settings)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, seen.state_dict()[name]), name
    untimed = [[{key: value for key, value in record.items() if key not in ("seconds", "frames_per_second")}
                for record in run.history] for run in (result, resumed)]
    assert untimed[0] == untimed[1]
