"""Named groups of a network's parameters, for training that moves some and leaves the others."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from asr_kd.core.errors import InputError

# Patterns over parameter names.
GROUPS = {
    "all": ["*"],
    "gates": ["transform_gate.*", "carry_gate.*"],  # arXiv 1608.00892, section 4.4
    "output": ["output_layer.*"],
    "hidden": ["input_layer.*", "hidden_layers.*"],
    "biases": ["*.bias"],
    "output_bias": ["output_layer.bias", "output_layer.*.bias"],
    "lhuc": ["*.amplitudes"],  # arXiv 1601.02828; of a network with scales (asr_kd.models.lhuc)
}


def train_only(model: nn.Module, groups: Sequence[str]) -> int:
    """Let the parameters of these groups move and no others; returns how many numbers that are.

    InputError for a group that fits no parameter.
    """
    chosen = _names_of(model, groups)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def parameters_of(model: nn.Module, groups: Sequence[str]) -> list[nn.Parameter]:
    """The parameters of these groups. InputError for a group that fits none."""
    chosen = _names_of(model, groups)
    return [parameter for name, parameter in model.named_parameters() if name in chosen]


def _names_of(model: nn.Module, groups: Sequence[str]) -> set[str]:
    """A group is a name of GROUPS or a pattern over the names of the model's parameters (`hidden_layers.0.*`)."""
    chosen: set[str] = set()
    names = [name for name, _ in model.named_parameters()]
    for group in groups:
        fitting = {name for name in names for pattern in GROUPS.get(group, [group]) if fnmatchcase(name, pattern)}
        if not fitting:
            raise InputError(f"no parameter of this {type(model).__name__} belongs to the group {group!r}; groups are "
                             f"{', '.join(GROUPS)} or patterns over {', '.join(names[:3])}, ...")
        chosen |= fitting
    return chosen
