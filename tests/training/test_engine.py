"""The training engine: it learns, logs, goes back, stops, refuses."""

import copy
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import list_files
from asr_kd.distillation.config import DistillationConfig, WeightScheduleConfig
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.teachers import LiveTeacher
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.parameter_groups import train_only
from asr_kd.training import engine
from asr_kd.training.config import TrainingConfig
from asr_kd.training.cross_validation import cross_validate
from asr_kd.training.data import Minibatch, TrainingData
from asr_kd.training.engine import TrainingResult, train
from asr_kd.training.objective import CrossEntropy
from tests.training.corpora import DIM, PDFS, write_corpus

SETTINGS: dict[str, Any] = {"batch_size": 64, "precision": "float32", "threads": 1, "learning_rate": 0.01,
                            "tensorboard": False, "held_out_speakers": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    store, pdf_ids = write_corpus(tmp_path_factory.mktemp("corpus") / "store")
    return TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=2)


def network(seed: int = 0, **settings: Any) -> DNN:
    torch.manual_seed(seed)
    return DNN(3 * DIM, 32, 2, PDFS, **settings)


def run(data: TrainingData, folder: Path, model: nn.Module | None = None, seed: int = 1,
        **settings: Any) -> tuple[nn.Module, TrainingResult]:
    model = model or network()
    return model, train(model, data, CrossEntropy(), TrainingConfig(**{**SETTINGS, **settings}), folder, seed=seed)


@pytest.mark.parametrize("settings", [
    {"schedule": "one_cycle", "epochs": 6}, {"epochs": 10}, {"optimiser": "sgd", "learning_rate": 0.1, "epochs": 10},
    {"weight_decay": 0.01, "gradient_clip": 1.0, "epochs": 8}, {"precision": "bfloat16", "epochs": 8},
    {"precision": "auto", "threads": 0, "epochs": 8}])
def test_every_setting_learns_the_labels_of_held_out_speakers(data: TrainingData, tmp_path: Path,
                                                              settings: dict[str, Any]) -> None:
    _, result = run(data, tmp_path, **settings)
    assert result.cross_validation.frame_accuracy > 0.6  # chance is 1 / 6
    assert result.frames_per_second > 0 and result.minutes > 0


def test_the_model_is_left_with_the_weights_of_the_best_epoch(data: TrainingData, tmp_path: Path) -> None:
    model, result = run(data, tmp_path, epochs=6, schedule="one_cycle", learning_rate=0.3)
    losses = [record["cv_loss"] for record in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1
    assert not model.training
    assert cross_validate(model, data, CrossEntropy()) == result.cross_validation
    assert result.cross_validation.loss == min(losses)


def test_cross_validation_equals_a_plain_loop_over_the_held_out_frames(data: TrainingData) -> None:
    model = network(batch_norm=True, dropout=0.5)
    minibatch = data.minibatch(data.cv_frames)
    with torch.no_grad():
        log_probs = model.eval()(minibatch.inputs.float()).log_softmax(-1)
    found = cross_validate(model.train(), data, CrossEntropy())
    expected = -log_probs[torch.arange(len(log_probs)), minibatch.pdf_ids].mean()
    assert found.cross_entropy == pytest.approx(float(expected), rel=1e-5)
    assert found.frame_accuracy == pytest.approx(float((log_probs.argmax(-1) == minibatch.pdf_ids).float().mean()))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data: TrainingData, tmp_path: Path) -> None:
    def weights(folder: str, seed: int) -> Tensor:
        model, _ = run(data, tmp_path / folder, network(dropout=0.2, batch_norm=True), seed, epochs=2)
        return torch.cat([value.flatten().double() for value in model.state_dict().values()])

    first = weights("a", 1)
    assert torch.equal(first, weights("b", 1))
    assert not torch.equal(first, weights("c", 2))


def test_a_finished_run_returns_at_once_with_the_same_result(data: TrainingData, tmp_path: Path) -> None:
    first, result = run(data, tmp_path, epochs=2)
    again, same = run(data, tmp_path, epochs=2)
    assert same == result
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoints_of_another_run_are_refused(data: TrainingData, tmp_path: Path) -> None:
    run(data, tmp_path, epochs=2)
    for other in ({"epochs": 3}, {"epochs": 2, "seed": 2}, {"epochs": 2, "model": network(7)}):
        with pytest.raises(InputError, match="checkpoint of the run"):
            run(data, tmp_path, **other)


def test_a_checkpoint_of_a_run_that_moved_other_parameters_is_refused(data: TrainingData, tmp_path: Path) -> None:
    run(data, tmp_path, epochs=1)
    model = network()
    train_only(model, ["output"])
    with pytest.raises(InputError, match="is a checkpoint of the run"):
        run(data, tmp_path, model, epochs=1)


