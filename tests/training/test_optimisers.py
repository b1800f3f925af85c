"""Parts of an optimiser step as the whole one does."""

import pytest
import torch
from torch import nn

from asr_kd.training.config import TrainingConfig
from asr_kd.training.optimisers import make_optimiser, split_optimiser


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_step_like_the_whole_bit_for_bit(optimiser: str, count: int) -> None:
    config = TrainingConfig(optimiser=optimiser, weight_decay=0.1)  # type: ignore[arg-type]
    networks = []
    for _ in range(2):
        torch.manual_seed(1)
        networks.append(nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))
    whole, split = (make_optimiser(network, config) for network in networks)
    parts = split_optimiser(split, count)
    for step in range(3):
        for network, steps in zip(networks, ([whole], parts), strict=True):
            torch.manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            for one in steps:
                one.step()
        if step == 1:  # a checkpoint's state, as another process would load it
            split.load_state_dict(split.state_dict())
            parts = split_optimiser(split, count)
    for first, second in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(first, second)
    assert split.state_dict()["state"].keys() == whole.state_dict()["state"].keys()


def test_shares_are_about_equal() -> None:
    network = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))
    parts = split_optimiser(make_optimiser(network, TrainingConfig()), 2)
    sizes = [sum(p.numel() for group in part.param_groups for p in group["params"]) for part in parts]
    assert sum(sizes) == sum(p.numel() for p in network.parameters()) and abs(sizes[0] - sizes[1]) <= 8
