"""The distillation losses: equations, gradients, the sparse one against the dense one."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.distillation.config import DistillationConfig, ProjectorConfig
from asr_kd.distillation.divergence import DistillationLoss, SparseDistillationLoss, logit_distance
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.projector import Projector
from asr_kd.distillation.soft_targets import sparse_posteriors
from asr_kd.distillation.teachers import CachedTeacher, LiveTeacher
from asr_kd.models.highway import HighwayDNN
from asr_kd.training.data import Minibatch


def divergence(teacher: Tensor, student_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * sum_j p_j (log p_j - log q_j), a frame at a time."""
    student = torch.softmax(student_logits / temperature, -1)
    terms = torch.where(teacher > 0, teacher * (teacher.clamp_min(1e-300).log() - student.log()), 0.0)
    return temperature ** 2 * terms.sum(-1).mean()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_dense_loss_is_the_divergence_and_its_gradient_t_times_the_difference(temperature: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, 7, requires_grad=True)
    teacher_logits = torch.randn(9, 7, requires_grad=True)
    teacher = torch.softmax(teacher_logits.detach().double() / temperature, -1)
    loss = DistillationLoss(temperature)(logits, teacher_logits)
    torch.testing.assert_close(loss.double(), divergence(teacher, logits.double(), temperature), rtol=1e-5, atol=1e-6)
    loss.backward()
    expected = temperature * (torch.softmax(logits.detach() / temperature, -1) - teacher) / 9
    torch.testing.assert_close(logits.grad, expected.float(), rtol=1e-4, atol=1e-6)
    assert teacher_logits.grad is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), pdfs=st.integers(2, 12), data=st.data(),
       temperature=st.sampled_from([0.5, 1.0, 3.0]), scale=st.sampled_from([0.1, 1.0, 5.0]))
