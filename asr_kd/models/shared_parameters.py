"""Networks that share with another all that they do not replace: made in microseconds, the other is never touched."""

import copy
from collections.abc import Mapping

from torch import Tensor, nn


def replace_parameters(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a network with these tensors in the place of its parameters; they take no gradients.

    tensors: by parameter name, of the parameters' shapes. KeyError: no such parameter.
    """
    result = _Copies(network)
    for name, value in tensors.items():
        owner, _, own_name = name.rpartition(".")
        parameters = result.module(owner)._parameters
        if own_name not in parameters:
            raise KeyError(name)
        parameters[own_name] = nn.Parameter(value, requires_grad=False)
    return result.root


def replace_modules(network: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return a network with these modules, by name, in the place of its own. KeyError: no such module."""
    result = _Copies(network)
    for name, module in modules.items():
        owner, _, own_name = name.rpartition(".")
        others = result.module(owner)._modules
        if own_name not in others:
            raise KeyError(name)
        others[own_name] = module
    return result.root


class _Copies:
    """Shallow copies of the modules on the way from a network to what is replaced in it."""

    def __init__(self, network: nn.Module) -> None:
        self.root = _shallow_copy(network)
        self._copies = {"": self.root}

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