def test_a_damaged_checkpoint_is_refused(data: TrainingData, tmp_path: Path) -> None:
    run(data, tmp_path, epochs=1)
    (tensors,) = tmp_path.glob("checkpoint-*/state.safetensors")
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        run(data, tmp_path, epochs=1)


def test_nothing_on_disk_is_pickled_and_one_checkpoint_is_kept(data: TrainingData, tmp_path: Path) -> None:
    run(data, tmp_path, epochs=3, checkpoint_steps=2)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    assert {path.suffix for path in list_files(tmp_path)} == {".json", ".jsonl", ".safetensors"}


def test_the_log_has_a_line_an_epoch_and_tensorboard_the_same_curve(data: TrainingData, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, result = run(data, tmp_path, epochs=3, log_steps=5, tensorboard=True)
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line for line in lines if line["event"] == "epoch"] == result.history
    assert {line["step"] for line in lines if line["event"] == "progress"} == set(range(5, lines[-1]["step"] + 1, 5))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = [event.value for event in events.Scalars("epoch/cv_loss")]
    assert curve == pytest.approx([record["cv_loss"] for record in result.history])


def test_newbob_goes_back_to_the_best_weights_after_a_worse_epoch(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    # Nothing to be learnt: from some epoch on, training makes the held-out loss worse.
    noise = np.random.default_rng(1).permutation(pdf_ids)
    data = TrainingData(store, noise, left=1, right=1, held_out_speakers=2)
    _, longer = run(data, tmp_path / "longer", epochs=20, newbob_stop_below=0.0)
    losses = [record["cv_loss"] for record in longer.history]
    worse = next(i for i in range(1, len(losses)) if losses[i] > min(losses[:i]))
    _, result = run(data, tmp_path / "run", epochs=worse + 1, newbob_stop_below=0.0)
    assert result.history[-1]["cv_loss"] > result.cross_validation.loss
    tensors = load_file(next((tmp_path / "run").glob("checkpoint-*")) / "state.safetensors")
    for name, value in tensors.items():
        if name.startswith("model/"):
            assert torch.equal(value, tensors[name.replace("model/", "best/")]), name
    rates = [record["learning_rate"] for record in longer.history]
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0]


class _Diverging(CrossEntropy):
    def forward(self, logits: Tensor, minibatch: Minibatch) -> Tensor:
        return super().forward(logits, minibatch) * (torch.nan if logits.requires_grad else 1.0)


def test_a_loss_that_is_not_finite_stops_with_the_place(data: TrainingData, tmp_path: Path) -> None:
    first = data.utterances(data.batches(SETTINGS["batch_size"], 0, 0)[0])
    with pytest.raises(WorkError, match=r"nan in epoch 1, step 1 of \d+ .*learning_rate") as error:
        train(network(), data, _Diverging(), TrainingConfig(**SETTINGS), tmp_path)
    assert f"frames of {', '.join(first[:5])} and {len(first) - 5} more; lower" in str(error.value)


def test_features_that_are_not_finite_are_named_by_their_utterance(data: TrainingData, tmp_path: Path) -> None:
    row = int(data.batches(SETTINGS["batch_size"], 0, 0)[1][7])

    class Damaged:
        def __getattr__(self, name: str) -> object:
            return getattr(data, name)

        def minibatch(self, frames: np.ndarray) -> Minibatch:
            found = data.minibatch(frames)
            found.inputs[torch.from_numpy(frames == row)] = torch.nan
            return found

    with pytest.raises(WorkError, match="step 2 of") as error:
        train(network(), Damaged(), CrossEntropy(), TrainingConfig(**SETTINGS), tmp_path)  # type: ignore[arg-type]
    (damaged,) = data.utterances(np.array([row]))
    assert f"features or targets of {damaged} are not finite; make them again" in str(error.value)



def test_held_out_features_that_are_not_finite_are_named_too(data: TrainingData, tmp_path: Path) -> None:
    row = int(data.cv_frames[11])

    class Damaged:
        def __getattr__(self, name: str) -> object:
            return getattr(data, name)

        def minibatch(self, frames: np.ndarray) -> Minibatch:
            found = data.minibatch(frames)
            found.inputs[torch.from_numpy(frames == row)] = torch.inf
            return found

    (damaged,) = data.utterances(np.array([row]))
    for settings, place in (({}, "CV loss became nan in epoch 1"), ({"judge_start": True}, "to start from is nan")):
        with pytest.raises(WorkError, match=f"{place}.*: features or targets of {damaged} are not finite; make them"):
            train(network(), Damaged(), CrossEntropy(), TrainingConfig(**SETTINGS, **settings),  # type: ignore[arg-type]
                  tmp_path / str(len(settings)))


