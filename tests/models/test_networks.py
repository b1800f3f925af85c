"""DNN and HighwayDNN: sizes, equations, initialisation."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.models.architecture import (
    NetworkConfig,
    build_network,
    count_parameters,
    describe_network,
    hidden_dim,
    restore_network,
)
from asr_kd.models.dnn import DNN
from asr_kd.models.dropout import MaskBankDropout
from asr_kd.models.highway import HighwayDNN


def highway_by_equation_4(model: HighwayDNN, inputs: Tensor) -> Tensor:
    """h_l = sigma(W_l h + b_l) o T(h) + h o C(h), written out gate by gate."""
    weights = dict(model.named_parameters())
    hidden = 1 / (1 + torch.exp(-(inputs @ weights["input_layer.weight"].T + weights["input_layer.bias"])))
    for layer in range(len(model.hidden_layers)):
        weight, bias = weights[f"hidden_layers.{layer}.weight"], weights[f"hidden_layers.{layer}.bias"]
        activation = 1 / (1 + torch.exp(-(hidden @ weight.T + bias)))
        transform = 1 / (1 + torch.exp(-(hidden @ weights["transform_gate.weight"].T)))
        carry = 1 / (1 + torch.exp(-(hidden @ weights["carry_gate.weight"].T)))
        hidden = activation * transform + hidden * carry
    return hidden @ weights["output_layer.weight"].T + weights["output_layer.bias"]


@pytest.mark.parametrize(("inputs", "parameters"), [(600, 764_887), (440, 744_407)])
def test_h128l10_has_the_published_number_of_parameters(inputs: int, parameters: int) -> None:
    model = HighwayDNN(inputs, 128, 10, 3927)
    assert count_parameters(model) == parameters
    gates = model.transform_gate.weight.numel() + model.carry_gate.weight.numel()
    assert gates == 32_768
    assert count_parameters(DNN(inputs, 128, 10, 3927, "sigmoid")) == parameters - gates


def test_teacher_of_the_papers_has_thirty_million_parameters() -> None:
    assert round(count_parameters(DNN(600, 2048, 6, 3927, "sigmoid")) / 1e6, 2) == 30.26


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_packed_forward_and_gradients_equal_equation_4(layers: int) -> None:
    torch.manual_seed(layers)
    model = HighwayDNN(12, 8, layers, 5).double()
    inputs = torch.randn(7, 12, dtype=torch.float64)
    torch.nn.init.normal_(model.input_layer.bias)
    torch.testing.assert_close(model(inputs), highway_by_equation_4(model, inputs), rtol=1e-12, atol=1e-12)
    # A single layer has no gates to learn.
    learnt = [p for name, p in model.named_parameters() if layers > 1 or "gate" not in name]
    fast = torch.autograd.grad(model(inputs).square().sum(), learnt)
    slow = torch.autograd.grad(highway_by_equation_4(model, inputs).square().sum(), learnt)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


def test_forward_is_the_same_with_and_without_gradients_and_over_batch_dimensions() -> None:
    torch.manual_seed(0)
    model, inputs = HighwayDNN(12, 8, 4, 5), torch.randn(3, 7, 12)
    with torch.no_grad():
        plain = model(inputs)
    torch.testing.assert_close(model(inputs), plain)
    torch.testing.assert_close(model(inputs).flatten(0, 1), model(inputs.flatten(0, 1)))
    torch.testing.assert_close(model(inputs[0, 0]), plain[0, 0])


def test_gradients_under_autocast_follow_those_of_float32() -> None:
    torch.manual_seed(0)
    model, inputs = HighwayDNN(40, 32, 6, 10), torch.randn(256, 40)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model(inputs).float().square().mean()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), 0) > 0.99


def test_gates_are_tied_over_layers_and_have_no_bias() -> None:
    names = [name for name, _ in HighwayDNN(12, 8, 5, 5).named_parameters() if "gate" in name]
    assert names == ["transform_gate.weight", "carry_gate.weight"]


def test_dnn_equals_its_equations() -> None:
    torch.manual_seed(1)
    model = DNN(6, 4, 2, 3, "sigmoid")
    inputs, weights = torch.randn(5, 6), model.state_dict()
    hidden = torch.sigmoid(inputs @ weights["hidden_layers.0.weight"].T + weights["hidden_layers.0.bias"])
    hidden = torch.sigmoid(hidden @ weights["hidden_layers.2.weight"].T + weights["hidden_layers.2.bias"])
    expected = hidden @ weights["output_layer.weight"].T + weights["output_layer.bias"]
    torch.testing.assert_close(model(inputs), expected)


def test_xavier_initialisation_and_zero_biases() -> None:
    model = HighwayDNN(600, 128, 3, 100)
    for weight in (model.input_layer.weight, model.carry_gate.weight, model.output_layer.weight):
        bound = (6 / sum(weight.shape)) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound
    assert not model.input_layer.bias.any() and not model.output_layer.bias.any()


def test_dropout_keeps_the_expected_part_and_scale() -> None:
    dropout = MaskBankDropout(0.2).train()
    torch.manual_seed(3)
    outputs = dropout(torch.ones(400, 1000))
    assert abs((outputs == 0).float().mean() - 0.2) < 0.005
    assert set(outputs.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(dropout.eval()(outputs), outputs)


def test_dropout_follows_the_generator_and_differs_between_calls() -> None:
    dropout = MaskBankDropout(0.5).train()
    ones = torch.ones(64, 64)
    torch.manual_seed(7)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(7)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("model", [HighwayDNN(6, 4, 3, 5), HighwayDNN(6, 4, 3, 5, dropout=0.1),
                                   DNN(6, 4, 2, 5, "relu", True, 0.1)])
def test_description_restores_the_same_architecture(model: HighwayDNN | DNN) -> None:
    restored = restore_network(describe_network(model))
    assert describe_network(restored) == describe_network(model)
    restored.load_state_dict(model.state_dict())
    inputs = torch.randn(3, 6)
    assert torch.equal(restored.eval()(inputs), model.eval()(inputs))


def test_a_factorised_softmax_layer_is_the_product_of_two_matrices() -> None:
    torch.manual_seed(0)
    whole, factorised = HighwayDNN(6, 8, 3, 20), HighwayDNN(6, 8, 3, 20, output_rank=2)
    first, second = (layer for layer in factorised.output_layer.children())
    whole.load_state_dict({**{name: value for name, value in factorised.state_dict().items() if "output" not in name},
                           "output_layer.weight": second.weight @ first.weight, "output_layer.bias": second.bias})
    inputs = torch.randn(5, 6)
    torch.testing.assert_close(factorised(inputs), whole(inputs))
    assert count_parameters(whole) - count_parameters(factorised) == 8 * 20 - (8 * 2 + 2 * 20)
    assert describe_network(restore_network(describe_network(factorised))) == describe_network(factorised)


def test_dropout_falls_on_what_a_highway_layer_adds_and_not_on_what_it_carries() -> None:
    torch.manual_seed(0)
    plain, thinned = HighwayDNN(6, 8, 2, 5), HighwayDNN(6, 8, 2, 5, dropout=0.25)
    thinned.load_state_dict(plain.state_dict())
    inputs = torch.randn(400, 6)
    assert torch.equal(thinned.eval()(inputs), plain.eval()(inputs))
    before = torch.sigmoid(plain.input_layer(inputs))
    carried = before * torch.sigmoid(plain.carry_gate(before))
    added = thinned.train().hidden(inputs) - carried
    dropped = added.abs() < 1e-6
    assert 0.2 < dropped.float().mean() < 0.3
    torch.testing.assert_close(added[~dropped], (plain.hidden(inputs) - carried)[~dropped] / 0.75)


def test_the_last_hidden_layer_is_what_the_softmax_layer_hears() -> None:
    inputs = torch.randn(5, 6)
    for model in (HighwayDNN(6, 8, 3, 20), DNN(6, 8, 2, 20)):
        assert torch.equal(model.output_layer(model.hidden(inputs)), model(inputs))
        assert hidden_dim(model) == model.hidden(inputs).shape[-1] == 8
    assert hidden_dim(torch.nn.Linear(2, 2)) is None


EXPORTED = [HighwayDNN(12, 8, 4, 5), HighwayDNN(12, 8, 3, 5, output_rank=2, dropout=0.3), HighwayDNN(12, 8, 1, 5),
            DNN(12, 8, 2, 5, batch_norm=True, dropout=0.3)]


def exported(model: HighwayDNN | DNN, how: str) -> Callable[[Tensor], Tensor]:
    """A copy of the network as another form of PyTorch has it, made from minibatches of 3 frames."""
    inputs = torch.randn(3, 12)
    if how == "trace":
        return torch.jit.trace(model, (inputs,))
    if how == "script":
        return torch.jit.script(model)
    if how == "export":
        return torch.export.export(model, (inputs,), dynamic_shapes=({0: torch.export.Dim("frames")},)).module()
    return torch.fx.symbolic_trace(model)


@pytest.mark.parametrize("how", ["trace", "script", "export", "fx"])
@pytest.mark.parametrize("model", EXPORTED, ids=["highway", "low rank", "one layer", "dnn"])
def test_a_network_in_evaluation_mode_is_exported_as_it_is(model: HighwayDNN | DNN, how: str) -> None:
    model.eval()  # with gradients on, as they are where nobody has turned them off
    inputs = torch.randn(7, 12)
    torch.testing.assert_close(exported(model, how)(inputs), model(inputs))


def test_a_network_is_traced_as_it_is_in_training_mode_too() -> None:
    model, inputs = HighwayDNN(12, 8, 4, 5).train(), torch.randn(7, 12)
    torch.testing.assert_close(exported(model, "trace")(inputs), model(inputs))


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx_runtime_gives_the_networks_own_outputs(dynamo: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, inputs = HighwayDNN(12, 8, 4, 5, output_rank=2).eval(), torch.randn(7, 12)
    frames = {"dynamic_shapes": ({0: torch.export.Dim("frames")},)} if dynamo else {
        "dynamic_axes": {"inputs": {0: "frames"}}}
    torch.onnx.export(model, (torch.randn(3, 12),), tmp_path / "model.onnx", dynamo=dynamo, input_names=["inputs"],
                      **frames)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"inputs": inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(inputs).detach(), rtol=1e-4, atol=1e-5)


def test_unknown_architectures_are_refused() -> None:
    with pytest.raises(InputError, match="'lstm'.*dnn, highway"):
        restore_network({"type": "lstm"})
    with pytest.raises(InputError, match="num_heads"):
        restore_network({"type": "highway", "num_heads": 4})
    with pytest.raises(InputError, match="Linear"):
        describe_network(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="highway network is sigmoid"):
        NetworkConfig(architecture="highway", hidden_dim=4, num_layers=2, batch_norm=True)


def test_settings_build_the_network() -> None:
    config = NetworkConfig(architecture="dnn", hidden_dim=16, num_layers=2, activation="relu", dropout=0.1)
    assert describe_network(build_network(config, 12, 7))["num_pdfs"] == 7


def test_a_hook_on_a_hidden_layer_is_heard_and_gives_the_same_outputs_and_gradients() -> None:
    torch.manual_seed(0)
    model, inputs = HighwayDNN(12, 8, 4, 5).double(), torch.randn(7, 12, dtype=torch.float64)
    for name in ("input_layer", "hidden_layers.1", "transform_gate", "carry_gate", "activations.0", "activations.2"):
        calls: list[Tensor] = []
        handle = model.get_submodule(name).register_forward_hook(lambda *heard, calls=calls: calls.append(heard[2]))
        torch.testing.assert_close(model(inputs), highway_by_equation_4(model, inputs), rtol=1e-12, atol=1e-12)
        fast = torch.autograd.grad(model(inputs).square().sum(), list(model.parameters()))
        slow = torch.autograd.grad(highway_by_equation_4(model, inputs).square().sum(), list(model.parameters()))
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
        assert len(calls) == 2 * (3 if "gate" in name else 1)  # two forward passes; gates are called in each layer
        handle.remove()


def test_a_hook_that_changes_a_layers_outputs_changes_the_networks() -> None:
    torch.manual_seed(0)
    model, inputs = HighwayDNN(12, 8, 3, 5).double(), torch.randn(7, 12, dtype=torch.float64)
    model.hidden_layers[0].register_forward_hook(lambda _, __, outputs: outputs + 1)
    shifted = HighwayDNN(12, 8, 3, 5).double()
    shifted.load_state_dict(model.state_dict())
    with torch.no_grad():
        shifted.get_parameter("hidden_layers.0.bias").add_(1)
    torch.testing.assert_close(model(inputs), highway_by_equation_4(shifted, inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_a_replaced_activation_is_called_in_the_place_of_the_sigmoid(training: bool) -> None:
    class SteepSigmoid(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.sigmoid(2 * inputs)

    torch.manual_seed(0)
    model, inputs = HighwayDNN(12, 8, 3, 5).double().train(training), torch.randn(7, 12, dtype=torch.float64)
    steep = HighwayDNN(12, 8, 3, 5).double()
    steep.load_state_dict(model.state_dict())
    with torch.no_grad():
        steep.get_parameter("hidden_layers.1.weight").mul_(2)
        steep.get_parameter("hidden_layers.1.bias").mul_(2)
    model.activations[2] = SteepSigmoid()
    outputs = model(inputs)
    torch.testing.assert_close(outputs, highway_by_equation_4(steep, inputs), rtol=1e-12, atol=1e-12)
    names = ["input_layer.weight", "hidden_layers.0.bias", "transform_gate.weight", "carry_gate.weight"]
    fast = torch.autograd.grad(outputs.square().sum(), [model.get_parameter(name) for name in names])
    slow = torch.autograd.grad(highway_by_equation_4(steep, inputs).square().sum(),
                               [steep.get_parameter(name) for name in names])
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
