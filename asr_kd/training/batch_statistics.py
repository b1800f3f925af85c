"""What is taken over a whole minibatch, where several processes train on a part of it each.

With `alone` a process asks no other: in evaluation mode one of them measures.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from asr_kd.training.distributed import num_processes


def sum_of_parts(values: Tensor, alone: bool = False) -> Tensor:
    """The sum of a tensor over all processes, each of which must call this; gradients pass through it."""
    return values if alone or num_processes() == 1 else all_reduce(values)


def frame_mean(values: Tensor, alone: bool = False) -> Tensor:
    """(frames, ...) of this process -> (...), the mean over the frames of all processes."""
    if alone or num_processes() == 1:
        return values.mean(0)
    return sum_of_parts(values.sum(0)) / _num_frames(values)


def normalise_frames(values: Tensor, eps: float, alone: bool = False) -> Tensor:
    """(frames, dim) to mean 0 and variance 1 of each dimension over the frames of all processes."""
    if alone or num_processes() == 1:
        return F.batch_norm(values, None, None, training=True, eps=eps)
    centred = values - frame_mean(values)
    return centred * (frame_mean(centred.square()) + eps).rsqrt()


def normalises_batches(model: nn.Module) -> bool:
    return any(isinstance(module, nn.BatchNorm1d) for module in model.modules())


@contextmanager
def shared_batch_norm(model: nn.Module) -> Iterator[None]:
    """Within, the model's layers `nn.BatchNorm1d` normalise by the minibatches of all processes while they train.

    PyTorch's own `SyncBatchNorm` wants GPUs.
    """
    layers = [module for module in model.modules() if type(module) is nn.BatchNorm1d]
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
        self._track(mean.detach(), variance.detach(), _num_frames(frames))
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


def _num_frames(values: Tensor) -> Tensor:
    return sum_of_parts(values.new_tensor(float(len(values))))
