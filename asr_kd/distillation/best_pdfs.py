"""The k likeliest pdfs of every frame.

Of k values among many `torch.topk` takes twice as long or more on a CPU, a third of the time of a small teacher's
forward pass; and which of equal ones it takes is left open.
"""

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor


def best_pdfs(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The `top_k` largest of float32 logits (frames, pdfs), and their pdf-ids, both (frames, top_k), largest first.

    Of equal ones a CPU takes the lowest pdf-ids, a GPU any. One thread's work. ValueError: fewer than one, or more
    than there are.
    """
    if not 1 <= top_k <= logits.shape[-1]:
        raise ValueError(f"the {top_k} best of {logits.shape[-1]} pdfs asked for")
    if logits.device.type != "cpu":
        best, pdf_ids = logits.topk(top_k, dim=-1)
        return best, pdf_ids
    best_values = np.full((len(logits), top_k), -np.inf, np.float32)
    ids = np.zeros((len(logits), top_k), np.int64)
    _find_best(logits.detach().contiguous().numpy(), best_values, ids)
    return torch.from_numpy(best_values), torch.from_numpy(ids)


@njit(nogil=True, cache=True)
def _find_best(values: NDArray[np.float32], best: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
    """best, ids (rows, k): begun as minus infinity and 0. A frame's k-th largest value is no less than the least of the
    pdfs that were the frame before's best; few others reach that, and only these are sorted."""
    num_pdfs, top_k = values.shape[1], best.shape[1]
    candidates = np.empty(num_pdfs, np.int64)
    for row in range(values.shape[0]):
        of_row, kept, kept_ids = values[row], best[row], ids[row]
        bound = np.float32(-np.inf)
        if row > 0 and best[row - 1, top_k - 1] > -np.inf:
            bound = of_row[ids[row - 1, 0]]
            for place in range(1, top_k):
                bound = min(bound, of_row[ids[row - 1, place]])
        num_candidates = 0
        for pdf_id in range(num_pdfs):
            candidates[num_candidates] = pdf_id
            num_candidates += of_row[pdf_id] >= bound
        for pdf_id in candidates[:num_candidates]:
            value = of_row[pdf_id]
            if value > kept[top_k - 1]:
                place = top_k - 1
                while place > 0 and kept[place - 1] < value:
                    kept[place] = kept[place - 1]
                    kept_ids[place] = kept_ids[place - 1]
                    place -= 1
                kept[place] = value
                kept_ids[place] = pdf_id
