"""The anchored loss: its terms, its gradient, and that it learns as from mixed targets."""

import pytest
import torch
from torch import Tensor, nn

from asr_kd.adaptation.data import ANCHOR_WEIGHTS
from asr_kd.adaptation.objective import AnchoredObjective
from asr_kd.distillation.soft_targets import sparse_posteriors
from asr_kd.models.highway import HighwayDNN
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import CrossEntropy

FRAMES, PDFS = 9, 5


def example(unadapted: nn.Module | None = None, anchor_weights: Tensor | None = None,
            frame_weights: Tensor | None = None) -> Minibatch:
    """A minibatch that is anchored, where there are weights for it, to all that an unadapted network says."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(FRAMES, 6, generator=generator)
    targets = {} if frame_weights is None else {"frame_weights": frame_weights}
    if unadapted is not None and anchor_weights is not None:
        pdf_ids, log_probs, log_tail = sparse_posteriors(unadapted(inputs), PDFS)
        targets |= {"anchor_pdf_ids": pdf_ids, "anchor_log_probs": log_probs, "anchor_log_tail": log_tail,
                    ANCHOR_WEIGHTS: anchor_weights}
    return Minibatch(inputs, torch.randint(PDFS, (FRAMES,), generator=generator), targets)


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
    objective = AnchoredObjective(CrossEntropy(), moved, l2_weight=0.3)
    starts = {name: value.detach().clone() for name, value in moved.items()}
    with torch.no_grad():
        for value in moved.values():
            value.add_(0.1 * torch.randn_like(value))
    anchor, weights = torch.linspace(0, 1, FRAMES), torch.linspace(1, 0, FRAMES)
    minibatch = example(unadapted, anchor, weights)
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
    minibatch = example(unadapted, torch.full((FRAMES,), kl_weight), torch.full((FRAMES,), 1 - kl_weight))
    logits = torch.randn(FRAMES, PDFS, requires_grad=True)
    loss = AnchoredObjective(CrossEntropy(), {})(logits, minibatch)
    labels = nn.functional.one_hot(minibatch.pdf_ids, PDFS)
    targets = (1 - kl_weight) * labels + kl_weight * unadapted(minibatch.inputs).detach().softmax(-1)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, (logits.detach().softmax(-1) - targets) / FRAMES)


def test_the_anchor_pulls_nothing_at_the_start() -> None:
    unadapted, _ = networks()
    minibatch = example(unadapted, torch.ones(FRAMES), torch.zeros(FRAMES))
    logits = unadapted(minibatch.inputs).detach().requires_grad_()
    loss = AnchoredObjective(CrossEntropy(), dict(unadapted.named_parameters()), 5.0)(
        logits, minibatch)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert abs(loss.item()) < 1e-6 and gradient.abs().max() < 1e-6


def test_replayed_frames_learn_from_the_anchor_alone() -> None:
    unadapted, _ = networks()
    is_replayed = torch.arange(FRAMES) >= 6
    minibatch = example(unadapted, is_replayed.float(), (~is_replayed).float())
    logits = torch.randn(FRAMES, PDFS, requires_grad=True)
    loss = AnchoredObjective(CrossEntropy(), {})(logits, minibatch)
    (gradient,) = torch.autograd.grad(loss, logits)
    before = unadapted(minibatch.inputs).detach().softmax(-1)
    labels = nn.functional.one_hot(minibatch.pdf_ids, PDFS)
    expected = logits.detach().softmax(-1) - torch.where(is_replayed[:, None], before, labels)
    torch.testing.assert_close(gradient, expected / FRAMES)


def test_without_anchor_and_distance_it_is_the_plain_objective() -> None:
    unadapted, _ = networks()
    minibatch, logits = example(), torch.randn(FRAMES, PDFS)
    objective = AnchoredObjective(CrossEntropy(), dict(unadapted.named_parameters()))
    assert torch.equal(objective(logits, minibatch), CrossEntropy()(logits, minibatch))


def test_in_evaluation_mode_only_what_is_learnt_is_judged() -> None:
    unadapted, adapted = networks()
    objective = AnchoredObjective(CrossEntropy(), dict(adapted.named_parameters()), 3.0)
    with torch.no_grad():
        adapted.get_parameter("output_layer.bias").add_(1)
    minibatch = example(unadapted, torch.ones(FRAMES), torch.full((FRAMES,), 0.5))
    logits = torch.randn(FRAMES, PDFS)
    plain = CrossEntropy()(logits, minibatch)
    assert objective(logits, minibatch) > plain + 1
    assert torch.equal(objective.eval()(logits, minibatch), plain)


def test_it_has_neither_parameters_nor_state() -> None:
    _, adapted = networks()
    objective = AnchoredObjective(CrossEntropy(), dict(adapted.named_parameters()), 0.1)
    assert list(objective.parameters()) == [] and objective.state_dict() == {}


def test_what_is_told_of_an_objective_differs_where_the_loss_does() -> None:
    told = [AnchoredObjective(CrossEntropy(), {}, weight).describe() for weight in (0.0, 0.1)]
    assert told[0] != told[1]