def test_a_teacher_on_the_fly_that_is_damaged_is_told_from_a_student_that_diverges(data: TrainingData,
                                                                                   tmp_path: Path) -> None:
    teacher = network(5)
    nn.init.constant_(teacher.output_layer.bias, torch.nan)
    with pytest.raises(WorkError, match="step 1 of .*features or targets of .* are not finite; make them again"):
        train(network(), data, DistillationObjective(DistillationConfig(), LiveTeacher(teacher, "t")),
              TrainingConfig(**SETTINGS), tmp_path)


def test_frames_without_pdf_id_are_no_matter_of_cross_entropy(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    pdf_ids[:40] = -1
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=["s4"], unlabelled=True)
    mixed = DistillationObjective(DistillationConfig(cross_entropy_weight=0.5), LiveTeacher(network(5), "t"))
    for objective in (CrossEntropy(), mixed):
        with pytest.raises(InputError, match="cross-entropy wants the pdf-id of every frame"):
            train(network(), data, objective, TrainingConfig(**SETTINGS), tmp_path / "work")
    alone = DistillationObjective(DistillationConfig(), LiveTeacher(network(5), "t"))
    assert train(network(), data, alone, TrainingConfig(**SETTINGS | {"epochs": 1}), tmp_path / "alone").epochs == 1


