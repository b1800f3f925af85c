"""Statistics of a whole minibatch whose parts (shards, processes) are trained on by several threads.

With `alone` a thread asks no other: in evaluation mode each measures by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.training.distributed import num_processes
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


def batch_norm_layers(model: nn.Module) -> list[nn.Module]:
    """All layers that normalise by the minibatch while they train."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def shared_batch_norm(model: nn.Module, shards: int = 1) -> Iterator[None]:
    """Within, the model's layers `nn.BatchNorm1d` normalise by all parts of a minibatch while they train.

    Every process has so many shards. PyTorch's own `SyncBatchNorm` wants GPUs, where it may be among the layers.
    InputError: other layers, of several processes.
    """
    layers = [layer for layer in batch_norm_layers(model) if type(layer) is nn.BatchNorm1d]
    for layer in batch_norm_layers(model) if num_processes() > 1 else []:
        if type(layer) not in (nn.BatchNorm1d, nn.SyncBatchNorm):
            raise InputError(f"{num_processes()} processes cannot share the statistics of a {type(layer).__name__}; "
                             "take BatchNorm1d, or start one process")
    try:
        for layer in layers if shards * num_processes() > 1 else []:
            layer.__class__ = _SharedBatchNorm
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.BatchNorm1d


class _SharedBatchNorm(nn.BatchNorm1d):
    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        frames = inputs.movedim(1, -1).flatten(0, -2)
        normalised, mean, variance, count = _BatchNorm.apply(frames, self.weight, self.bias, self.eps)
        self._track(mean, variance, count)
        restored: Tensor = normalised.view(inputs.movedim(1, -1).shape).movedim(-1, 1)
        return restored

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, frames: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (frames / (frames - 1)).float(), share)


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation over all parts: one sum over them in the forward pass, one in the backward pass.

    The sums are taken in float64, so that variances may be differences of them. Through autograd, operation by
    operation, it would take three times as long and four such sums.
    """

    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor | None, bias: Tensor | None,
                eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """frames (frames, dim) of this part -> normalised; mean and variance (dim,) and the number of all frames."""
        wide = frames.float()
        mean = wide.mean(0)
        centred_squares = (wide - mean).square_().sum(0)  # torch.var_mean takes ten times as long
        mean = mean.double()
        own = torch.stack([mean * len(frames), centred_squares + mean.square() * len(frames)])
        sums = add_up_parts(torch.cat([own.flatten(), own.new_tensor([float(len(frames))])]))
        count = sums[-1]
        mean, square = (sums[:-1] / count).view(2, -1)
        variance = (square - mean.square()).clamp_min_(0.0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(frames, mean.float(), scale.float(), weight, count)
        ctx.has_bias = bias is not None
        factor = scale.float() if weight is None else scale.float() * weight
        shift = -mean.float() * factor if bias is None else bias - mean.float() * factor
        statistics = mean.float(), variance.float(), count
        ctx.mark_non_differentiable(*statistics)
        return torch.addcmul(shift, wide, factor).to(frames.dtype), *statistics

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        frames, mean, scale, weight, count = ctx.saved_tensors
        gradient, centred = gradient.float(), frames.float() - mean
        of_bias = gradient.sum(0)
        of_weight = (gradient * centred).sum(0) * scale
        sums = add_up_parts(torch.stack([of_bias, of_weight]).double())
        bias_mean, weight_mean = (sums / count).float()
        factor = scale if weight is None else scale * weight
        of_frames = torch.addcmul(-factor * bias_mean, gradient, factor)
        of_frames.addcmul_(centred, -factor * scale * weight_mean)
        return (of_frames.to(frames.dtype), None if weight is None else of_weight, of_bias if ctx.has_bias else None,
                None)


class _SumOfParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return add_up_parts(values.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed: Tensor = _SumOfParts.apply(gradient)
        return summed