def test_sparse_loss_equals_the_dense_loss_on_the_reconstructed_distribution(
        seed: int, pdfs: int, data: st.DataObject, temperature: float, scale: float) -> None:
    top_k = data.draw(st.integers(1, pdfs))
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(5, pdfs, generator=generator)).requires_grad_()
    teacher_logits = scale * torch.randn(5, pdfs, generator=generator)
    pdf_ids, log_probs, log_tail = sparse_posteriors(teacher_logits / temperature, top_k)
    loss = SparseDistillationLoss(temperature)(logits, pdf_ids, log_probs, log_tail)
    (gradient,) = torch.autograd.grad(loss, logits)

    dense_logits = logits.detach().double().requires_grad_()
    student = torch.softmax(dense_logits.detach() / temperature, -1)
    tail = student.scatter(1, pdf_ids, 0.0)
    tail_sum = tail.sum(-1, keepdim=True)
    spread = torch.where(tail_sum > 0, tail / tail_sum.clamp_min(1e-300), 0.0) * log_tail.double().exp()[:, None]
    reconstructed = spread.scatter(1, pdf_ids, log_probs.double().exp())
    dense = divergence(reconstructed, dense_logits, temperature)
    (dense_gradient,) = torch.autograd.grad(dense, dense_logits)
    torch.testing.assert_close(loss.double(), dense, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(gradient.double(), dense_gradient, rtol=1e-3, atol=2e-6 * temperature)


def test_sparse_loss_with_all_pdfs_is_the_dense_loss() -> None:
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(20, 30), 3 * torch.randn(20, 30)
    sparse = SparseDistillationLoss(2.0)(logits, *sparse_posteriors(teacher_logits / 2, 30))
    torch.testing.assert_close(sparse, DistillationLoss(2.0)(logits, teacher_logits))


def test_sparse_loss_misses_the_divergence_within_the_tail_and_no_more() -> None:
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(20, 30), 3 * torch.randn(20, 30)
    pdf_ids, log_probs, log_tail = sparse_posteriors(teacher_logits, 4)
    teacher, student = torch.softmax(teacher_logits, -1), torch.softmax(logits, -1)
    teacher_tail = teacher.scatter(1, pdf_ids, 0.0) / log_tail.exp()[:, None]
    student_tail = student.scatter(1, pdf_ids, 0.0)
    student_tail = student_tail / student_tail.sum(-1, keepdim=True)
    within = torch.where(teacher_tail > 0, teacher_tail * (teacher_tail / student_tail).log(), 0.0).sum(-1)
    missing = (log_tail.exp() * within).mean()
    sparse = SparseDistillationLoss()(logits, pdf_ids, log_probs, log_tail)
    torch.testing.assert_close(sparse + missing, DistillationLoss()(logits, teacher_logits))


@pytest.mark.parametrize("sure_of", [0, 3])
def test_a_student_too_sure_of_itself_for_float32_learns_of_the_tail_too(sure_of: int) -> None:
    teacher_logits = torch.tensor([[2.0, 0.5, 0.0, -0.5, -1.0], [1.0, 2.0, 0.0, 0.0, 0.0]])
    logits = torch.zeros(2, 5)
    logits[0, sure_of] = 200.0
    logits[:, 4] = 1.0
    logits.requires_grad_()
    loss = SparseDistillationLoss()(logits, *sparse_posteriors(teacher_logits, 2))
    (gradient,) = torch.autograd.grad(loss, logits)
    student = torch.softmax(logits.detach().double(), -1)
    pdf_ids, log_probs, log_tail = sparse_posteriors(teacher_logits, 2)
    others = logits.detach().double().scatter(1, pdf_ids, -torch.inf).softmax(-1)
    spread = (others * log_tail.double().exp()[:, None]).scatter(1, pdf_ids, log_probs.double().exp())
    torch.testing.assert_close(gradient.double(), (student - spread) / 2, rtol=1e-5, atol=1e-7)
    expected = (spread * (spread.log() - torch.log_softmax(logits.detach().double(), -1))).sum(-1).mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_losses_are_zero_at_the_teacher_and_take_bfloat16_logits() -> None:
    logits = torch.randn(6, 9).bfloat16().requires_grad_()
    targets = sparse_posteriors(logits.detach(), 3)
    loss = SparseDistillationLoss()(logits, *targets)
    loss.backward()
    assert loss.dtype == torch.float32 and abs(loss.item()) < 1e-5
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16 and logits.grad.abs().max() < 1e-3


class _Table(nn.Module):
    """A teacher that adds a learnt offset."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor([3.0, 0.0, -1.0, 0.5]))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.offset


@pytest.mark.parametrize("settings_", [{}, {"cross_entropy_weight": 0.5}, {"temperature": 2.0},
                                       {"cross_entropy_weight": 0.2, "distillation_weight": 0.7},
                                       {"cross_entropy_weight": 1.0, "distillation_weight": 0.0}])
def test_objectives_weigh_cross_entropy_and_divergence(settings_: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = DistillationConfig(**settings_)
    inputs, logits, pdf_ids = torch.randn(8, 4), torch.randn(8, 4), torch.randint(4, (8,))
    teacher = _Table()
    temperature = config.temperature
    teacher_posteriors = torch.softmax(teacher(inputs).detach() / temperature, -1)
    student = torch.log_softmax(logits, -1)
    expected = (config.cross_entropy_weight * -student[torch.arange(8), pdf_ids].mean()
                + config.distillation_weight * divergence(teacher_posteriors, logits, temperature))
    on_the_fly = DistillationObjective(config, LiveTeacher(teacher, "digest"))
    torch.testing.assert_close(on_the_fly(logits, Minibatch(inputs, pdf_ids)), expected)
    assert not teacher.offset.requires_grad
    ids, log_probs, log_tail = sparse_posteriors(teacher(inputs) / temperature, 4)
    targets = {"soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail}
    cached = DistillationObjective(config, CachedTeacher("digest"))
    torch.testing.assert_close(cached(logits, Minibatch(inputs, pdf_ids, targets)), expected)
    assert cached.describe() != on_the_fly.describe()


def test_the_distance_of_logits_is_half_the_squared_difference_also_from_a_whole_cache() -> None:
    torch.manual_seed(0)
    inputs, pdf_ids = torch.randn(8, 4), torch.randint(4, (8,))
    logits, teacher_logits = torch.randn(8, 4, requires_grad=True), _Table()(inputs).detach()
    expected = sum(0.5 * ((logits[t] - teacher_logits[t]) ** 2).sum() for t in range(8)) / 8
    torch.testing.assert_close(logit_distance(logits, teacher_logits), expected)
    ids, log_probs, log_tail = sparse_posteriors(teacher_logits, 4)
    targets = {"soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail,
               "soft_log_norm": teacher_logits.logsumexp(-1)}
    config = DistillationConfig(distance="logits")
    for teacher, minibatch in ((LiveTeacher(_Table(), "digest"), Minibatch(inputs, pdf_ids)),
                               (CachedTeacher("digest"), Minibatch(inputs, pdf_ids, targets))):
        loss = DistillationObjective(config, teacher)(logits, minibatch)
        torch.testing.assert_close(loss, expected)
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(gradient, (logits.detach() - teacher_logits) / 8)


@pytest.mark.parametrize("distance", ["kl", "logits"])
def test_noise_is_drawn_anew_each_time_that_the_same_frames_come_from_a_cache(distance: str) -> None:
    torch.manual_seed(0)
    teacher_logits, logits = torch.randn(8, 4), torch.randn(8, 4)
    ids, log_probs, log_tail = sparse_posteriors(teacher_logits, 4)
    targets = {"soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail,
               "soft_log_norm": teacher_logits.logsumexp(-1)}
    minibatch = Minibatch(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), targets)
    config = DistillationConfig.model_validate({"distance": distance, "noise": {"sigma": 0.4, "share": 1.0}})
    noisy = DistillationObjective(config, CachedTeacher("digest"))
    assert len({noisy(logits, minibatch).item() for _ in range(5)}) == 5
    noisy.eval()
    assert len({noisy(logits, minibatch).item() for _ in range(5)}) == 1


def test_a_teacher_on_the_fly_with_other_pdfs_is_refused() -> None:
    for pdfs in (1, 3, 5):
        objective = DistillationObjective(DistillationConfig(), LiveTeacher(nn.Linear(4, pdfs), "digest"))
        with pytest.raises(InputError, match=f"teacher has {pdfs} pdfs, its student 4"):
            objective(torch.randn(8, 4), Minibatch(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)))


@pytest.mark.parametrize("others", [1, 5, 9])
@pytest.mark.parametrize(("part", "config"), [
    ("pdf_ids", {"cross_entropy_weight": 1.0}), ("targets", {}), ("targets", {"distance": "logits"}),
    ("inputs", {}), ("inputs", {"distance": "logits"}), ("inputs", {"projector": {"weight": 1.0}}),
    ("hidden", {"projector": {"weight": 1.0}})], ids=str)
def test_frames_that_do_not_match_are_refused(part: str, config: dict[str, Any], others: int) -> None:
    frames = dict.fromkeys(("pdf_ids", "targets", "inputs", "hidden"), 8) | {part: others}
    ids, log_probs, log_tail = sparse_posteriors(torch.randn(frames["targets"], 4), 4)
    minibatch = Minibatch(torch.randn(frames["inputs"], 4), torch.zeros(frames["pdf_ids"], dtype=torch.int64), {
        "soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail,
        "soft_log_norm": torch.zeros(frames["targets"])})
    live = LiveTeacher(HighwayDNN(4, 6, 2, 4), "digest")
    objective = DistillationObjective(DistillationConfig.model_validate(config),
                                      CachedTeacher("digest") if part == "targets" else live, student_dim=6)
    with pytest.raises(InputError, match=f"8 frames of the network's logits, {others} of"):
        objective(torch.randn(8, 4), minibatch, torch.randn(frames["hidden"], 6))


@pytest.mark.parametrize(("name", "shape", "config"), [
    ("soft_log_probs", (1, 4), {}), ("soft_log_probs", (8, 1), {}), ("soft_pdf_ids", (8, 1), {}),
    ("soft_log_tail", (8, 1), {}), ("soft_log_norm", (1,), {"noise": {"sigma": 0.5}}),
    ("soft_log_probs", (8, 1), {"distance": "logits"}), ("soft_log_norm", (1,), {"distance": "logits"})], ids=str)
def test_soft_targets_that_would_be_broadcast_are_refused(
    name: str, shape: tuple[int, ...], config: dict[str, Any]
) -> None:
    ids, log_probs, log_tail = sparse_posteriors(torch.randn(8, 4), 4)
    targets = {"soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail,
               "soft_log_norm": torch.zeros(8)}
    targets[name] = torch.zeros(shape, dtype=targets[name].dtype)
    objective = DistillationObjective(DistillationConfig.model_validate(config), CachedTeacher("digest"))
    with pytest.raises(InputError, match=r"the teacher's|its other pdfs"):
        objective(torch.randn(8, 4), Minibatch(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), targets))


@pytest.mark.parametrize("shape", [(1, 4), (8, 1), (8, 5)])
def test_logits_that_would_be_broadcast_are_refused(shape: tuple[int, int]) -> None:
    for distance in (DistillationLoss(), logit_distance):
        with pytest.raises(InputError, match="the teacher's logits"):
            distance(torch.randn(8, 4), torch.randn(shape))


@pytest.mark.parametrize(("student_dim", "teacher_dim"), [(5, 6), (6, 5), (6, 1)])
def test_last_hidden_layers_of_another_width_are_refused(student_dim: int, teacher_dim: int) -> None:
    projector = Projector(ProjectorConfig(weight=1.0), 6, 6)
    with pytest.raises(InputError, match="last hidden layer"):
        projector(torch.randn(8, student_dim), torch.randn(8, teacher_dim))


def test_a_scaled_divergence_keeps_gradients_that_float16_cannot_hold_unscaled() -> None:
    torch.manual_seed(0)
    logits, teacher, scale = torch.randn(512, 900).half(), sparse_posteriors(3 * torch.randn(512, 900), 32), 2.0**16
    gradients = []
    for values in (logits, logits.float()):
        taken = values.clone().requires_grad_()
        (scale * SparseDistillationLoss()(taken, *teacher)).backward()
        assert taken.grad is not None and taken.grad.dtype == values.dtype
        gradients.append(taken.grad.float())
    torch.testing.assert_close(*gradients, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(("config", "message"), [
    ({"temperature": 2.0}, "cached at temperature 1.0, the student is to learn at 2.0"),
    ({"distance": "logits"}, "needs all 9 of them, soft targets hold the 3 best")])
def test_a_cache_that_does_not_hold_what_is_wanted_is_refused(config: dict[str, Any], message: str) -> None:
    teacher = CachedTeacher("digest", num_pdfs=9, temperature=1.0, top_k=3)
    with pytest.raises(ValueError, match=message):
        DistillationObjective(DistillationConfig.model_validate(config), teacher)


def test_a_minibatch_without_what_the_cache_should_give_says_what_is_missing() -> None:
    inputs, pdf_ids = torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)
    plain = DistillationObjective(DistillationConfig(), CachedTeacher("digest"))
    with pytest.raises(InputError, match="no soft targets"):
        plain(torch.randn(8, 4), Minibatch(inputs, pdf_ids))
    ids, log_probs, log_tail = sparse_posteriors(torch.randn(8, 4), 2)
    bare = Minibatch(inputs, pdf_ids, {"soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail})
    noisy = DistillationConfig.model_validate({"noise": {"sigma": 0.1}})
    with pytest.raises(InputError, match="soft_log_norm"):
        DistillationObjective(noisy, CachedTeacher("digest"))(torch.randn(8, 4), bare)


@pytest.mark.parametrize("temperature", [1e-30, 0.05, 1e30, float("nan")])
def test_temperatures_that_leave_no_digits_are_refused(temperature: float) -> None:
    for made in (DistillationLoss, SparseDistillationLoss, lambda value: DistillationConfig(temperature=value)):
        with pytest.raises(ValueError):
            made(temperature)


@pytest.mark.parametrize("settings_", [{"temperature": 0.0}, {"cross_entropy_weight": -0.1},
                                       {"distillation_weight": float("nan")}, {"distillation_weight": 0.0}])
def test_senseless_weights_are_refused(settings_: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DistillationConfig(**settings_)


@pytest.mark.parametrize("top_k", [3, 7])
def test_weights_multiply_each_frames_divergence_and_gradient(top_k: int) -> None:
    torch.manual_seed(5)
    logits, teacher_logits = torch.randn(6, 7, requires_grad=True), torch.randn(6, 7)
    weights = torch.tensor([0.0, 1.0, 0.5, 2.0, 1.0, 0.25])
    of_frames = (torch.softmax(teacher_logits, -1) * (
        teacher_logits.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
    dense = DistillationLoss()(logits, teacher_logits, weights)
    torch.testing.assert_close(dense, (of_frames * weights).sum() / 6)
    sparse, targets = SparseDistillationLoss(), sparse_posteriors(teacher_logits, top_k)
    alone = torch.stack([sparse(logits[i:i + 1], *(part[i:i + 1] for part in targets)) for i in range(6)])
    weighted = sparse(logits, *targets, weights)
    torch.testing.assert_close(weighted, (alone * weights).sum() / 6)
    found, expected = (torch.autograd.grad(loss, logits)[0] for loss in (weighted, (alone * weights).sum() / 6))
    torch.testing.assert_close(found, expected)
    if top_k == 7:
        torch.testing.assert_close(weighted, dense)
    with pytest.raises(InputError, match="weights of the frames"):
        sparse(logits, *targets, torch.ones(5))


def of_frames(teacher: Tensor, student_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of each frame: teacher (frames, classes) of posteriors."""
    student = torch.log_softmax(student_logits / temperature, -1)
    return temperature ** 2 * (torch.special.xlogy(teacher, teacher) - teacher * student).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_weighted_dense_loss_and_gradient_are_those_of_the_formula(temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(9, 7, requires_grad=True), torch.randn(9, 7)
    weights = torch.tensor([0.0, 1.0, 0.3, 2.0, 0.0, 0.5, 1.0, 1.0, 0.7])
    loss = DistillationLoss(temperature)(logits, teacher_logits, weights)
    expected = (weights * of_frames(torch.softmax(teacher_logits / temperature, -1), logits, temperature)).sum() / 9
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("top_k", [1, 3, 7])
@pytest.mark.parametrize("block", [1, 30, 1 << 19])
def test_weighted_sparse_loss_and_gradient_are_those_of_the_formula(
    temperature: float, top_k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr_kd.training.cross_entropy._BLOCK", block)
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(9, 7, requires_grad=True), torch.randn(9, 7)
    weights = torch.tensor([0.0, 1.0, 0.3, 2.0, 0.0, 0.5, 1.0, 1.0, 0.7])
    pdf_ids, log_probs, log_tail = sparse_posteriors(teacher_logits / temperature, top_k)
    loss = SparseDistillationLoss(temperature)(logits, pdf_ids, log_probs, log_tail, weights)
    # The k best pdfs are classes of their own, and all others are one class.
    log_student = torch.log_softmax(logits / temperature, -1)
    others = log_student.scatter(1, pdf_ids, -torch.inf)
    classes = log_student.gather(1, pdf_ids)
    teacher = log_probs.exp()
    if top_k < 7:
        classes = torch.cat([classes, others.logsumexp(-1, keepdim=True)], 1)
        teacher = torch.cat([teacher, log_tail.exp()[:, None]], 1)
    teacher = teacher / teacher.sum(-1, keepdim=True)
    expected = temperature ** 2 * (weights * (teacher * (teacher.log() - classes)).sum(-1)).sum() / 9
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits),
                               rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings_", [{}, {"temperature": 2.0}, {"cross_entropy_weight": 0.4},
                                       {"cross_entropy_weight": 1.0, "distillation_weight": 0.0}])
