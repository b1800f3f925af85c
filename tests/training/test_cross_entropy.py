"""Cross-entropy by blocks of rows is PyTorch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.training import cross_entropy as module
from asr_kd.training.cross_entropy import cache_sized_blocks, cross_entropy


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 40), pdfs=st.integers(1, 30),
       block=st.sampled_from([1, 64, 1 << 18]), scale=st.sampled_from([0.1, 3.0, 100.0]))
def test_value_and_gradient_are_those_of_pytorch(seed: int, frames: int, pdfs: int, block: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(frames, pdfs, generator=generator)).requires_grad_()
    pdf_ids = torch.randint(pdfs, (frames,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        loss = cross_entropy(logits, pdf_ids)
        (gradient,) = torch.autograd.grad(3 * loss, logits)
    expected = torch.nn.functional.cross_entropy(logits, pdf_ids)
    (expected_gradient,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_blocks_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 35)
    rows = torch.arange(23)
    parts = [rows[block] for block in cache_sized_blocks(torch.zeros(23, 10))]
    assert torch.equal(torch.cat(parts), rows) and {len(part) for part in parts} == {3, 2}


def test_bfloat16_logits_have_a_float32_loss_and_a_bfloat16_gradient() -> None:
    torch.manual_seed(0)
    logits, pdf_ids = torch.randn(9, 5).bfloat16().requires_grad_(), torch.randint(5, (9,))
    loss = cross_entropy(logits, pdf_ids)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad is not None and logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits.float(), pdf_ids))
    with torch.no_grad():
        assert cross_entropy(logits, pdf_ids) == loss


@pytest.mark.parametrize("pdf_id", [-1, 2])
def test_a_pdf_that_the_network_does_not_have_is_refused(pdf_id: int) -> None:
    with pytest.raises(InputError, match=f"pdf-ids are {min(pdf_id, 1)} to {max(pdf_id, 1)}, expected 0 to 1"):
        cross_entropy(torch.zeros(2, 2), torch.tensor([1, pdf_id]))


def test_a_scaled_loss_keeps_gradients_that_float16_cannot_hold_unscaled() -> None:
    torch.manual_seed(0)
    logits, pdf_ids, scale = torch.randn(512, 900).half(), torch.randint(900, (512,)), 2.0**16
    taken = logits.clone().requires_grad_()
    (scale * cross_entropy(taken, pdf_ids)).backward()
    expected = logits.float().requires_grad_()
    (scale * torch.nn.functional.cross_entropy(expected, pdf_ids)).backward()
    assert taken.grad is not None and taken.grad.dtype == torch.float16 and expected.grad is not None
    torch.testing.assert_close(taken.grad.float(), expected.grad, rtol=2e-3, atol=1e-5)


def test_a_logit_that_is_not_finite_makes_the_loss_so() -> None:
    assert not cross_entropy(torch.tensor([[0.0, float("nan")]]), torch.tensor([0])).isfinite()


def test_weights_multiply_each_frames_loss_and_gradient() -> None:
    torch.manual_seed(4)
    logits = torch.randn(6, 9, dtype=torch.float64).float().requires_grad_()
    labels, weights = torch.randint(9, (6,)), torch.tensor([0.0, 1.0, 0.5, 2.0, 1.0, 0.25])
    loss = cross_entropy(logits, labels, weights)
    expected = -(logits.log_softmax(-1)[torch.arange(6), labels] * weights).sum() / 6
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(value, logits)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted)
    unweighted = torch.autograd.grad(cross_entropy(logits, labels), logits)[0]
    assert torch.equal(torch.autograd.grad(cross_entropy(logits, labels, torch.ones(6)), logits)[0], unweighted)
    with pytest.raises(InputError, match="weights of the frames"):
        cross_entropy(logits, labels, torch.ones(5))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 40), pdfs=st.integers(1, 30),
       block=st.sampled_from([1, 64, 1 << 18]))
def test_weighted_value_and_gradient_are_those_of_the_formula(seed: int, frames: int, pdfs: int, block: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(frames, pdfs, generator=generator)).requires_grad_()
    pdf_ids = torch.randint(pdfs, (frames,), generator=generator)
    weights = 2 * torch.rand(frames, generator=generator) * (torch.rand(frames, generator=generator) < 0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        loss = cross_entropy(logits, pdf_ids, weights)
        (gradient,) = torch.autograd.grad(3 * loss, logits)
    expected = -(weights * logits.log_softmax(-1)[torch.arange(frames), pdf_ids]).sum() / frames
    (expected_gradient,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_weights_of_one_leave_loss_and_gradient_as_they_are_bit_for_bit() -> None:
    torch.manual_seed(0)
    logits, pdf_ids = torch.randn(9, 5, requires_grad=True), torch.randint(5, (9,))
    plain, weighted = cross_entropy(logits, pdf_ids), cross_entropy(logits, pdf_ids, torch.ones(9))
    assert torch.equal(plain, weighted)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (plain, weighted)))


@pytest.mark.parametrize("shape", [(1,), (8,), (9, 1), (1, 9), (9, 5), ()])
def test_weights_that_are_not_one_a_frame_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the weights of the frames: .* values, expected \(9,\)"):
        cross_entropy(torch.zeros(9, 5), torch.zeros(9, dtype=torch.int64), torch.ones(shape))
