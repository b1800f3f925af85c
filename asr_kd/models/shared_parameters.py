"""Networks that share with another all that they do not replace: made in microseconds, the other is never touched."""

import copy
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn


def replace_parameters(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a network with these tensors in the place of its parameters; they take no gradients.

    tensors: by parameter name, of the parameters' shapes. KeyError: no such parameter.
    """
    copies = _Copies(network)
    for name, value in tensors.items():
        copies.replace(name, "_parameters", nn.Parameter(value, requires_grad=False))
    return copies.root


def replace_modules(network: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return a network with these modules, by name, in the place of its own. KeyError: no such module."""
    copies = _Copies(network)
    for name, module in modules.items():
        copies.replace(name, "_modules", module)
    return copies.root


class _Copies:
    """Shallow copies of the modules on the way from a network to what is replaced in it."""

    def __init__(self, network: nn.Module) -> None:
        self.root = _shallow_copy(network)
        self._copies = {"": self.root}

    def replace(self, name: str, table: Literal["_parameters", "_modules"], value: nn.Parameter | nn.Module) -> None:
        """Put a parameter or module in the place of that of this name; KeyError where there is none."""
        owner, _, own_name = name.rpartition(".")
        others = getattr(self.module(owner), table)
        if own_name not in others:
            raise KeyError(name)
        others[own_name] = value

    def module(self, name: str) -> nn.Module:
        """The copy of the module of this name; KeyError where there is none."""
        if name not in self._copies:
            owner, _, own_name = name.rpartition(".")
            others = self.module(owner)._modules
            module = others[own_name]
            if module is None:
                raise KeyError(name)
            others[own_name] = self._copies[name] = _shallow_copy(module)
        return self._copies[name]


def _shallow_copy(module: nn.Module) -> nn.Module:
    """A copy with tables of its own: of parameters, buffers, modules and hooks, all of which it shares."""
    clone = copy.copy(module)
    clone.__dict__ = {name: copy.copy(value) if isinstance(value, dict) else value
                      for name, value in vars(module).items()}
    return clone
