"""The result of training does not depend on the threads that train."""

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asr_kd.distillation.config import DistillationConfig
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.soft_targets import SoftTargetsKey, build_soft_targets
from asr_kd.distillation.teachers import CachedTeacher, LiveTeacher
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.training import cross_validation, engine, gradients
from asr_kd.training.batch_norm import shared_batch_norm
from asr_kd.training.config import TrainingConfig
from asr_kd.training.cross_validation import cross_validate
from asr_kd.training.data import Minibatch, TrainingData, frames_digest
from asr_kd.training.engine import train
from asr_kd.training.gradients import set_gradients, shard_gradients
from asr_kd.training.objective import CrossEntropy, Objective
from asr_kd.training.parts import add_up_parts, num_parts
from asr_kd.training.shards import Shards, choose_num_shards
from tests.training.corpora import DIM, PDFS, write_corpus

SETTINGS: dict[str, Any] = {"batch_size": 96, "precision": "float32", "learning_rate": 0.01, "epochs": 2,
                            "schedule": "one_cycle", "tensorboard": False, "held_out_speakers": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    folder = tmp_path_factory.mktemp("corpus")
    store, pdf_ids = write_corpus(folder / "store")
    key = SoftTargetsKey(teacher="t", left=1, right=1, features=frames_digest(store), hmm="h", top_k=3, hidden=True)
    targets = build_soft_targets(folder / "soft_targets", teacher(), store, key, "float32")
    return TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=2, targets=targets)


def teacher() -> DNN:
    torch.manual_seed(3)
    return DNN(3 * DIM, 20, 2, PDFS)


def dnn() -> DNN:
    torch.manual_seed(0)
    return DNN(3 * DIM, 32, 2, PDFS, batch_norm=True, dropout=0.2)


def highway(dropout: float = 0.0) -> HighwayDNN:
    torch.manual_seed(0)
    return HighwayDNN(3 * DIM, 16, 3, PDFS, dropout=dropout)


def distilled(network: HighwayDNN | DNN, data: TrainingData, live: bool = False, **settings: Any) -> Objective:
    targets = data._targets
    source = LiveTeacher(teacher(), "t") if live else CachedTeacher.of(targets)  # type: ignore[arg-type]
    return DistillationObjective(
        DistillationConfig(**settings), source, student_dim=network.hyperparameters["hidden_dim"],
        parameters=list(network.output_layer.parameters()))


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any] | None, dict[str, Any]]] = {
    "batch norm and dropout": (dnn, None, {}),
    "masks, clipping": (lambda: highway(0.1), None, {"gradient_clip": 1.0, "masking": {"feature_masks": 1,
                                                                                     "time_masks": 1}}),
    "sum of gradients": (highway, None, {"optimiser": "sgd", "gradient": "sum", "learning_rate": 0.001}),
    "three shards": (dnn, None, {"shards": 3}),
    "teacher on the fly, noise": (highway, {"live": True, "noise": {"sigma": 0.3, "schedule": "random"}}, {}),
    "cached, noise": (highway, {"noise": {"sigma": 0.3}, "cross_entropy_weight": 0.5}, {}),
    "projector": (highway, {"projector": {"weight": 0.5}}, {}),
    "correlation": (dnn, {"projector": {"weight": 0.5, "distance": "correlation"}}, {}),
    "dynamic": (highway, {"cross_entropy_weight": 0.5, "weight_schedule": {"schedule": "dynamic", "every": 3}}, {}),
}


