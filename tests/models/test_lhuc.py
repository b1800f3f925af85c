"""LHUC: scales of hidden units start at 1, follow 2 sigmoid(a), and leave the network that they are added to alone."""

import pytest
import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.lhuc import HiddenUnitScales, add_lhuc, is_amplitude

NETWORKS = {
    "highway": lambda: HighwayDNN(6, 8, 3, 5),
    "sigmoid": lambda: DNN(6, 8, 3, 5, "sigmoid"),
    "relu with dropout": lambda: DNN(6, 8, 3, 5, dropout=0.3),
    "batch normalisation": lambda: DNN(6, 8, 3, 5, batch_norm=True),
}


def amplitudes_of(network: nn.Module) -> list[nn.Parameter]:
    return [value for name, value in network.named_parameters() if is_amplitude(name)]


def highway_with_scales(model: HighwayDNN, amplitudes: list[Tensor], inputs: Tensor) -> Tensor:
    """Equation 4 of arXiv 1608.00892 with each sigmoid of a hidden layer multiplied by r(a) of its layer."""
    weights = dict(model.named_parameters())
    scales = [2 / (1 + torch.exp(-amplitude)) for amplitude in amplitudes]
    hidden = torch.sigmoid(inputs @ weights["input_layer.weight"].T + weights["input_layer.bias"]) * scales[0]
    for number, scale in enumerate(scales[1:]):
        weight, bias = weights[f"hidden_layers.{number}.weight"], weights[f"hidden_layers.{number}.bias"]
        transform = torch.sigmoid(hidden @ weights["transform_gate.weight"].T)
        carry = torch.sigmoid(hidden @ weights["carry_gate.weight"].T)
        hidden = torch.sigmoid(hidden @ weight.T + bias) * scale * transform + hidden * carry
    return hidden @ weights["output_layer.weight"].T + weights["output_layer.bias"]


def test_the_scale_of_a_unit_is_2_sigmoid_of_its_amplitude() -> None:
    layer = HiddenUnitScales(nn.ReLU(), 5)
    with torch.no_grad():
        layer.amplitudes.copy_(torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0]))
    expected = torch.tensor([0.0, 2 / (1 + torch.e), 1.0, 2 * torch.e / (1 + torch.e), 2.0])
    torch.testing.assert_close(layer.scales(), expected)
    inputs = torch.tensor([[3.0, 3.0, 3.0, 3.0, 3.0], [-1.0, -1.0, -1.0, -1.0, -1.0]])
    torch.testing.assert_close(layer(inputs), torch.stack([3 * expected, torch.zeros(5)]))


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_hidden_layer_gets_scales_that_change_nothing_at_the_start(kind: str) -> None:
    torch.manual_seed(0)
    network, inputs = NETWORKS[kind]().eval(), torch.randn(7, 6)
    adapted = add_lhuc(network)
    assert [tuple(value.shape) for value in amplitudes_of(adapted)] == [(8,)] * 3
    torch.testing.assert_close(adapted(inputs), network(inputs))


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_network_keeps_its_outputs_and_shares_its_other_parameters(kind: str) -> None:
    torch.manual_seed(0)
    network, inputs = NETWORKS[kind]().eval(), torch.randn(7, 6)
    before = network(inputs)
    adapted = add_lhuc(network)
    with torch.no_grad():
        for amplitude in amplitudes_of(adapted):
            amplitude.fill_(1.5)
    assert torch.equal(network(inputs), before)
    assert not torch.allclose(adapted(inputs), before)
    assert amplitudes_of(network) == []
    shared = {id(value) for value in adapted.parameters()} - {id(value) for value in amplitudes_of(adapted)}
    assert shared == {id(value) for value in network.parameters()}


@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_of_a_highway_network_are_those_of_the_equations(training: bool) -> None:
    torch.manual_seed(1)
    network = HighwayDNN(6, 8, 4, 5).double().train(training)
    adapted = add_lhuc(network).double().train(training)
    amplitudes = amplitudes_of(adapted)
    with torch.no_grad():
        for amplitude in amplitudes:
            amplitude.normal_()
    inputs = torch.randn(9, 6, dtype=torch.float64)
    expected = highway_with_scales(network, list(amplitudes), inputs)
    torch.testing.assert_close(adapted(inputs), expected, rtol=1e-12, atol=1e-12)
    learnt = list(adapted.parameters())
    by_network = torch.autograd.grad(adapted(inputs).square().sum(), learnt)
    by_equations = torch.autograd.grad(expected.square().sum(), learnt)
    torch.testing.assert_close(by_network, by_equations, rtol=1e-10, atol=1e-12)


def test_a_network_without_hidden_units_is_refused() -> None:
    with pytest.raises(InputError, match="a Linear has no hidden units that LHUC could scale"):
        add_lhuc(nn.Linear(3, 4))


def test_amplitudes_are_told_from_other_parameters_by_the_last_part_of_their_names() -> None:
    assert is_amplitude("activations.0.amplitudes") and is_amplitude("amplitudes")
    assert not is_amplitude("amplitudes.weight") and not is_amplitude("hidden_layers.0.weight")
