"""The highway network (HDNN): a thin, deep student whose layers share two gates."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.models.dropout import MaskBankDropout


class HighwayDNN(nn.Module):
    """A highway DNN: `h_l = sigmoid(W_l h + b_l) * T(h) + h * C(h)` for layers 2 to `num_layers`.

    The transform gate `T(h) = sigmoid(W_T h)` and the carry gate `C(h) = sigmoid(W_C h)` are separate, have no bias
    and are the same for all layers. Layer 1 is plain, since the equation wants input and output of
    one width. `W_l`, `W_T` and `W_C` are stacked, so that a layer is one matrix product (eq. 5).
    Weights are Xavier-uniform, biases 0. `output_rank` factorises the softmax layer's matrix into two of that rank
    (Sainath et al., ICASSP 2013), 0 leaves it whole. `dropout` falls on what a layer adds, not on what its carry gate
    passes on, so that every layer still sees what came before (ours). Only in training mode a function with a gradient
    of its own takes the place of the plain operations, so that a network in evaluation mode can be traced and exported.
    Where something stands on a layer (a hook, a module in the place of an `activations` or a layer, such as LHUC's
    scales), all layers are called as modules, one by one.

    forward: (..., input_dim) -> (..., num_pdfs) logits, to be read through log-softmax.
    Lu, Guo, Renals, "Knowledge distillation for small-footprint highway networks", arXiv 1608.00892, eq. 4 and 5.
    """

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int, num_pdfs: int, output_rank: int = 0,
                 dropout: float = 0.0) -> None:
        super().__init__()
        if min(input_dim, hidden_dim, num_layers, num_pdfs) < 1:
            raise ValueError("input_dim, hidden_dim, num_layers and num_pdfs must be at least 1")
        self.hyperparameters: dict[str, int | float] = {
            "input_dim": input_dim, "hidden_dim": hidden_dim, "num_layers": num_layers, "num_pdfs": num_pdfs}
        if output_rank:
            self.hyperparameters["output_rank"] = output_rank
        if dropout:
            self.hyperparameters["dropout"] = dropout
        self.dropout = MaskBankDropout(dropout)
        self.input_layer = nn.Linear(input_dim, hidden_dim)
        self.hidden_layers = nn.ModuleList([nn.Linear(hidden_dim, hidden_dim) for _ in range(num_layers - 1)])
        self.transform_gate = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.carry_gate = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in range(num_layers)])
        self.output_layer: nn.Module = nn.Linear(hidden_dim, num_pdfs) if not output_rank else nn.Sequential(
            nn.Linear(hidden_dim, output_rank, bias=False), nn.Linear(output_rank, num_pdfs))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.output_layer(self.hidden(inputs))
        return logits

    def hidden(self, inputs: Tensor) -> Tensor:
        """(..., input_dim) -> (..., hidden_dim), the last hidden layer."""
        is_scripting = torch.jit.is_scripting()  # type: ignore[attr-defined]
        if not is_scripting and not self._is_plain():
            return self._called_as_modules(inputs)
        hidden = torch.sigmoid(self.input_layer(inputs))
        gates = torch.cat([self.transform_gate.weight, self.carry_gate.weight])
        drops = self.dropout.training and self.dropout.probability > 0
        if not is_scripting and self._takes_fused_gradient() and not drops:
            return self._trained(hidden, gates)
        no_bias = torch.zeros_like(gates[:, 0])
        for layer in self.hidden_layers:
            weights = torch.cat([layer.weight, gates])  # type: ignore[list-item]
            biases = torch.cat([layer.bias, no_bias])  # type: ignore[list-item]
            activation, transform, carry = torch.sigmoid(F.linear(hidden, weights, biases)).chunk(3, dim=-1)
            hidden = self.dropout(activation) * transform + hidden * carry
        return hidden

    @torch.jit.unused
    def _is_plain(self) -> bool:
        """Return True if each layer is what it was built as, and nothing listens to it."""
        linear = [self.input_layer, *self.hidden_layers, self.transform_gate, self.carry_gate]
        return all(map(_is_plain_linear, linear)) and all(type(one) is nn.Sigmoid and not _has_hooks(one)
                                                          for one in self.activations)

    @torch.jit.unused
    def _called_as_modules(self, inputs: Tensor) -> Tensor:
        """The same as `hidden`, layer by layer, gates too."""
        first, *activations = self.activations
        hidden: Tensor = first(self.input_layer(inputs))
        for layer, activation in zip(self.hidden_layers, activations, strict=True):
            transform = torch.sigmoid(self.transform_gate(hidden))
            carry = torch.sigmoid(self.carry_gate(hidden))
            hidden = self.dropout(activation(layer(hidden))) * transform + hidden * carry
        return hidden

    def _takes_fused_gradient(self) -> bool:
        """Only training does: a tracer or exporter does not see into the custom function, and exports nonsense."""
        is_traced = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined]
        return self.training and torch.is_grad_enabled() and len(self.hidden_layers) > 0 and not is_traced

    @torch.jit.unused
    def _trained(self, hidden: Tensor, gates: Tensor) -> Tensor:
        """The layers above the first, whose gradient is computed by hand: hidden (..., hidden_dim) of the first."""
        layers = [layer for layer in self.hidden_layers if isinstance(layer, nn.Linear)]
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        trained: Tensor = _HighwayLayers.apply(hidden.reshape(-1, hidden.shape[-1]), gates, *weights, *biases)
        return trained.view_as(hidden)


def _is_plain_linear(module: nn.Module) -> bool:
    """Return True of `nn.Linear`, and of what takes its place in training and says that it computes the same."""
    computes_the_same = type(module) is nn.Linear or getattr(type(module), "computes_as_linear", False)
    return computes_the_same and not _has_hooks(module)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
                or module._backward_pre_hooks)


class _HighwayLayers(torch.autograd.Function):
    """All highway layers with their gradient: the same arithmetic as layer by layer, whose gradient PyTorch makes of
    four times as many operations, each over its own copy of a minibatch."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, gates: Tensor, *weights_and_biases: Tensor) -> Tensor:
        """hidden (frames, width), gates (2 width, width), each layer's weight (width, width), each one's bias."""
        count, width = len(weights_and_biases) // 2, hidden.shape[1]
        weights, biases = weights_and_biases[:count], weights_and_biases[count:]
        packed = hidden.new_empty(count, 3 * width, width)
        packed[:, :width], packed[:, width:] = torch.stack(weights), gates
        bias = hidden.new_zeros(count, 3 * width)
        bias[:, :width] = torch.stack(biases)
        heard, sigmoids = [], []
        for layer in range(count):
            heard.append(hidden)
            sigmoids.append(torch.addmm(bias[layer], hidden, packed[layer].t()).sigmoid_())
            activation, transform, carry = sigmoids[-1].chunk(3, dim=-1)
            hidden = torch.addcmul(activation * transform, hidden, carry)
        ctx.save_for_backward(packed, *heard, *sigmoids)
        return hidden

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        packed, *saved = ctx.saved_tensors
        count, width = len(packed), gradient.shape[1]
        heard, sigmoids = saved[:count], saved[count:]
        of_packed, of_bias = torch.empty_like(packed), packed.new_empty(count, width)
        of_products = torch.empty_like(sigmoids[0])
        of_activation, of_transform, of_carry = of_products.chunk(3, dim=-1)
        for layer in reversed(range(count)):
            activation, transform, carry = sigmoids[layer].chunk(3, dim=-1)
            torch.mul(gradient, transform, out=of_activation)
            torch.mul(gradient, activation, out=of_transform)
            torch.mul(gradient, heard[layer], out=of_carry)
            torch.ops.aten.sigmoid_backward.grad_input(of_products, sigmoids[layer], grad_input=of_products)
            torch.mm(of_products.t(), heard[layer], out=of_packed[layer])
            torch.sum(of_activation, 0, out=of_bias[layer])
            gradient = torch.addmm(gradient * carry, of_products, packed[layer])
        master = torch.promote_types(packed.dtype, torch.float32)  # the gates' gradient is a sum over layers
        of_weights, of_gates = of_packed.to(master).split([width, 2 * width], dim=1)
        return gradient, of_gates.sum(0), *of_weights.unbind(), *of_bias.to(master).unbind()
