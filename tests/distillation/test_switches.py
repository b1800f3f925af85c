"""The switches of distillation: each against its equation, each off without a trace."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.distillation.config import DistillationConfig, NoiseConfig, ProjectorConfig, WeightScheduleConfig
from asr_kd.distillation.loss_weight import DynamicWeight, balanced_weight, scheduled_weight
from asr_kd.distillation.noisy_teacher import NoisyTeacher
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.projector import Projector
from asr_kd.distillation.soft_targets import sparse_posteriors
from asr_kd.distillation.teachers import CachedTeacher, LiveTeacher
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import Minibatch, TrainingData
from asr_kd.training.engine import TrainingResult, train
from tests.training.corpora import DIM, PDFS, write_corpus

HIDDEN, TEACHER_HIDDEN = 12, 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    store, pdf_ids = write_corpus(tmp_path_factory.mktemp("corpus") / "store")
    return TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=2)


def teacher(seed: int = 3) -> LiveTeacher:
    torch.manual_seed(seed)
    return LiveTeacher(DNN(3 * DIM, TEACHER_HIDDEN, 2, PDFS), "teacher")


def student(seed: int = 0) -> HighwayDNN:
    torch.manual_seed(seed)
    return HighwayDNN(3 * DIM, HIDDEN, 3, PDFS)


def objective_of(network: HighwayDNN, **config: Any) -> DistillationObjective:
    torch.manual_seed(7)
    return DistillationObjective(DistillationConfig(**config), teacher(), student_dim=HIDDEN,
                                 parameters=list(network.output_layer.parameters()))


def run(data: TrainingData, folder: Path, **config: Any) -> tuple[HighwayDNN, TrainingResult]:
    network = student()
    training = TrainingConfig(batch_size=64, precision="float32", threads=1, learning_rate=0.01, tensorboard=False,
                              held_out_speakers=2, schedule="constant", epochs=2, log_steps=1, checkpoint_steps=2)
    return network, train(network, data, objective_of(network, **config), training, folder, seed=1)


def a_minibatch(frames: int = 16) -> Minibatch:
    torch.manual_seed(5)
    return Minibatch(torch.randn(frames, 3 * DIM), torch.randint(PDFS, (frames,)))


OFF: list[dict[str, Any]] = [
    {"noise": {"sigma": 0.0, "share": 1.0}}, {"noise": {"sigma": 0.5, "share": 0.0}}, {"projector": {"weight": 0.0}},
    {"weight_schedule": {"schedule": "dynamic", "strength": 0.0}},
    {"weight_schedule": {"schedule": "linear", "last": 1.0}}, {"weight_schedule": {"schedule": "cosine", "last": 1.0}}]
ON: list[dict[str, Any]] = [
    {"noise": {"sigma": 0.3, "share": 0.5}}, {"noise": {"sigma": 0.3, "schedule": "random"}},
    {"noise": {"sigma": 0.3, "schedule": "annealed"}}, {"projector": {"weight": 0.1}},
    {"projector": {"weight": 0.1, "projector": "mlp", "distance": "correlation"}},
    {"projector": {"weight": 0.1, "normalisation": "l2"}},
    {"cross_entropy_weight": 0.5, "weight_schedule": {"schedule": "dynamic", "every": 3}},
    {"weight_schedule": {"schedule": "cosine", "last": 0.5}}, {"distance": "logits"}]


@pytest.mark.parametrize("config", OFF, ids=str)
def test_a_switch_of_strength_zero_is_plain_distillation_bit_for_bit(
    data: TrainingData, tmp_path: Path, config: dict[str, Any]
) -> None:
    plain, _ = run(data, tmp_path / "plain")
    switched, _ = run(data, tmp_path / "switched", **config)
    for one, other in zip(plain.parameters(), switched.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("config", OFF, ids=str)
def test_a_switch_of_strength_zero_is_plain_distillation_from_a_cache_too(config: dict[str, Any]) -> None:
    minibatch = a_minibatch()
    pdf_ids, log_probs, log_tail = sparse_posteriors(torch.randn(16, PDFS), 3)
    targets = {"soft_pdf_ids": pdf_ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail,
               "soft_log_norm": torch.randn(16), "soft_hidden": torch.randn(16, TEACHER_HIDDEN)}
    gradients = []
    for switches in ({}, config):
        network = student()
        objective = DistillationObjective(
            DistillationConfig(cross_entropy_weight=0.5, **switches), CachedTeacher(None, hidden_dim=TEACHER_HIDDEN),
            student_dim=HIDDEN, parameters=list(network.output_layer.parameters()))
        objective.set_progress(0.5)
        hidden = network.hidden(minibatch.inputs)
        objective(network.output_layer(hidden), replace(minibatch, targets=targets), hidden).backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("config", ON, ids=str)
def test_a_switch_changes_what_is_learnt_and_the_student_still_learns(
    data: TrainingData, tmp_path: Path, config: dict[str, Any]
) -> None:
    plain, _ = run(data, tmp_path / "plain", cross_entropy_weight=config.get("cross_entropy_weight", 0.0))
    switched, result = run(data, tmp_path / "switched", **config)
    pairs = zip(plain.parameters(), switched.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)
    learnt = "task" if "cross_entropy_weight" in config else "distillation"
    assert result.history[-1][f"train_{learnt}"] < result.history[0][f"train_{learnt}"]


@pytest.mark.parametrize("config", [ON[0], ON[3], ON[6]], ids=str)
def test_an_interrupted_training_ends_with_the_same_weights(
    data: TrainingData, tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(data, tmp_path / "whole", **config)
    steps = 0
    plain_forward = DistillationObjective.forward

    def killed(self: DistillationObjective, *arguments: Any) -> Tensor:
        nonlocal steps
        steps += self.training
        if steps == len(data.batches(64, 1, 0)) + 3:
            raise KeyboardInterrupt
        return plain_forward(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DistillationObjective, "forward", killed)
        run(data, tmp_path / "killed", **config)
    resumed, _ = run(data, tmp_path / "killed", **config)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_noise_multiplies_logits_of_a_share_of_the_frames_and_is_drawn_anew() -> None:
    torch.manual_seed(0)
    noise, logits = NoisyTeacher(NoiseConfig(sigma=0.4, share=0.3)), torch.full((4000, 50), 2.0)
    first, second = noise.perturb(logits, 0.0), noise.perturb(logits, 0.0)
    changed = (first != logits).any(-1)
    assert torch.equal(changed, (first != logits).all(-1))
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.03)
    factors = first[changed] / 2
    assert factors.mean().item() == pytest.approx(1, abs=0.01) and factors.std().item() == pytest.approx(0.4, abs=0.01)
    assert not torch.equal(first, second)


def test_noise_on_a_whole_cache_is_noise_on_the_logits() -> None:
    noise, logits = NoisyTeacher(NoiseConfig(sigma=0.4, share=0.5)), torch.randn(40, 9)
    pdf_ids, log_probs, log_tail = sparse_posteriors(logits, 9)
    torch.manual_seed(1)
    dense = torch.log_softmax(noise.perturb(logits.gather(1, pdf_ids), 0.0), -1)
    torch.manual_seed(1)
    found, tail = noise.perturb_best(log_probs, log_tail, logits.logsumexp(-1), 0.0)
    torch.testing.assert_close(found, dense)
    assert torch.isinf(tail).all()


def test_noise_leaves_the_other_pdfs_their_mass_before_normalisation() -> None:
    torch.manual_seed(1)
    noise, logits = NoisyTeacher(NoiseConfig(sigma=0.4, share=1.0)), torch.randn(40, 9)
    pdf_ids, log_probs, log_tail = sparse_posteriors(logits, 4)
    torch.manual_seed(2)
    best = noise.perturb(logits.gather(1, pdf_ids), 0.0)
    torch.manual_seed(2)
    found, tail = noise.perturb_best(log_probs, log_tail, logits.logsumexp(-1), 0.0)
    torch.testing.assert_close(found.exp().sum(-1) + tail.exp(), torch.ones(40))
    others = logits.scatter(1, pdf_ids, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(found - tail[:, None], best - others[:, None])


def test_sigma_may_be_drawn_or_fall() -> None:
    drawn, falling = (NoisyTeacher(NoiseConfig(sigma=0.5, schedule=schedule)) for schedule in ("random", "annealed"))
    torch.manual_seed(0)
    seen = []
    for _ in range(200):
        drawn.perturb(torch.ones(1, 1), 0.3)
        seen.append(drawn.sigma)
    assert 0.01 <= min(seen) < 0.05 and 0.45 < max(seen) <= 0.5
    falling.perturb(torch.ones(1, 1), 0.25)
    assert falling.sigma == pytest.approx(0.375)


def test_cross_validation_hears_no_noise() -> None:
    network, minibatch = student(), a_minibatch()
    noisy, plain = objective_of(network, noise={"sigma": 0.5, "share": 1.0}), objective_of(network)
    logits = network(minibatch.inputs)
    assert torch.equal(noisy.eval()(logits, minibatch), plain.eval()(logits, minibatch))
    assert not torch.equal(noisy.train()(logits, minibatch), plain.train()(logits, minibatch))


def normalised(values: np.ndarray, eps: float) -> np.ndarray:
    return (values - values.mean(0)) / np.sqrt(values.var(0) + eps)


@pytest.mark.parametrize("exponent", [1.0, 4.0])
def test_the_projectors_distances_are_those_of_the_equations(exponent: float) -> None:
    torch.manual_seed(0)
    hidden, followed = torch.randn(30, 5, requires_grad=True), torch.randn(30, 7)
    difference = Projector(ProjectorConfig(exponent=exponent), 5, 7)
    projected = difference.layers(hidden).detach().numpy()
    delta = normalised(projected, 1e-4) - normalised(followed.numpy(), 1e-4)
    expected = math.log((np.abs(delta) ** exponent).sum())
    assert difference(hidden, followed).item() == pytest.approx(expected, rel=1e-5)
    correlation = Projector(ProjectorConfig(exponent=exponent, distance="correlation"), 5, 7)
    projected = correlation.layers(hidden).detach().numpy()
    delta = (normalised(projected, 0) * normalised(followed.numpy(), 0)).mean(0) - 1
    assert correlation(hidden, followed).item() == pytest.approx(math.log((np.abs(delta) ** exponent).sum()), rel=1e-4)


@pytest.mark.parametrize("normalisation", ["l2", "none"])
def test_other_projectors_and_norms_are_those_of_the_equation(normalisation: str) -> None:
    torch.manual_seed(0)
    hidden, followed = torch.randn(30, 5), torch.randn(30, 7)
    config = ProjectorConfig.model_validate({"projector": "mlp", "normalisation": normalisation, "exponent": 3.0})
    projector = Projector(config, 5, 7)
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in projector.layers if isinstance(layer, nn.Linear))
    projected = torch.relu(hidden @ w1.T + b1) @ w2.T + b2
    sides = [projected, followed]
    if normalisation == "l2":
        sides = [side / side.square().sum(-1, keepdim=True).sqrt() for side in sides]
    expected = ((sides[0] - sides[1]).abs() ** 3).sum().log()
    torch.testing.assert_close(projector(hidden, followed), expected, rtol=1e-4, atol=1e-4)
    assert len(projector.singular_values()) == 7


def test_the_projector_can_follow_the_teacher_all_the_way_and_gradients_reach_the_student() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(64, 6, requires_grad=True)
    followed = hidden.detach() @ torch.randn(6, 4) + 1.0
    projector = Projector(ProjectorConfig(exponent=2.0), 6, 4)
    optimiser = torch.optim.Adam(projector.parameters(), 0.05)
    first = projector(hidden, followed)
    (gradient,) = torch.autograd.grad(first, hidden)
    assert gradient.abs().max() > 0
    for _ in range(300):
        optimiser.zero_grad()
        loss = projector(hidden, followed)
        loss.backward()
        optimiser.step()
    assert loss.item() < first.item() - 4
    values = projector.singular_values()
    assert len(values) == 4 and torch.equal(values, values.sort(descending=True).values)


def test_without_a_projector_layers_must_be_equally_wide() -> None:
    assert not list(Projector(ProjectorConfig(projector="none"), 5, 5).parameters())
    with pytest.raises(ValueError, match="5 and 7"):
        Projector(ProjectorConfig(projector="none"), 5, 7)
    with pytest.raises(ValueError, match="needs the last hidden layers"):
        DistillationObjective(DistillationConfig(projector=ProjectorConfig(weight=1.0)), teacher())


def test_scheduled_weights_go_from_first_to_last() -> None:
    assert [scheduled_weight(WeightScheduleConfig(), 1.0, progress) for progress in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]
    for schedule in ("linear", "cosine"):
        config = WeightScheduleConfig(schedule=schedule, last=0.2)
        assert scheduled_weight(config, 1.0, 0.0) == pytest.approx(1.0)
        assert scheduled_weight(config, 1.0, 0.5) == pytest.approx(0.6)
        assert scheduled_weight(config, 1.0, 1.0) == pytest.approx(0.2)


def first_order_changes(task: np.ndarray, distillation: np.ndarray, weight: float) -> tuple[float, float]:
    step = task + weight * distillation
    return -float(task @ step), -float(distillation @ step)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.999, 0.999), st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_rules_weight_lets_the_task_fall_and_distillation_not_rise(
    seed: int, cosine: float, task_norm: float, kd_norm: float
) -> None:
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 2)))
    task = task_norm * basis[:, 0]
    distillation = kd_norm * (cosine * basis[:, 0] + math.sqrt(1 - cosine ** 2) * basis[:, 1])
    weight = balanced_weight(task_norm, kd_norm, cosine, 0.0, math.inf)
    changes = first_order_changes(task, distillation, weight)
    assert changes[0] < 0 and changes[1] <= 1e-9 * kd_norm * task_norm
    orthogonal = balanced_weight(task_norm, kd_norm, 0.0, 0.0, math.inf)
    assert orthogonal == pytest.approx(task_norm / kd_norm)
    assert (weight > orthogonal) == (cosine > 0) or cosine == 0 or weight == pytest.approx(orthogonal, rel=1e-9)
    assert balanced_weight(task_norm, kd_norm, cosine, 0.5, 0.7) in (0.5, 0.7) or 0.5 < weight < 0.7


def test_norms_and_angle_are_those_of_the_gradients_and_looked_at_every_so_often() -> None:
    network, minibatch = student(), a_minibatch()
    config = WeightScheduleConfig(schedule="dynamic", every=2, smoothing=0.0, lowest=0.0, highest=1e6)
    parameters = list(network.output_layer.parameters())
    dynamic = DynamicWeight(config, 1.0, parameters)
    logits = network(minibatch.inputs)
    task = nn.functional.cross_entropy(logits, minibatch.pdf_ids)
    divergence = (logits ** 2).mean()
    weight = dynamic(task, divergence)
    gradients = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)])
                 for loss in (task, divergence)]
    norms = [g.norm().item() for g in gradients]
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0).item()
    *seen, milliseconds = dynamic.measures().values()
    assert seen == pytest.approx([*norms, cosine], rel=1e-4) and milliseconds > 0
    assert weight == pytest.approx(balanced_weight(*norms, cosine, 0.0, 1e6), rel=1e-4)
    assert dynamic(task, 100 * divergence) == weight  # not looked at
    assert dynamic(task, 100 * divergence) == pytest.approx(weight / 100, rel=1e-4)


def test_a_dynamic_weight_is_smoothed_over_its_looks_and_mixed_with_the_first() -> None:
    parameters = [nn.Parameter(torch.tensor([1.0, 2.0]))]
    config = WeightScheduleConfig(schedule="dynamic", every=1, smoothing=0.75, strength=0.4, lowest=0.0, highest=1e6)
    dynamic = DynamicWeight(config, 3.0, parameters)
    moments = None
    for scale in (1.0, 5.0, 0.5):
        weights = torch.tensor([scale, 0.3])
        task, divergence = (weights * parameters[0]).sum(), (parameters[0] ** 2).sum()
        found = dynamic(task, divergence)
        kd_gradient = 2 * parameters[0].detach()
        seen = np.array([weights.norm(), kd_gradient.norm(), torch.cosine_similarity(weights, kd_gradient, dim=0)])
        moments = seen if moments is None else 0.75 * moments + 0.25 * seen
        rule = balanced_weight(*moments.tolist(), 0.0, 1e6)
        assert found == pytest.approx(3.0 + 0.4 * (rule - 3.0), rel=1e-5)


@pytest.mark.parametrize(("scale", "bound"), [(100.0, 2.0), (0.01, 0.5)])
def test_a_dynamic_weight_is_drawn_to_the_bound_where_the_rule_is_beyond_it(scale: float, bound: float) -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    config = WeightScheduleConfig(schedule="dynamic", strength=0.5, lowest=0.5, highest=2.0)
    found = DynamicWeight(config, 1.0, [parameter])(scale * parameter.sum(), parameter.square().sum())
    assert found == pytest.approx((1.0 + bound) / 2)


def test_a_dynamic_weight_that_sets_out_outside_its_bounds_is_refused() -> None:
    for first in (0.05, 20.0):
        with pytest.raises(ValueError, match="is outside its bounds, 0.1 to 10"):
            DynamicWeight(WeightScheduleConfig(schedule="dynamic"), first, [nn.Parameter(torch.ones(2))])


def test_parameters_that_have_no_part_in_the_losses_weigh_nothing() -> None:
    used, idle = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(3))
    config = WeightScheduleConfig(schedule="dynamic")
    with_idle, without = (DynamicWeight(config, 1.0, parameters)(used.sum(), used.square().sum())
                          for parameters in ([used, idle], [used]))
    assert with_idle == without


def test_where_a_dynamic_weight_is_free_the_weight_of_cross_entropy_scales_the_whole_loss() -> None:
    """λ goes with the task's gradient, so q is of no account to an optimiser that does not see a loss's scale."""
    losses = []
    for weight in (0.5, 2.0):
        network, minibatch = student(), a_minibatch()
        objective = objective_of(network, cross_entropy_weight=weight, weight_schedule={
            "schedule": "dynamic", "every": 1, "lowest": 0.0, "highest": 1e6})
        losses.append(objective(network(minibatch.inputs), minibatch).item())
    assert losses[1] == pytest.approx(4 * losses[0], rel=1e-5)


BOTH = {"cross_entropy_weight": 1.0, "distillation_weight": 1.0}
TASK_ALONE = {"cross_entropy_weight": 1.0, "distillation_weight": 0.0}


@pytest.mark.parametrize(("config", "message"), [
    ({"noise": {"sigma": -0.1}}, "noise.sigma"), ({"noise": {"sigma": 1e30}}, "noise.sigma"),
    ({"noise": {"share": 1.5}}, "noise.share"), ({"projector": {"exponent": 0.5}}, "projector.exponent"),
    ({"projector": {"exponent": 40.0}}, "projector.exponent"), ({"projector": {"weight": -1.0}}, "projector.weight"),
    ({"temperature": 0.0}, "temperature"), ({"temperature": 1e3}, "temperature"),
    ({"distillation_weight": -1.0}, "distillation_weight"), ({"distillation_weight": 1e39}, "distillation_weight"),
    ({"cross_entropy_weight": math.inf}, "cross_entropy_weight"),
    ({"cross_entropy_weight": -0.5}, "cross_entropy_weight"),
    ({"projector": {"distance": "correlation", "normalisation": "l2"}}, "set normalisation to batch_norm"),
    ({"distance": "logits", "temperature": 2.0}, "the distance of logits has no temperature"),
    ({"weight_schedule": {"schedule": "dynamic"}}, "a dynamic weight weighs two losses"),
    ({**BOTH, "weight_schedule": {"schedule": "dynamic", "lowest": 2.0, "highest": 1.0}}, "lowest is above highest"),
    ({**BOTH, "distillation_weight": 20.0, "weight_schedule": {"schedule": "dynamic", "strength": 0.1}},
     "is outside its bounds, 0.1 to 10"),
    ({"weight_schedule": {"lowest": 0.2}}, "lowest is nothing to the schedule fixed"),
    ({"weight_schedule": {"schedule": "linear"}}, "there is nothing to learn in the end"),
    ({"cross_entropy_weight": 0.0, "distillation_weight": 0.0}, "both 0: there is nothing to learn"),
    ({"weight_schedule": {"last": 0.5}}, "last is nothing to the schedule fixed"),
    ({"weight_schedule": {"schedule": "cosine", "last": 0.5, "every": 3}}, "every is nothing to the schedule cosine"),
    ({**BOTH, "weight_schedule": {"schedule": "dynamic", "last": 0.5}}, "last is nothing to the schedule dynamic"),
    ({**TASK_ALONE, "noise": {"sigma": 0.1}}, "nothing without distillation"),
    ({**TASK_ALONE, "distance": "logits"}, "nothing without distillation"),
    ({"noise": {"sigma": 0.005, "schedule": "random"}}, "sigma is drawn from 0.01 on")], ids=str)
def test_settings_out_of_range_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationConfig(**config)


@pytest.mark.parametrize("config", [
    {"weight_schedule": {"schedule": "linear", "last": 0.2}}, {"weight_schedule": {"schedule": "cosine", "last": 0.2}},
    {"cross_entropy_weight": 0.5, "weight_schedule": {"schedule": "dynamic"}},
    {"projector": {"weight": 0.1}}, {"noise": {"sigma": 0.5}}], ids=str)
def test_epochs_are_judged_by_a_loss_that_the_switches_do_not_move(config: dict[str, Any]) -> None:
    network, minibatch = student(), a_minibatch()
    switched = objective_of(network, **config)
    plain = objective_of(network, cross_entropy_weight=config.get("cross_entropy_weight", 0.0))
    hidden = network.hidden(minibatch.inputs)
    logits = network.output_layer(hidden)
    switched.set_progress(0.9)
    if switched.dynamic is not None:
        switched(logits, minibatch, hidden)
        assert switched.dynamic.current != 1
    assert torch.equal(switched.eval()(logits, minibatch, hidden), plain.eval()(logits, minibatch))


def test_a_weight_that_rises_from_nothing_distils() -> None:
    network, minibatch = student(), a_minibatch()
    rising = objective_of(network, cross_entropy_weight=1.0, distillation_weight=0.0,
                          weight_schedule={"schedule": "linear", "last": 1.0})
    both = objective_of(network, cross_entropy_weight=1.0)
    rising.set_progress(1.0)
    logits = network(minibatch.inputs)
    assert torch.equal(rising(logits, minibatch), both(logits, minibatch))


def test_a_projector_leaves_a_single_frame_alone() -> None:
    network, minibatch = student(), a_minibatch(1)
    objective = objective_of(network, projector={"weight": 0.1})
    hidden = network.hidden(minibatch.inputs)
    assert torch.isfinite(objective(network.output_layer(hidden), minibatch, hidden))


def test_a_projector_without_the_students_hidden_layer_says_what_it_wants() -> None:
    network, minibatch = student(), a_minibatch()
    with pytest.raises(InputError, match="give the objective hidden"):
        objective_of(network, projector={"weight": 0.1})(network(minibatch.inputs), minibatch)


def test_the_limit_of_the_gradient_is_the_projectors_too(data: TrainingData, tmp_path: Path) -> None:
    network = student()
    objective = objective_of(network, projector={"weight": 1.0, "normalisation": "none"})
    assert objective.projector is not None
    before = [parameter.clone() for parameter in objective.projector.parameters()]
    training = TrainingConfig(batch_size=64, precision="float32", threads=1, optimiser="sgd", momentum=0.0,
                              learning_rate=1.0, gradient_clip=1e-6, tensorboard=False, held_out_speakers=2,
                              schedule="constant", epochs=1)
    result = train(network, data, objective, training, tmp_path)
    steps = result.history[0]["step"]
    moved = torch.cat([(a - b).flatten() for a, b in zip(objective.projector.parameters(), before, strict=True)])
    assert 0 < moved.detach().norm().item() <= 1.01e-6 * steps


def test_a_dynamic_weight_wants_parameters_that_are_trained() -> None:
    network = student()
    network.output_layer.requires_grad_(False)
    with pytest.raises(ValueError, match="not trained"):
        objective_of(network, cross_entropy_weight=1.0, weight_schedule={"schedule": "dynamic"})