def test_more_processes_than_frames_of_a_minibatch_cannot_weigh_gradients_together(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "num_processes", lambda: 65)
    model = network()
    weighed = DistillationObjective(
        DistillationConfig(cross_entropy_weight=1.0, weight_schedule=WeightScheduleConfig(schedule="dynamic")),
        LiveTeacher(network(5), "t"), parameters=list(model.output_layer.parameters()))
    with pytest.raises(InputError, match="65 processes cannot share a minibatch of 64"):
        train(model, data, weighed, TrainingConfig(**SETTINGS), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_batch_statistics_of_one_frame_are_refused(data: TrainingData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DNN(data.input_dim, 8, 1, PDFS, batch_norm=True)
    with pytest.raises(InputError, match="batch normalisation needs at least two frames .* larger batch_size"):
        train(model, data, CrossEntropy(), TrainingConfig(batch_size=1, tensorboard=False), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_refused_in_words(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device: 1 GPUs are asked for, PyTorch finds 0; set device to cpu"):
        run(data, tmp_path, device="cuda")


def test_alignments_of_another_tree_and_inputs_of_another_width_are_refused(data: TrainingData,
                                                                            tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 pdfs, the alignments name pdf-id 5"):
        run(data, tmp_path / "a", HighwayDNN(3 * DIM, 8, 2, 2))
    with pytest.raises(InputError, match="12 spliced"):
        run(data, tmp_path / "b", HighwayDNN(5 * DIM, 8, 2, PDFS))


def test_a_summed_gradient_is_the_mean_one_times_the_frames(data: TrainingData, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimiser": "sgd", "momentum": 0.0, "schedule": "constant", "epochs": 1}
    mean, _ = run(data, tmp_path / "mean", learning_rate=0.064, **settings)
    summed, _ = run(data, tmp_path / "sum", learning_rate=0.001, gradient="sum", **settings)
    start = network()
    for one, other, before in zip(mean.parameters(), summed.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert not torch.equal(one, before)


def test_a_constant_schedule_keeps_its_rate_for_all_epochs(data: TrainingData, tmp_path: Path) -> None:
    _, result = run(data, tmp_path, epochs=9, schedule="constant", learning_rate=0.03)
    assert [record["learning_rate"] for record in result.history] == [0.03] * 9


def test_in_evaluation_mode_the_generator_draws_no_masks(data: TrainingData, tmp_path: Path) -> None:
    plain, _ = run(data, tmp_path / "plain", epochs=1)
    dropping, _ = run(data, tmp_path / "dropping", network(dropout=0.5), epochs=1, evaluation_mode=True)
    masked, _ = run(data, tmp_path / "masked", network(dropout=0.5), epochs=1)
    for one, other in zip(plain.parameters(), dropping.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(plain.parameters()), next(masked.parameters()))


def test_every_epoch_is_shown_with_its_weights(data: TrainingData, tmp_path: Path) -> None:
    shown: dict[int, float] = {}

    def show(so_far: TrainingResult, model: nn.Module) -> None:
        assert so_far.best_epoch == so_far.epochs == len(so_far.history)
        assert so_far.cross_validation == cross_validate(model, data, CrossEntropy())
        shown[so_far.epochs] = so_far.cross_validation.loss

    config = TrainingConfig(**{**SETTINGS, "epochs": 3, "schedule": "constant"})
    result = train(network(), data, CrossEntropy(), config, tmp_path, seed=1, on_epoch=show)
    assert shown == {record["epoch"]: record["cv_loss"] for record in result.history} and list(shown) == [1, 2, 3]


def test_minutes_are_those_of_the_processor(data: TrainingData, tmp_path: Path) -> None:
    """A run that had to wait for another has not cost more."""
    config = TrainingConfig(epochs=2, batch_size=64, log_steps=1000)
    cpu_began = time.process_time()
    result = train(network(), data, CrossEntropy(), config, tmp_path, on_epoch=lambda *_: time.sleep(0.5))
    assert 0 < 60 * result.minutes <= time.process_time() - cpu_began


def test_an_epoch_that_was_shown_but_not_yet_in_a_checkpoint_is_trained_and_shown_again(
    data: TrainingData, tmp_path: Path
) -> None:
    config = TrainingConfig(**{**SETTINGS, "epochs": 3, "schedule": "constant"})
    shown: list[tuple[int, Tensor]] = []

    def killed_in_the_second(so_far: TrainingResult, model: nn.Module) -> None:
        shown.append((so_far.epochs, next(model.parameters()).detach().clone()))
        if len(shown) == 2:
            raise KeyboardInterrupt

    whole = network()
    train(whole, data, CrossEntropy(), config, tmp_path / "whole", seed=1)
    with pytest.raises(KeyboardInterrupt):
        train(network(), data, CrossEntropy(), config, tmp_path / "killed", seed=1, on_epoch=killed_in_the_second)
    resumed = network()
    result = train(resumed, data, CrossEntropy(), config, tmp_path / "killed", seed=1, on_epoch=killed_in_the_second)
    assert [epoch for epoch, _ in shown] == [1, 2, 2, 3] and torch.equal(shown[1][1], shown[2][1])
    assert [record["epoch"] for record in result.history] == [1, 2, 3]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_where_no_epoch_is_better_the_start_is_kept(data: TrainingData, tmp_path: Path) -> None:
    model, _ = run(data, tmp_path / "before", epochs=6)
    start = copy.deepcopy(model)
    _, result = run(data, tmp_path / "after", model, epochs=2, schedule="constant", learning_rate=1.0, judge_start=True)
    assert result.best_epoch == 0 and [record["epoch"] for record in result.history] == [0, 1, 2]
    assert result.cross_validation == cross_validate(start, data, CrossEntropy())
    for one, other in zip(model.parameters(), start.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_last_epoch_is_kept_where_that_is_wanted(data: TrainingData, tmp_path: Path) -> None:
    worse = {"epochs": 2, "schedule": "constant", "learning_rate": 1.0, "judge_start": True}
    model, _ = run(data, tmp_path / "before", epochs=6)
    _, result = run(data, tmp_path / "after", model, keep="last", **worse)
    assert result.best_epoch == 2 and result.cross_validation.loss > result.history[0]["cv_loss"]
    assert result.cross_validation == cross_validate(model, data, CrossEntropy())
    with pytest.raises(ValueError, match="newbob"):
        TrainingConfig(schedule="newbob", keep="last")


def test_an_epoch_that_forgets_the_labels_is_the_last_and_is_not_kept(data: TrainingData, tmp_path: Path) -> None:
    model, before = run(data, tmp_path / "before", epochs=6)
    start = copy.deepcopy(model)

    class Forgetful(CrossEntropy):
        """Rises as the labels are unlearnt, as a criterion of sequences may."""

        def forward(self, logits: torch.Tensor, minibatch: Minibatch) -> torch.Tensor:
            return -super().forward(logits, minibatch)

    config = TrainingConfig(**{**SETTINGS, "epochs": 5, "schedule": "constant", "judge_start": True,
                               "collapse_below": 0.8})
    result = train(model, data, Forgetful(), config, tmp_path / "after", seed=1)
    assert result.epochs < 5 and result.best_epoch == result.epochs - 1
    last = result.history[-1]
    assert last["cv_frame_accuracy"] < 0.8 * before.cross_validation.frame_accuracy
    assert last["cv_loss"] < result.cross_validation.loss
    if result.best_epoch == 0:
        for one, other in zip(model.parameters(), start.parameters(), strict=True):
            assert torch.equal(one, other)


def test_the_callers_generator_and_threads_are_left_alone(data: TrainingData, tmp_path: Path) -> None:
    model = network()
    torch.manual_seed(9)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(data, tmp_path, model, epochs=1)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads


def test_a_refused_run_leaves_the_callers_threads_alone(data: TrainingData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(InputError, match="different trees"):
            run(data, tmp_path, DNN(3 * DIM, 8, 1, PDFS - 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_tensorboard_is_refused_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pydantic.ValidationError, match="extra `tensorboard`"):
        TrainingConfig(tensorboard=True)
