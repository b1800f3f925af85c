"""Dropout that draws one random number a call instead of one an element."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.models.random_numbers import shard_generator

_BANK_SIZE = 1 << 24
_BANK_SEED = 1608


class MaskBankDropout(nn.Module):
    """Dropout on CPU from a bank of 2^24 mask elements, read from a random offset at each call.

    Element by element PyTorch's own dropout costs a DNN teacher about a third of its training step. The bank is
    the same in every process; the offset comes from the generator of the shard at hand, or PyTorch's default one, so
    a seed fixes the masks and a checkpoint of the default generator's state resumes them. Inputs that are larger than
    the bank have a mask drawn for them; elsewhere than on CPU this is `torch.nn.functional.dropout`.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"dropout probability is {probability}, expected at least 0 and below 1")
        self.probability = probability

    def forward(self, inputs: Tensor) -> Tensor:
        return self._masked(inputs) if self.training and self.probability > 0 else inputs

    @torch.jit.unused
    def _masked(self, inputs: Tensor) -> Tensor:
        count = inputs.numel()
        if inputs.device.type != "cpu":
            return F.dropout(inputs, self.probability)
        generator = shard_generator()
        if count >= _BANK_SIZE:
            kept = torch.rand(inputs.shape, generator=generator) >= self.probability
            return inputs * kept.to(inputs.dtype).div_(1 - self.probability)
        offset = int(torch.randint(_BANK_SIZE - count, (), generator=generator))
        return inputs * _mask_bank(self.probability, inputs.dtype)[offset:offset + count].view_as(inputs)

    def extra_repr(self) -> str:
        return f"probability={self.probability}"


@lru_cache(maxsize=4)
def _mask_bank(probability: float, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(_BANK_SEED)
    kept = torch.rand(_BANK_SIZE, generator=generator) >= probability
    return kept.to(dtype).div_(1 - probability)