def test_an_objective_weighs_frames_of_both_its_losses(settings_: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = DistillationConfig(**settings_)
    inputs, logits, pdf_ids = torch.randn(8, 4), torch.randn(8, 4, requires_grad=True), torch.randint(4, (8,))
    weights = torch.tensor([0.0, 1.0, 0.3, 2.0, 0.0, 0.5, 1.0, 0.7])
    temperature, teacher_logits = config.temperature, _Table()(inputs).detach()
    task = -torch.log_softmax(logits, -1)[torch.arange(8), pdf_ids]
    distilled = of_frames(torch.softmax(teacher_logits / temperature, -1), logits, temperature)
    expected = (weights * (config.cross_entropy_weight * task + config.distillation_weight * distilled)).sum() / 8
    ids, log_probs, log_tail = sparse_posteriors(teacher_logits / temperature, 4)
    cache = {"soft_pdf_ids": ids, "soft_log_probs": log_probs, "soft_log_tail": log_tail, "frame_weights": weights}
    for teacher, targets in ((LiveTeacher(_Table(), "digest"), {"frame_weights": weights}),
                             (CachedTeacher("digest"), cache)):
        loss = DistillationObjective(config, teacher)(logits, Minibatch(inputs, pdf_ids, targets))
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, logits),
                                   torch.autograd.grad(expected, logits, retain_graph=True))