def weights(
    folder: Path, data: TrainingData, case: str, threads: int
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    make, distillation, settings = CASES[case]
    model = make()
    objective = CrossEntropy() if distillation is None else distilled(model, data, **distillation)
    config = TrainingConfig(**{**SETTINGS, **settings, "threads": threads})
    result = train(model, data, objective, config, folder, seed=1)
    timed = {"seconds", "frames_per_second", "train_weighing_ms"}
    history = [{key: value for key, value in record.items() if key not in timed} for record in result.history]
    return {**model.state_dict(), **{f"objective/{k}": v for k, v in objective.state_dict().items()}}, history


@pytest.mark.parametrize("case", CASES)
def test_one_thread_and_two_end_with_the_same_weights(data: TrainingData, tmp_path: Path, case: str) -> None:
    expected, history = weights(tmp_path / "1", data, case, 1)
    found, again = weights(tmp_path / "2", data, case, 2)
    assert history == again
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_the_threads_may_change_at_any_step_and_a_killed_run_goes_on_with_others(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = weights(tmp_path / "whole", data, "batch norm and dropout", 1)
    steps = iter(range(1000))
    step = engine._Run._step

    def change(run: Any, *arguments: Any) -> Any:
        number = next(steps)
        if number == 13:
            raise KeyboardInterrupt
        run._shards.set_threads(1 + number % 2)
        return step(run, *arguments)

    monkeypatch.setattr(engine._Run, "_step", change)
    CASES["killed"] = (dnn, None, {"checkpoint_steps": 5})
    with pytest.raises(KeyboardInterrupt):
        weights(tmp_path / "killed", data, "killed", 2)
    found, _ = weights(tmp_path / "killed", data, "killed", 1)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_shards_train_as_the_whole_minibatch_does(data: TrainingData, tmp_path: Path) -> None:
    """Up to rounding, batch statistics included."""
    models = []
    for shards in (1, 2, 3):
        torch.manual_seed(0)
        model = DNN(3 * DIM, 32, 2, PDFS, batch_norm=True)
        config = TrainingConfig(**{**SETTINGS, "optimiser": "sgd", "shards": shards, "epochs": 1})
        train(model, data, CrossEntropy(), config, tmp_path / str(shards), seed=1)
        models.append(model)
    for other in models[1:]:
        for (name, one), another in zip(models[0].state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(another, one, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", ["batch norm and dropout", "masks, clipping", "three shards", "dynamic"])
def test_large_layers_whose_products_wait_train_alike_with_any_threads(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    _, added_up = weights(tmp_path / "added up", data, case, 2)
    monkeypatch.setattr(gradients, "_LARGE", 1)
    expected, history = weights(tmp_path / "1", data, case, 1)
    found, again = weights(tmp_path / "2", data, case, 2)
    assert history == again
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert [epoch["cv_loss"] for epoch in history] == pytest.approx([epoch["cv_loss"] for epoch in added_up], rel=1e-3)


def test_gradients_of_shards_are_those_of_the_whole_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a weight in two layers, of one used elsewhere too, of a frozen one, and through a gradient's own gradient."""
    monkeypatch.setattr(gradients, "_LARGE", 1)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4))
    layers[1].weight = layers[0].weight
    layers[2].weight.requires_grad_(False)
    moving = [parameter for parameter in layers.parameters() if parameter.requires_grad]

    def loss(model: nn.Module, inputs: Tensor) -> Tensor:
        heard = inputs.clone().requires_grad_()
        outputs = model(heard).tanh()
        (slope,) = torch.autograd.grad(outputs.sum(), heard, create_graph=True)
        return (outputs.square() + slope.square()).sum() + len(inputs) * layers[0].weight.square().sum()

    inputs = torch.randn(9, 2, 4)
    expected = torch.autograd.grad(loss(layers, inputs), moving)
    shards = Shards(layers, CrossEntropy(), 3, 2)
    with shards.running():
        assert type(layers[0]) is not nn.Linear
        found = shards.run(lambda shard: shard_gradients(loss(shards.models[shard], inputs[shard::3]), moving))
        assert all(one.products for one in found)
        set_gradients(moving, found, shards.run_plain)
    assert type(layers[0]) is nn.Linear
    for parameter, wanted in zip(moving, expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_over_shards_is_pytorchs_over_all(affine: bool) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(5, affine=affine)
    inputs, gradient = 3 + 2 * torch.randn(40, 5), torch.randn(40, 5)
    whole = copy.deepcopy(layer)
    expected_inputs = inputs.clone().requires_grad_()
    expected = whole(expected_inputs)
    expected.backward(gradient)
    shards = Shards(layer, CrossEntropy(), 2, 2)

    def work(shard: int) -> tuple[Tensor, ...]:
        own = inputs[shard::2].clone().requires_grad_()
        outputs = shards.models[shard](own)
        return outputs, *torch.autograd.grad(outputs, [own, *layer.parameters()], gradient[shard::2])

    with shards.running():
        first, second = shards.run(work)
    torch.testing.assert_close(first[0], expected[::2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second[1], expected_inputs.grad[1::2], rtol=1e-4, atol=1e-5)  # type: ignore[index]
    for parameter, one, other in zip(whole.parameters(), first[2:], second[2:], strict=True):
        torch.testing.assert_close(one + other, parameter.grad, rtol=1e-4, atol=1e-5)
    for model in shards.models:
        for buffer, wanted in zip(model.buffers(), whole.buffers(), strict=True):
            torch.testing.assert_close(buffer, wanted, rtol=1e-5, atol=1e-6)


def test_an_error_in_one_shard_ends_the_waiting_of_the_others() -> None:
    shards = Shards(nn.Linear(2, 2), CrossEntropy(), 3, 1)

    def work(shard: int) -> Tensor:
        if shard == 1:
            raise ValueError("no frames")
        return add_up_parts(torch.ones(()))

    with shards.running(), pytest.raises(ValueError, match="no frames"):
        shards.run(work)


def test_an_interruption_while_shards_are_begun_ends_the_waiting_of_those_that_were() -> None:
    shards = Shards(nn.Linear(2, 2), CrossEntropy(), 2, 2)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), shards.running():
        pool = shards._pool
        assert pool is not None
        calls = iter([pool.submit, interrupt])
        pool.submit = lambda *arguments: next(calls)(*arguments)  # type: ignore[method-assign]
        shards.run(lambda shard: add_up_parts(torch.ones(())))


def test_each_shard_has_a_thread_even_if_the_pool_believes_that_one_is_idle() -> None:
    """A pool that counts an idle thread too many starts one too few; the other shards would wait for ever."""
    shards = Shards(nn.Linear(2, 2), CrossEntropy(), 3, 1)
    with shards.running():
        assert shards._pool is not None
        shards._pool._idle_semaphore.release()  # type: ignore[attr-defined]
        watchdog = threading.Timer(10.0, shards._group.abort)
        watchdog.start()
        totals = shards.run(lambda shard: float(add_up_parts(torch.ones(()))))
        watchdog.cancel()
    assert totals == [3.0] * 3


def test_no_more_threads_than_allowed_work_at_a_time() -> None:
    working, most = set(), [0]
    lock = threading.Lock()
    shards = Shards(nn.Linear(2, 2), CrossEntropy(), 4, 2)

    def work(shard: int) -> float:
        for _ in range(20):
            with lock:
                working.add(shard)
                most[0] = max(most[0], len(working))
            torch.ones(2000).sum()
            with lock:
                working.discard(shard)
            total = add_up_parts(torch.full((), float(shard)))
        return float(total) + num_parts()

    with shards.running():
        assert shards.run(work) == [10.0] * 4
    assert 1 <= most[0] <= 2 and num_parts() == 1


class _Drawing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(inputs), 0.5, self.training)


def test_a_network_whose_threads_would_get_in_each_others_way_has_one_shard() -> None:
    inputs = torch.randn(8, 6)
    networks = _Drawing(), nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.1))
    state = torch.get_rng_state()
    assert [choose_num_shards(2, 512, network, inputs) for network in networks] == [1, 1]
    assert torch.equal(torch.get_rng_state(), state)
    layers = nn.Sequential(nn.Unflatten(1, (3, 2)), nn.Unflatten(1, (3, 1)), nn.BatchNorm2d(3))
    assert choose_num_shards(2, 512, layers, inputs) == 1
    assert choose_num_shards(0, 256, dnn(), torch.randn(8, 3 * DIM)) == 2
    assert choose_num_shards(0, 2048, dnn(), torch.randn(8, 3 * DIM)) == 4
    assert choose_num_shards(3, 256, dnn(), torch.randn(8, 3 * DIM)) == 3


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_cannot_be_copied_is_trained_as_one_shard(data: TrainingData, tmp_path: Path) -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3 * DIM, 16)), nn.Linear(16, PDFS))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    assert choose_num_shards(2, 512, model, torch.randn(8, 3 * DIM)) == 1
    result = train(model, data, CrossEntropy(), TrainingConfig(**{**SETTINGS, "epochs": 1}), tmp_path)
    assert result.epochs == 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("hook", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_weight_that_a_hook_computes_makes_one_shard_after_a_forward_pass_too(
    hook: Callable[[nn.Module], nn.Module]
) -> None:
    model, inputs = nn.Sequential(hook(nn.Linear(6, 4))), torch.randn(8, 6)
    with torch.inference_mode():
        model(inputs)
    assert choose_num_shards(2, 512, model, inputs) == 1


def test_dropout_that_rests_does_not_make_one_shard() -> None:
    model, inputs = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.1)), torch.randn(8, 6)
    assert choose_num_shards(2, 512, model, inputs, evaluation_mode=True) == 2


