"""A network's two passes as CUDA graphs: a tiny student waits for the launches of its kernels otherwise."""

import torch
from torch import Tensor, nn

from asr_kd.core.log import get_logger
from asr_kd.training.batch_norm import batch_norm_layers
from asr_kd.training.objective import NetworkOutputs, Objective, autocast

logger = get_logger(__name__)

_ROUNDING = 0.02  # of the largest value of a gradient; of bfloat16, whose order of sums may differ


def graphed(model: nn.Module, objective: Objective, inputs: Tensor, precision: str) -> NetworkOutputs | None:
    """The network's outputs, replayed from CUDA graphs for training inputs of the shape of `inputs`.

    None where that cannot be: off a GPU, where training changes or draws something beside gradients (batch
    normalisation, dropout), where the objective takes gradients of its own, which the next replay would write over,
    where the capture fails, or where the graphs' gradients are not those of the network.
    """
    draws = any(getattr(module, "probability", 0) > 0 for module in model.modules())
    if inputs.device.type != "cuda" or draws or batch_norm_layers(model) or objective.takes_gradients:
        return None
    outputs = NetworkOutputs(model, objective.reads_hidden).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expected = _gradients(outputs, inputs, precision, parameters)
    try:
        with autocast(inputs.device, precision):
            torch.cuda.make_graphed_callables(outputs, (inputs.clone(),))
        found = _gradients(outputs, inputs, precision, parameters)
    except RuntimeError as error:
        logger.warning("training without CUDA graphs: %s", error)
        return None
    largest = max((float((one - other).abs().max()) / (float(other.abs().max()) + 1e-30)
                   for one, other in zip(found, expected, strict=True)), default=0.0)
    if not largest < _ROUNDING:
        logger.warning("training without CUDA graphs: their gradients differ from the network's by %.2g", largest)
        return None
    return outputs


def _gradients(outputs: NetworkOutputs, inputs: Tensor, precision: str, parameters: list[nn.Parameter]) -> list[Tensor]:
    with autocast(inputs.device, precision):
        logits, *_ = outputs(inputs)
    gradients = torch.autograd.grad(logits.float().square().mean(), parameters, allow_unused=True)
    return [gradient.clone() for gradient in gradients if gradient is not None]
