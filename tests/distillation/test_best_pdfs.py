"""The k likeliest pdfs."""

import pytest
import torch

from asr_kd.distillation.best_pdfs import best_pdfs


@pytest.mark.parametrize(("frames", "pdfs", "top_k"), [(1, 1, 1), (3, 7, 7), (50, 40, 5), (5, 900, 32), (0, 4, 2)])
def test_the_best_are_those_of_a_sort_and_of_equal_ones_the_first(frames: int, pdfs: int, top_k: int) -> None:
    torch.manual_seed(0)
    for logits in (torch.randn(frames, pdfs), torch.randint(4, (frames, pdfs)).float()):
        values, pdf_ids = best_pdfs(logits, top_k)
        expected = logits.sort(dim=-1, descending=True, stable=True)
        assert torch.equal(values, expected.values[:, :top_k])
        assert torch.equal(pdf_ids, expected.indices[:, :top_k])


@pytest.mark.parametrize("top_k", [0, -1, 6])
def test_none_or_more_than_there_are_is_refused(top_k: int) -> None:
    with pytest.raises(ValueError, match=f"the {top_k} best of 5 pdfs"):
        best_pdfs(torch.randn(3, 5), top_k)


def test_what_is_not_in_order_in_memory_is_read_right() -> None:
    logits = torch.randn(9, 5).T
    values, pdf_ids = best_pdfs(logits, 2)
    assert torch.equal(values, logits.topk(2).values) and torch.equal(logits.gather(1, pdf_ids), values)


def test_frames_that_are_not_finite_do_not_spoil_those_after_them() -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, 30)
    logits[3] = torch.nan
    logits[7, ::2] = torch.nan
    logits[11] = -torch.inf
    logits[15, 5:] = -torch.inf
    values, pdf_ids = best_pdfs(logits, 8)
    expected = logits.sort(dim=-1, descending=True, stable=True)
    finite = [row for row in range(40) if row not in (3, 7, 11, 15)]
    assert torch.equal(values[finite], expected.values[finite, :8])
    assert torch.equal(pdf_ids[finite], expected.indices[finite, :8])
    assert not values[[3, 11, 15]].isfinite().all(-1).any()
