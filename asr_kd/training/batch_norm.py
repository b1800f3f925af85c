"""Batch normalisation over a whole minibatch whose parts (shards, processes) are trained on by several threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.training.batch_statistics import frame_mean, num_frames
from asr_kd.training.distributed import num_processes
from asr_kd.training.parts import add_up_parts


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
        if inputs.ndim == 2:
            return self._normalise(inputs)
        last = inputs.movedim(1, -1)
        return self._normalise(last.flatten(0, -2)).view(last.shape).movedim(-1, 1)

    def _normalise(self, frames: Tensor) -> Tensor:
        weight = torch.ones(frames.shape[1], device=frames.device) if self.weight is None else self.weight
        bias = torch.zeros_like(weight) if self.bias is None else self.bias
        normalised: Tensor
        if frames.device.type == "cpu":
            normalised = _BatchNorm.apply(frames, weight, bias, self)
            return normalised
        mean = frame_mean(frames.float())
        centred = frames.float() - mean
        variance = frame_mean(centred.square())
        count = num_frames(frames.float())
        self.track(mean.detach(), variance.detach() * count / (count - 1))
        normalised = torch.addcmul(bias, centred * (variance + self.eps).rsqrt(), weight)
        return normalised.to(frames.dtype)

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor) -> None:
        """Let the running statistics follow those of a minibatch (dim,)."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        if mean.device.type == "cpu":
            _follow(self.running_mean.numpy(), self.running_var.numpy(), mean.numpy(), variance.numpy(), share)
        else:
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


class _BatchNorm(torch.autograd.Function):
    """One sum over all parts in the forward pass and one in the backward pass, in float64, so that variances may be
    differences of sums.

    Threads of two shards that run at once wait for each other whenever both want the interpreter, as they do before and
    after each of PyTorch's operations: a dozen of these, on a few hundred values each, would take as long as the sums.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, layer: _SharedBatchNorm) -> Tensor:
        """inputs (frames, dim) of this part."""
        frames = _array(inputs)
        sums = add_up_parts(torch.from_numpy(_sums(frames)))
        normalised, mean, variance, scale = _normalise(frames, sums.numpy(), _array(weight), _array(bias), layer.eps)
        ctx.save_for_backward(inputs, weight)
        ctx.mean, ctx.scale, ctx.count = mean, scale, float(sums[-1])
        layer.track(torch.from_numpy(mean), torch.from_numpy(variance))
        return torch.from_numpy(normalised).to(inputs.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_outputs, frames = _array(gradient), _array(inputs)
        own = _gradient_sums(of_outputs, frames, ctx.mean)
        sums = add_up_parts(torch.from_numpy(own.copy()))
        of_frames = _frame_gradient(of_outputs, frames, ctx.mean, ctx.scale, _array(weight), sums.numpy(), ctx.count)
        of_bias, of_weight = own.astype(np.float32)
        return (torch.from_numpy(of_frames).to(inputs.dtype), torch.from_numpy(of_weight * ctx.scale),
                torch.from_numpy(of_bias), None)


def _array(values: Tensor) -> NDArray[np.float32]:
    wide = values if values.dtype == torch.float32 else values.float()
    return np.ascontiguousarray(wide.numpy(force=True))


@njit(nogil=True, cache=True)
def _sums(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """frames (frames, dim) -> (2 dim + 1,): sums over the frames, then of their squares, and the number of frames."""
    num_frames, dim = frames.shape
    sums = np.zeros(2 * dim + 1)
    first, second = sums[:dim], sums[dim:]
    for frame in range(num_frames):
        for index in range(dim):
            value = np.float64(frames[frame, index])
            first[index] += value
            second[index] += value * value
    sums[2 * dim] = num_frames
    return sums


@njit(nogil=True, cache=True)
def _normalise(
    frames: NDArray[np.float32], sums: NDArray[np.float64], weight: NDArray[np.float32], bias: NDArray[np.float32],
    eps: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the normalised frames; for each dimension the mean, the variance, without bias, and the scale."""
    num_frames, dim = frames.shape
    count = sums[2 * dim]
    mean, variance, scale = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    factor, shift = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for index in range(dim):
        centre = sums[index] / count
        spread = max(sums[dim + index] / count - centre * centre, 0.0)
        mean[index], variance[index] = centre, spread * count / (count - 1)
        scale[index] = 1 / np.sqrt(spread + eps)
        factor[index] = scale[index] * weight[index]
        shift[index] = bias[index] - mean[index] * factor[index]
    normalised = np.empty_like(frames)
    for frame in range(num_frames):
        for index in range(dim):
            normalised[frame, index] = frames[frame, index] * factor[index] + shift[index]
    return normalised, mean, variance, scale


@njit(cache=True)
def _follow(
    running_mean: NDArray[np.float32], running_variance: NDArray[np.float32], mean: NDArray[np.float32],
    variance: NDArray[np.float32], share: float
) -> None:
    for index in range(len(mean)):
        running_mean[index] += share * (mean[index] - running_mean[index])
        running_variance[index] += share * (variance[index] - running_variance[index])


@njit(nogil=True, cache=True)
def _gradient_sums(
    gradient: NDArray[np.float32], frames: NDArray[np.float32], mean: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return (2, dim): sums over the frames of the gradient, and of the gradient times the centred frames."""
    num_frames, dim = frames.shape
    sums = np.zeros((2, dim))
    of_gradient, of_product = sums[0], sums[1]
    for frame in range(num_frames):
        for index in range(dim):
            value = np.float64(gradient[frame, index])
            of_gradient[index] += value
            of_product[index] += value * (frames[frame, index] - mean[index])
    return sums


@njit(nogil=True, cache=True)
def _frame_gradient(
    gradient: NDArray[np.float32], frames: NDArray[np.float32], mean: NDArray[np.float32],
    scale: NDArray[np.float32], weight: NDArray[np.float32], sums: NDArray[np.float64], count: float
) -> NDArray[np.float32]:
    """sums (2, dim): those of `_gradient_sums` over all `count` frames of the minibatch."""
    num_frames, dim = frames.shape
    factor, shift, slope = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    for index in range(dim):
        factor[index] = scale[index] * weight[index]
        shift[index] = -factor[index] * sums[0, index] / count
        slope[index] = -factor[index] * scale[index] * scale[index] * sums[1, index] / count
    of_frames = np.empty_like(frames)
    for frame in range(num_frames):
        for index in range(dim):
            centred = frames[frame, index] - mean[index]
            of_frames[frame, index] = gradient[frame, index] * factor[index] + centred * slope[index] + shift[index]
    return of_frames
