"""The anchored loss: its terms, its gradient, and that it learns as from mixed targets."""

import pytest
import torch
from torch import Tensor, nn

from asr_kd.adaptation.data import ANCHOR_WEIGHTS
from asr_kd.adaptation.objective import AnchoredObjective
from asr_kd.models.highway import HighwayDNN
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import CrossEntropy

FRAMES, PDFS = 9, 5


def example(anchor_weights: Tensor | None = None, frame_weights: Tensor | None = None) -> Minibatch:
    generator = torch.Generator().manual_seed(0)
    weights = {ANCHOR_WEIGHTS: anchor_weights, "frame_weights": frame_weights}
    return Minibatch(torch.randn(FRAMES, 6, generator=generator),
                     torch.randint(PDFS, (FRAMES,), generator=generator),
                     {name: value for name, value in weights.items() if value is not None})


def networks() -> tuple[HighwayDNN, HighwayDNN]:
    """The network before adaptation, and another in the course of it."""
    torch.manual_seed(1)
    unadapted = HighwayDNN(6, 8, 3, PDFS)
    adapted = HighwayDNN(6, 8, 3, PDFS)
    return unadapted.eval(), adapted.eval()


def divergence(unadapted_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(unadapted || adapted) of each frame."""
    before = unadapted_logits.log_softmax(-1)
    return (before.exp() * (before - logits.log_softmax(-1))).sum(-1)


def test_the_loss_is_the_sum_of_what_is_learnt_the_anchor_and_the_distance() -> None:
    unadapted, adapted = networks()
    moved = dict(adapted.named_parameters())
    objective = AnchoredObjective(CrossEntropy(), unadapted, "digest", moved, l2_weight=0.3)
    starts = {name: value.detach().clone() for name, value in moved.items()}
    with torch.no_grad():
        for value in moved.values():
            value.add_(0.1 * torch.randn_like(value))
    anchor, weights = torch.linspace(0, 1, FRAMES), torch.linspace(1, 0, FRAMES)
    minibatch = example(anchor, weights)
    logits = adapted(minibatch.inputs)
    loss = objective(logits, minibatch)
    task = -logits.log_softmax(-1)[torch.arange(FRAMES), minibatch.pdf_ids]
    distance = torch.stack([(value - starts[name]).square().sum() for name, value in moved.items()]).sum()
    pulled = divergence(unadapted(minibatch.inputs).detach(), logits)
    expected = (weights * task).mean() + (anchor * pulled).mean() + 0.15 * distance
    torch.testing.assert_close(loss, expected)
    learnt = list(adapted.parameters())
    torch.testing.assert_close(torch.autograd.grad(loss, learnt, retain_graph=True),
                               torch.autograd.grad(expected, learnt), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kl_weight", [0.1, 0.5, 0.9])
def test_the_gradient_is_that_of_targets_mixed_with_the_unadapted_posteriors(kl_weight: float) -> None:
    unadapted, _ = networks()
    minibatch = example(torch.full((FRAMES,), kl_weight), torch.full((FRAMES,), 1 - kl_weight))
    logits = torch.randn(FRAMES, PDFS, requires_grad=True)
    loss = AnchoredObjective(CrossEntropy(), unadapted, "digest", {})(logits, minibatch)
    labels = nn.functional.one_hot(minibatch.pdf_ids, PDFS)
    targets = (1 - kl_weight) * labels + kl_weight * unadapted(minibatch.inputs).detach().softmax(-1)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, (logits.detach().softmax(-1) - targets) / FRAMES)


def test_the_anchor_pulls_nothing_at_the_start() -> None:
    unadapted, _ = networks()
    minibatch = example(torch.ones(FRAMES), torch.zeros(FRAMES))
    logits = unadapted(minibatch.inputs).detach().requires_grad_()
    loss = AnchoredObjective(CrossEntropy(), unadapted, "digest", dict(unadapted.named_parameters()), 5.0)(
        logits, minibatch)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert abs(loss.item()) < 1e-6 and gradient.abs().max() < 1e-6


def test_replayed_frames_learn_from_the_anchor_alone() -> None:
    unadapted, _ = networks()
    is_replayed = torch.arange(FRAMES) >= 6
    minibatch = example(is_replayed.float(), (~is_replayed).float())
    logits = torch.randn(FRAMES, PDFS, requires_grad=True)
    loss = AnchoredObjective(CrossEntropy(), unadapted, "digest", {})(logits, minibatch)
    (gradient,) = torch.autograd.grad(loss, logits)
    before = unadapted(minibatch.inputs).detach().softmax(-1)
    labels = nn.functional.one_hot(minibatch.pdf_ids, PDFS)
    expected = logits.detach().softmax(-1) - torch.where(is_replayed[:, None], before, labels)
    torch.testing.assert_close(gradient, expected / FRAMES)


def test_without_anchor_and_distance_it_is_the_plain_objective() -> None:
    unadapted, _ = networks()
    minibatch, logits = example(), torch.randn(FRAMES, PDFS)
    objective = AnchoredObjective(CrossEntropy(), unadapted, "digest", dict(unadapted.named_parameters()))
    assert torch.equal(objective(logits, minibatch), CrossEntropy()(logits, minibatch))


def test_in_evaluation_mode_only_what_is_learnt_is_judged() -> None:
    unadapted, adapted = networks()
    objective = AnchoredObjective(CrossEntropy(), unadapted, "digest", dict(adapted.named_parameters()), 3.0)
    with torch.no_grad():
        adapted.get_parameter("output_layer.bias").add_(1)
    minibatch = example(torch.ones(FRAMES), torch.full((FRAMES,), 0.5))
    logits = torch.randn(FRAMES, PDFS)
    plain = CrossEntropy()(logits, minibatch)
    assert objective(logits, minibatch) > plain + 1
    assert torch.equal(objective.eval()(logits, minibatch), plain)


def test_the_unadapted_network_gets_no_gradient_and_is_no_part_of_the_state() -> None:
    unadapted, adapted = networks()
    before = {name: value.clone() for name, value in unadapted.state_dict().items()}
    objective = AnchoredObjective(CrossEntropy(), unadapted, "digest", dict(adapted.named_parameters()), 0.1)
    minibatch = example(torch.ones(FRAMES), torch.ones(FRAMES))
    objective(adapted(minibatch.inputs), minibatch).backward()
    assert all(value.grad is None for value in unadapted.parameters())
    assert all(torch.equal(value, before[name]) for name, value in unadapted.state_dict().items())
    assert list(objective.parameters()) == [] and objective.state_dict() == {}


def test_what_is_told_of_an_objective_differs_where_the_loss_does() -> None:
    unadapted, _ = networks()
    told = [AnchoredObjective(CrossEntropy(), unadapted, digest, {}, weight).describe()
            for digest, weight in (("a", 0.0), ("b", 0.0), ("a", 0.1))]
    assert all(told[i] != told[j] for i in range(3) for j in range(i))


def test_the_network_that_anchors_stays_trainable_and_in_its_mode() -> None:
    unadapted, _ = networks()
    unadapted.train()
    AnchoredObjective(CrossEntropy(), unadapted, "digest", {})
    assert unadapted.training and all(value.requires_grad for value in unadapted.parameters())
