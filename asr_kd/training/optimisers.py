"""The optimiser of a training run, and its parts, which several threads may step at once."""

import torch
from torch import nn

from asr_kd.training.config import TrainingConfig


def make_optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser of all parameters that are trained; vectors, biases among them, do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
              {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}]
    if config.optimiser == "adam":
        return torch.optim.AdamW(groups, config.learning_rate, fused=True)
    return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, fused=True)


def split_optimiser(optimiser: torch.optim.Optimizer, count: int) -> list[torch.optim.Optimizer]:
    """Return optimisers of disjoint shares of the parameters, about equal in size, with the state of `optimiser`.

    Stepping each of them once equals a step of the whole one, bit for bit, where every parameter has a gradient from
    the first step on. A state that is loaded into `optimiser` later is not theirs: split it again then.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    shares: list[set[int]] = [set() for _ in range(count)]
    sizes = [0] * count
    for parameter in sorted(parameters, key=lambda parameter: -parameter.numel()):
        smallest = sizes.index(min(sizes))
        shares[smallest].add(id(parameter))
        sizes[smallest] += parameter.numel()
    parts = []
    for share in shares:
        groups = []
        for group in optimiser.param_groups:
            groups.append({**group, "params": [p for p in group["params"] if id(p) in share]})
        part = type(optimiser)(groups)  # type: ignore[call-arg]
        part.state = optimiser.state
        parts.append(part)
    return parts
