"""The architectures that settings and bundles can name."""

from typing import Any, Literal

import pydantic
import torch
from pydantic import Field
from torch import nn

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN

ARCHITECTURES: dict[str, type[DNN] | type[HighwayDNN]] = {"dnn": DNN, "highway": HighwayDNN}


_MOST_LAYERS = 1000


class NetworkConfig(Config):
    """Settings of a network; its input dimension and number of pdfs come from the data."""

    architecture: Literal["dnn", "highway"]
    hidden_dim: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    activation: Literal["relu", "sigmoid"] = "sigmoid"
    batch_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    output_rank: int = Field(0, ge=0, description="highway: rank of a factorised softmax layer; 0: whole")

    @pydantic.model_validator(mode="after")
    def _options_of_one_architecture(self) -> "NetworkConfig":
        if self.architecture == "highway" and (self.activation != "sigmoid" or self.batch_norm):
            raise ValueError("a highway network is sigmoid, without batch_norm")
        if self.architecture == "dnn" and self.output_rank:
            raise ValueError("output_rank is of highway networks")
        return self


def build_network(config: NetworkConfig, input_dim: int, num_pdfs: int) -> DNN | HighwayDNN:
    """A freshly initialised network (from PyTorch's default generator: seed it first)."""
    if config.architecture == "highway":
        return HighwayDNN(input_dim, config.hidden_dim, config.num_layers, num_pdfs, config.output_rank,
                          config.dropout)
    return DNN(input_dim, config.hidden_dim, config.num_layers, num_pdfs, config.activation,
               config.batch_norm, config.dropout)


def describe_network(model: nn.Module) -> dict[str, Any]:
    """JSON from which `restore_network` builds the same architecture; InputError for foreign modules."""
    for name, kind in ARCHITECTURES.items():
        if type(model) is kind:
            return {"type": name, **model.hyperparameters}
    raise InputError(f"a {type(model).__name__} cannot be described: known architectures are "
                     f"{', '.join(ARCHITECTURES)}")


def restore_network(description: dict[str, Any], parameters: int | None = None) -> DNN | HighwayDNN:
    """The network of `describe_network`, weights yet to be loaded.

    InputError for an unknown or malformed description, or (given the number of `parameters` that a file holds) where it
    has another number of them; then no memory is taken for it.
    """
    arguments = dict(description)
    kind = ARCHITECTURES.get(str(arguments.pop("type", None)))
    if kind is None:
        raise InputError(f"architecture type is {description.get('type')!r}, expected one of "
                         f"{', '.join(ARCHITECTURES)}")
    num_layers = arguments.get("num_layers")
    if type(num_layers) is int and num_layers > _MOST_LAYERS:
        raise InputError(f"architecture {description!r}: more than {_MOST_LAYERS} layers")
    try:
        if parameters is not None:
            with torch.device("meta"):
                described = count_parameters(kind(**arguments))
            if described != parameters:
                raise ValueError(f"{described} parameters, expected {parameters}")
        return kind(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"architecture {description!r}: {error}") from error


def count_parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def input_dim(model: nn.Module) -> int | None:
    """Values of a frame that a network of ours hears, else None."""
    known = getattr(model, "hyperparameters", {})
    return int(known["input_dim"]) if "input_dim" in known else None


def hidden_dim(model: nn.Module) -> int | None:
    """Width of the last hidden layer of a network that can give it (`hidden`), else None."""
    known = getattr(model, "hyperparameters", {})
    return int(known["hidden_dim"]) if hasattr(model, "hidden") and "hidden_dim" in known else None
