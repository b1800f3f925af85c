"""Groups of parameters: what moves and what does not."""

import pytest
import torch
from torch import nn

from asr_kd.core.errors import InputError
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.parameter_groups import train_only

HIGHWAY = {
    "gates": {"transform_gate.weight", "carry_gate.weight"},
    "output": {"output_layer.weight", "output_layer.bias"},
    "hidden": {"input_layer.weight", "input_layer.bias", "hidden_layers.0.weight", "hidden_layers.0.bias",
               "hidden_layers.1.weight", "hidden_layers.1.bias"},
    "biases": {"input_layer.bias", "hidden_layers.0.bias", "hidden_layers.1.bias", "output_layer.bias"},
    "hidden_layers.1.*": {"hidden_layers.1.weight", "hidden_layers.1.bias"},
    "carry_gate.weight": {"carry_gate.weight"},
}


def highway() -> HighwayDNN:
    return HighwayDNN(6, 5, 3, 4)


def moving(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("group", HIGHWAY)
def test_a_group_moves_its_parameters_and_no_others(group: str) -> None:
    model = highway()
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert train_only(model, [group]) == sum(sizes[name] for name in HIGHWAY[group])
    assert moving(model) == HIGHWAY[group]


def test_gates_hidden_and_output_layers_are_all_of_a_highway_network() -> None:
    model = highway()
    assert train_only(model, ["gates", "hidden", "output"]) == sum(p.numel() for p in model.parameters())
    parts = [HIGHWAY[group] for group in ("gates", "hidden", "output")]
    assert sum(map(len, parts)) == len(moving(model)) == len(set.union(*parts))


def test_what_was_still_before_can_move_again() -> None:
    model = highway()
    train_only(model, ["gates"])
    train_only(model, ["all"])
    assert moving(model) == {name for name, _ in model.named_parameters()}


def test_several_groups_are_their_union() -> None:
    model = highway()
    assert train_only(model, ["output", "biases"]) == train_only(model, ["biases", "output"])
    assert moving(model) == HIGHWAY["output"] | HIGHWAY["biases"]


def test_a_plain_network_has_its_layers_in_the_same_groups() -> None:
    model = DNN(6, 5, 2, 4, batch_norm=True)
    train_only(model, ["hidden"])
    assert moving(model) == {name for name, _ in model.named_parameters() if not name.startswith("output_layer.")}
    train_only(model, ["output"])
    assert moving(model) == HIGHWAY["output"]


@pytest.mark.parametrize("group", ["gates", "hidden_layers", "Output", "decoder.*", ""])
def test_a_group_without_parameters_is_refused_and_nothing_changed(group: str) -> None:
    model = DNN(6, 5, 2, 4)
    before = moving(model)
    with pytest.raises(InputError, match=f"no parameter of this DNN belongs to the group '{group[:3]}") as error:
        train_only(model, ["output", group])
    assert "gates" in str(error.value) and "hidden_layers.0.weight" in str(error.value)
    assert moving(model) == before


def test_only_the_chosen_parameters_get_a_gradient() -> None:
    model = highway()
    train_only(model, ["gates"])
    model(torch.randn(7, 6)).square().sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == HIGHWAY["gates"]
