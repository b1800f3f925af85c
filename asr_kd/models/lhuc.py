"""LHUC: learning hidden unit contributions, a scale for each hidden unit that adapts a network to a speaker.

Swietojanski, Li, Renals, "Learning hidden unit contributions for unsupervised acoustic model adaptation",
arXiv 1601.02828, eq. 5 and 6.
"""

import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.models.shared_parameters import replace_modules

AMPLITUDES = "amplitudes"
"""Last part of the name of LHUC's parameters; what stands before it is the name of the activation they scale."""


class HiddenUnitScales(nn.Module):
    """An activation whose outputs are scaled, unit by unit, by `r(a) = 2 sigmoid(a)`, which lies between 0 and 2.

    The amplitudes a (hidden_dim,) are 0 at the start, where the scales are exactly 1.
    """

    def __init__(self, activation: nn.Module, hidden_dim: int) -> None:
        super().__init__()
        self.activation = activation
        self.amplitudes = nn.Parameter(torch.zeros(hidden_dim))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., hidden_dim) -> (..., hidden_dim)."""
        outputs: Tensor = self.activation(inputs)
        return outputs * self.scales()

    def scales(self) -> Tensor:
        """(hidden_dim,)"""
        return 2 * torch.sigmoid(self.amplitudes)


def add_lhuc(network: nn.Module) -> nn.Module:
    """Return a network with LHUC scales on all hidden units that shares its other parameters with `network`.

    `network` itself is left as it is. InputError: it has no hidden layers of one known width.
    """
    width = getattr(network, "hyperparameters", {}).get("hidden_dim")
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Sigmoid | nn.ReLU)]
    if width is None or not names:
        raise InputError(f"a {type(network).__name__} has no hidden units that LHUC could scale")
    return replace_modules(network, {name: HiddenUnitScales(network.get_submodule(name), width) for name in names})


def is_amplitude(name: str) -> bool:
    """Return True for the name of a parameter of LHUC."""
    return name.rpartition(".")[2] == AMPLITUDES
