"""What is taken over a whole minibatch, where several processes train on a part of it each.

With `alone` a process asks no other: in evaluation mode one of them measures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.training.distributed import add_up, num_processes


def sum_of_parts(values: Tensor, alone: bool = False) -> Tensor:
    """The sum of a tensor over all processes. Gradients are summed as well: each process must go backward too, from its
    own share of the loss."""
    if alone or num_processes() == 1:
        return values
    summed: Tensor = _SumOfParts.apply(values)
    return summed


def frame_mean(values: Tensor, alone: bool = False) -> Tensor:
    """(frames, ...) of this process -> (...), the mean over the frames of all processes."""
    if alone or num_processes() == 1:
        return values.mean(0)
    return sum_of_parts(values.sum(0)) / num_frames(values)


def normalise_frames(values: Tensor, eps: float, alone: bool = False) -> Tensor:
    """(frames, dim) to mean 0 and variance 1 of each dimension over the frames of all processes."""
    if alone or num_processes() == 1:
        return F.batch_norm(values, None, None, training=True, eps=eps)
    centred = values - frame_mean(values)
    return centred * (frame_mean(centred.square()) + eps).rsqrt()


@torch.no_grad()
def num_frames(values: Tensor) -> Tensor:
    """Frames of all processes, where `values` (frames, ...) are those of this one."""
    return add_up(values.new_tensor(float(len(values))))


def batch_norm_layers(model: nn.Module) -> list[nn.Module]:
    """All layers that normalise by the minibatch while they train."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def shared_batch_norm(model: nn.Module) -> Iterator[None]:
    """Within, the model's layers `nn.BatchNorm1d` normalise by the minibatches of all processes while they train.

    PyTorch's own `SyncBatchNorm` wants GPUs, where it may be among the layers. InputError: others, of several
    processes.
    """
    layers = [layer for layer in batch_norm_layers(model) if type(layer) is nn.BatchNorm1d]
    for layer in batch_norm_layers(model) if num_processes() > 1 else []:
        if type(layer) not in (nn.BatchNorm1d, nn.SyncBatchNorm):
            raise InputError(f"{num_processes()} processes cannot share the statistics of a {type(layer).__name__}; "
                             "take BatchNorm1d, or start one process")
    try:
        for layer in layers if num_processes() > 1 else []:
            layer.__class__ = _SharedBatchNorm
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.BatchNorm1d


class _SharedBatchNorm(nn.BatchNorm1d):
    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        frames = inputs.float().movedim(1, -1).flatten(0, -2)
        mean = frame_mean(frames)
        centred = frames - mean
        variance = frame_mean(centred.square())
        self._track(mean.detach(), variance.detach(), num_frames(frames))
        normalised = centred * (variance + self.eps).rsqrt()
        if self.affine:
            normalised = normalised * self.weight + self.bias
        return normalised.view(inputs.movedim(1, -1).shape).movedim(-1, 1).to(inputs.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, frames: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * frames / (frames - 1), share)


class _SumOfParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return add_up(values.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _SumOfParts.apply(gradient)
        return summed
