"""The feed-forward network of hybrid recognisers: spliced features in, one logit a pdf out."""

from typing import Literal

import torch
from torch import Tensor, nn

from asr_kd.models.dropout import MaskBankDropout

Activation = Literal["relu", "sigmoid"]


class DNN(nn.Module):
    """A DNN of `num_layers` hidden layers of one width and a linear softmax layer.

    Each hidden layer is affine, batch normalisation (`batch_norm`), activation, dropout. Weights are
    Xavier-uniform for sigmoids and He-uniform for ReLUs, biases 0.

    forward: (..., input_dim) -> (..., num_pdfs) logits, to be read through log-softmax.
    With batch normalisation the input must be (frames, input_dim).
    Lu, Guo, Renals, arXiv 1608.00892, eq. 1 to 3.
    """

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int, num_pdfs: int,
                 activation: Activation = "relu", batch_norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        if activation not in ("relu", "sigmoid"):
            raise ValueError(f"activation is {activation!r}, expected 'relu' or 'sigmoid'")
        if min(input_dim, hidden_dim, num_layers, num_pdfs) < 1:
            raise ValueError("input_dim, hidden_dim, num_layers and num_pdfs must be at least 1")
        self.hyperparameters = {
            "input_dim": input_dim, "hidden_dim": hidden_dim, "num_layers": num_layers, "num_pdfs": num_pdfs,
            "activation": activation, "batch_norm": batch_norm, "dropout": dropout}
        layers: list[nn.Module] = []
        for index in range(num_layers):
            layers.append(nn.Linear(input_dim if index == 0 else hidden_dim, hidden_dim))
            if batch_norm:
                layers.append(nn.BatchNorm1d(hidden_dim))
            layers.append(nn.ReLU() if activation == "relu" else nn.Sigmoid())
            if dropout > 0:
                layers.append(MaskBankDropout(dropout))
        self.hidden_layers = nn.Sequential(*layers)
        self.output_layer = nn.Linear(hidden_dim, num_pdfs)
        self._initialise(activation)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output_layer(self.hidden(inputs))

    def hidden(self, inputs: Tensor) -> Tensor:
        """(..., input_dim) -> (..., hidden_dim), the last hidden layer."""
        hidden: Tensor = self.hidden_layers(inputs)
        return hidden

    @torch.no_grad()
    def _initialise(self, activation: Activation) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                if activation == "relu" and module is not self.output_layer:
                    nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