@pytest.mark.parametrize("shape", [(1,), (7,), (8, 1), (1, 8), ()])
def test_weights_that_are_not_one_a_frame_are_refused(shape: tuple[int, ...]) -> None:
    logits, weights = torch.randn(8, 4), torch.ones(shape)
    with pytest.raises(InputError, match="the weights of the frames"):
        DistillationLoss()(logits, torch.randn(8, 4), weights)
    with pytest.raises(InputError, match="the weights of the frames"):
        SparseDistillationLoss()(logits, *sparse_posteriors(torch.randn(8, 4), 2), weights)
    minibatch = Minibatch(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), {"frame_weights": weights})
    with pytest.raises(InputError, match="the weights of the frames"):
        DistillationObjective(DistillationConfig(), LiveTeacher(_Table(), "digest"))(logits, minibatch)


def test_weights_are_refused_with_the_distance_of_logits() -> None:
    objective = DistillationObjective(DistillationConfig(distance="logits"), LiveTeacher(_Table(), "digest"))
    minibatch = Minibatch(torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), {"frame_weights": torch.ones(8)})
    with pytest.raises(InputError, match="the distance of logits knows no weights of frames"):
        objective(torch.randn(8, 4), minibatch)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_weights_of_one_leave_the_gradients_as_they_are_bit_for_bit(temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher_logits = (3 * torch.randn(9, 7)).requires_grad_(), 3 * torch.randn(9, 7)
    dense, sparse = DistillationLoss(temperature), SparseDistillationLoss(temperature)
    targets = sparse_posteriors(teacher_logits / temperature, 3)
    for plain, weighted in ((dense(logits, teacher_logits), dense(logits, teacher_logits, torch.ones(9))),
                            (sparse(logits, *targets), sparse(logits, *targets, torch.ones(9)))):
        torch.testing.assert_close(plain, weighted)
        gradient, expected = (torch.autograd.grad(loss, logits)[0] for loss in (weighted, plain))
        assert gradient.any() and torch.equal(gradient, expected)
