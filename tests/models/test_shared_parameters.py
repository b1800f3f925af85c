"""Networks made of another's: what is replaced is new, all else is shared, and the other network is not touched."""

import pytest
import torch
from torch import nn

from asr_kd.models.highway import HighwayDNN
from asr_kd.models.shared_parameters import replace_modules, replace_parameters


def test_replaced_parameters_are_heard_and_take_no_gradients() -> None:
    torch.manual_seed(0)
    network, other, inputs = HighwayDNN(6, 8, 3, 5).eval(), HighwayDNN(6, 8, 3, 5).eval(), torch.randn(7, 6)
    result = replace_parameters(network, {name: value.detach() for name, value in other.named_parameters()})
    assert torch.equal(result(inputs), other(inputs))
    assert not any(value.requires_grad for value in result.parameters())
    assert all(value.requires_grad for value in network.parameters())


def test_parameters_that_are_not_replaced_are_the_other_networks_own() -> None:
    network = HighwayDNN(6, 8, 3, 5)
    replaced = {"hidden_layers.1.weight", "output_layer.bias"}
    result = replace_parameters(network, {name: network.get_parameter(name).detach() + 1 for name in replaced})
    own = dict(network.named_parameters())
    assert {name for name, value in result.named_parameters() if value is not own[name]} == replaced
    assert [name for name, _ in result.named_parameters()] == list(own)


def test_the_other_network_keeps_its_parameters_modules_and_outputs() -> None:
    torch.manual_seed(0)
    network, inputs = HighwayDNN(6, 8, 3, 5).eval(), torch.randn(7, 6)
    outputs, modules, parameters = network(inputs), list(network.modules()), list(network.parameters())
    values = [value.detach().clone() for value in parameters]
    result = replace_parameters(network, {"hidden_layers.0.weight": torch.zeros(8, 8)})
    result = replace_modules(result, {"activations.2": nn.ReLU(), "output_layer": nn.Linear(8, 2)})
    assert result(inputs).shape == (7, 2)
    assert torch.equal(network(inputs), outputs)
    assert all(a is b for a, b in zip(network.modules(), modules, strict=True))
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(parameters, values, strict=True))


def test_a_parameter_of_the_root_itself_is_replaced() -> None:
    layer, inputs = nn.Linear(3, 2), torch.randn(4, 3)
    result = replace_parameters(layer, {"weight": torch.zeros(2, 3)})
    assert torch.equal(result(inputs), layer.bias.detach().expand(4, 2))
    assert layer.weight.detach().abs().sum() > 0


def test_replaced_modules_are_the_ones_given() -> None:
    network, relu = HighwayDNN(6, 8, 3, 5), nn.ReLU()
    result = replace_modules(network, {"activations.1": relu})
    assert result.get_submodule("activations.1") is relu
    assert isinstance(network.activations[1], nn.Sigmoid)
    assert result.get_submodule("activations.0") is network.activations[0]


@pytest.mark.parametrize("name", ["weight", "hidden_layers.9.weight", "hidden_layers.0.scale", "nothing.weight",
                                  "hidden_layers", ""])
def test_a_parameter_that_the_network_does_not_have_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        replace_parameters(HighwayDNN(6, 8, 3, 5), {name: torch.zeros(1)})


@pytest.mark.parametrize("name", ["nothing", "activations.9", "activations.0.inner", ""])
def test_a_module_that_the_network_does_not_have_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        replace_modules(HighwayDNN(6, 8, 3, 5), {name: nn.ReLU()})
