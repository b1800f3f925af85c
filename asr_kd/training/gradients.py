"""The gradients of a minibatch from those of its shards, each of which a thread computes.

Mostly they are added up in the order of the shards. The weights of a large linear layer would spend much time so: each
shard's gradient is a product over few frames, written to memory and read again. Their products wait until all shards
are done; then each thread computes some rows of a gradient, over the frames of all shards.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LARGE = 1 << 18  # weights of a layer whose products wait


@dataclass(frozen=True, slots=True)
class Product:
    """A summand of a weight's gradient: gradient (frames, outputs), transposed, times inputs (frames, inputs)."""

    weight: nn.Parameter
    gradient: Tensor
    inputs: Tensor


@dataclass(frozen=True, slots=True)
class ShardGradients:
    """The summands of one shard: a gradient or None for each parameter, and products that are not yet taken."""

    gradients: Sequence[Tensor | None]
    products: list[Product]


class _Waiting(threading.local):
    products: list[Product] | None = None


_waiting = _Waiting()


@contextmanager
def shared_linear(model: nn.Module) -> Iterator[None]:
    """Within, large layers `nn.Linear` of the model give `shard_gradients` products in place of gradients."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and layer.weight.numel() >= _LARGE]
    try:
        for layer in layers:
            layer.__class__ = _SharedLinear
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear


def shard_gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> ShardGradients:
    """Go backward from the loss of the shard on which this thread works."""
    products: list[Product] = []
    _waiting.products = products
    try:
        return ShardGradients(torch.autograd.grad(loss, parameters, allow_unused=True), products)
    finally:
        _waiting.products = None


def set_gradients(parameters: Sequence[nn.Parameter], shards: Sequence[ShardGradients],
                  run: Callable[[Sequence[Callable[[], object]]], None]) -> None:
    """Set each parameter's gradient to the sum of those of the shards, in their order; to None where none has one.

    run: does pieces of work, in any order and several at a time.
    """
    products: dict[nn.Parameter, list[Product]] = defaultdict(list)
    gradients = dict(zip(parameters, zip(*(shard.gradients for shard in shards), strict=True), strict=True))
    for shard in shards:
        for product in shard.products:
            products[product.weight].append(product)
    works: list[Callable[[], object]] = []
    for parameter, of_shards in gradients.items():
        if parameter not in products:
            works.append(partial(_add_up, parameter, of_shards))
            continue
        parameter.grad, middle = torch.empty_like(parameter), len(parameter) // 2
        for rows in slice(0, middle), slice(middle, len(parameter)):
            works.append(partial(_add_up_products, parameter.grad[rows], rows, products[parameter], of_shards))
    run(works)


def _add_up_products(total: Tensor, rows: slice, products: Sequence[Product], others: Sequence[Tensor | None]) -> None:
    """Set `total`, these rows of a weight's gradient, to the sum of its products and other gradients."""
    for number, product in enumerate(products):
        total.addmm_(product.gradient[:, rows].t(), product.inputs, beta=min(number, 1))
    for gradient in others:
        if gradient is not None:
            total += gradient[rows]


@torch.no_grad()
def _add_up(parameter: nn.Parameter, gradients: Sequence[Tensor | None]) -> None:
    present = [gradient for gradient in gradients if gradient is not None]
    if not present:
        parameter.grad = None
        return
    total = torch.empty_like(parameter)  # in its layout, which a fused optimiser takes for granted
    if len(present) == 1:
        total.copy_(present[0])
    else:
        torch.add(present[0], present[1], out=total)
    for gradient in present[2:]:
        total += gradient
    parameter.grad = total


class _SharedLinear(nn.Linear):
    computes_as_linear = True

    def forward(self, inputs: Tensor) -> Tensor:
        is_own = isinstance(self.weight, nn.Parameter)  # nothing that a hook computes from others
        if not self.training or not is_own or torch.is_autocast_enabled(inputs.device.type):
            return super().forward(inputs)
        outputs: Tensor = _Linear.apply(inputs, self.weight, self.bias)
        return outputs


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: nn.Parameter, bias: Tensor | None) -> Tensor:
        """inputs (..., inputs) -> (..., outputs)."""
        ctx.save_for_backward(inputs)
        ctx.weight = weight
        return F.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inputs,), weight = ctx.saved_tensors, ctx.weight
        needs_inputs, needs_weight, needs_bias = ctx.needs_input_grad
        of_outputs, heard = gradient.flatten(0, -2), inputs.flatten(0, -2)
        of_weight = None
        if needs_weight and _waiting.products is not None:
            _waiting.products.append(Product(weight, of_outputs.detach(), heard.detach()))
        elif needs_weight:
            of_weight = of_outputs.t() @ heard
        return gradient @ weight if needs_inputs else None, of_weight, of_outputs.sum(0) if needs_bias else None