def test_gradients_have_the_layout_of_their_parameters() -> None:
    weight = nn.Parameter(torch.randn(3, 4))
    found = [shard_gradients(torch.einsum("bi,oi->bo", torch.randn(5, 4), weight).square().sum(), [weight])
             for _ in range(2)]
    turned = [gradients.ShardGradients([one.gradients[0].t().contiguous().t()], []) for one in found]  # type: ignore[union-attr]
    for shards in turned, turned[:1]:
        set_gradients([weight], shards, lambda works: [work() for work in works])
        assert weight.grad is not None and weight.grad.stride() == weight.stride()
        torch.testing.assert_close(weight.grad, sum(one.gradients[0] for one in shards))


def test_a_foreign_network_that_draws_trains_alike_with_any_threads(data: TrainingData, tmp_path: Path) -> None:
    def run(threads: int) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3 * DIM, 16), nn.Dropout(0.3), nn.Linear(16, PDFS))
        train(model, data, CrossEntropy(), TrainingConfig(**{**SETTINGS, "threads": threads}), tmp_path / str(threads))
        return model[0].weight

    assert torch.equal(run(1), run(2))


def test_normalising_layers_are_pytorchs_own_again_after_training(data: TrainingData, tmp_path: Path) -> None:
    model = dnn()
    with shared_batch_norm(model, 2):
        assert all(type(layer) is not nn.BatchNorm1d for layer in model.hidden_layers)
    train(model, data, CrossEntropy(), TrainingConfig(**SETTINGS), tmp_path)
    assert sum(type(layer) is nn.BatchNorm1d for layer in model.hidden_layers) == 2


class _Empty(CrossEntropy):
    def forward(self, logits: Tensor, minibatch: Minibatch, hidden: Tensor | None = None) -> Tensor:
        assert len(logits)
        return super().forward(logits, minibatch, hidden)


def test_a_minibatch_of_fewer_frames_than_shards_leaves_some_empty(data: TrainingData, tmp_path: Path) -> None:
    small = copy.copy(data)
    small.train_frames = data.train_frames[:7]
    config = TrainingConfig(**{**SETTINGS, "batch_size": 2, "shards": 3, "threads": 2})
    result = train(highway(), small, _Empty(), config, tmp_path)
    assert result.history[-1]["step"] == 6


def test_a_measure_that_a_last_frame_alone_has_not_is_the_mean_of_the_others(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "_BATCH", 10)
    student = highway()
    objective = distilled(student, data, projector={"weight": 0.5})
    tens, odd = copy.copy(data), copy.copy(data)
    tens.cv_frames, odd.cv_frames = data.cv_frames[:20], data.cv_frames[:21]
    expected = cross_validate(student, tens, objective, threads=2).measures
    measures = cross_validate(student, odd, objective, threads=2).measures
    assert measures.keys() == expected.keys()
    assert measures["representation"] == pytest.approx(expected["representation"])
