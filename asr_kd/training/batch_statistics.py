"""Statistics of a whole minibatch whose parts (shards, processes) are trained on by several threads.

With `alone` a thread asks no other: in evaluation mode each measures by itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from asr_kd.training.parts import add_up_parts, num_parts


def sum_of_parts(values: Tensor, alone: bool = False) -> Tensor:
    """Return the sum of a tensor over all parts. Gradients are summed as well: each part must go backward too, from its
    own share of the loss."""
    if alone or num_parts() == 1:
        return values
    summed: Tensor = _SumOfParts.apply(values)
    return summed


def frame_mean(values: Tensor, alone: bool = False) -> Tensor:
    """(frames, ...) of this part -> (...), the mean over the frames of all parts."""
    if alone or num_parts() == 1:
        return values.mean(0)
    return sum_of_parts(values.sum(0)) / num_frames(values)


def normalise_frames(values: Tensor, eps: float, alone: bool = False) -> Tensor:
    """(frames, dim) to mean 0 and variance 1 of each dimension over the frames of all parts."""
    if alone or num_parts() == 1:
        return F.batch_norm(values, None, None, training=True, eps=eps)
    centred = values - frame_mean(values)
    return centred * (frame_mean(centred.square()) + eps).rsqrt()


@torch.no_grad()
def num_frames(values: Tensor) -> Tensor:
    """Return the number of frames of all parts, where `values` (frames, ...) are those of this one."""
    return add_up_parts(values.new_tensor(float(len(values))))


class _SumOfParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return add_up_parts(values.clone()).clone()  # autograd adds other gradients to this one in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _SumOfParts.apply(gradient)
        return summed
