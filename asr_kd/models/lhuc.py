"""LHUC: learning hidden unit contributions, a scale for each hidden unit that adapts a network to a speaker.

Swietojanski, Li, Renals, "Learning hidden unit contributions for unsupervised acoustic model adaptation",
arXiv 1601.02828, eq. 5 and 6; speaker-adaptive training (SAT-LHUC): section 4.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.models.shared_parameters import replace_modules

AMPLITUDES = "amplitudes"
"""Last part of the name of LHUC's parameters; what stands before it is the name of the activation they scale."""

_speakers: ContextVar[Tensor | None] = ContextVar("speakers", default=None)


class HiddenUnitScales(nn.Module):
    """An activation whose outputs are scaled, unit by unit, by `r(a) = 2 sigmoid(a)`, which lies between 0 and 2.

    The amplitudes a (hidden_dim,) are 0 at the start, where the scales are exactly 1.
    """

    def __init__(self, activation: nn.Module, hidden_dim: int) -> None:
        super().__init__()
        self.activation = activation
        self.amplitudes = nn.Parameter(torch.zeros(hidden_dim))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., hidden_dim) -> (..., hidden_dim)."""
        outputs: Tensor = self.activation(inputs)
        return outputs * self.scales()

    def scales(self) -> Tensor:
        """(hidden_dim,)"""
        return 2 * torch.sigmoid(self.amplitudes)


class SpeakerScales(nn.Module):
    """An activation with the scales of many speakers, which are trained with the network (SAT-LHUC).

    Within `heard_speakers` each frame has its speaker's scales; elsewhere, and for a frame of speaker -1, all are 1:
    the speaker-independent network. amplitudes: (speakers, hidden_dim).
    """

    def __init__(self, activation: nn.Module, num_speakers: int, hidden_dim: int) -> None:
        super().__init__()
        self.activation = activation
        self.amplitudes = nn.Parameter(torch.zeros(num_speakers, hidden_dim))

    def forward(self, inputs: Tensor) -> Tensor:
        """(frames, hidden_dim) -> (frames, hidden_dim)."""
        outputs: Tensor = self.activation(inputs)
        speakers = _speakers.get()
        if speakers is None:
            return outputs
        scales = 2 * torch.sigmoid(self.amplitudes[speakers.clamp(min=0)])
        return outputs * torch.where(speakers[:, None] < 0, 1.0, scales)


@contextmanager
def heard_speakers(speakers: Tensor | None) -> Iterator[None]:
    """Within, the frames that networks of this thread hear are of these speakers: int64 (frames,), -1 for none."""
    token = _speakers.set(speakers)
    try:
        yield
    finally:
        _speakers.reset(token)


def add_lhuc(network: nn.Module) -> nn.Module:
    """Return a network with LHUC scales on all hidden units that shares its other parameters with `network`.

    `network` itself is left as it is. InputError: it has no hidden layers of one known width.
    """
    names, width = _activations(network)
    return replace_modules(network, {name: HiddenUnitScales(network.get_submodule(name), width) for name in names})


def add_speaker_scales(network: nn.Module, num_speakers: int) -> nn.Module:
    """Return a network with scales of so many speakers that shares its other parameters with `network`."""
    names, width = _activations(network)
    return replace_modules(network, {name: SpeakerScales(network.get_submodule(name), num_speakers, width)
                                     for name in names})


def has_speaker_scales(network: nn.Module) -> bool:
    """Return True if the network has scales of speakers."""
    return any(isinstance(module, SpeakerScales) for module in network.modules())


def _activations(network: nn.Module) -> tuple[list[str], int]:
    """Names of the activations of hidden layers, and their width."""
    width = getattr(network, "hyperparameters", {}).get("hidden_dim")
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Sigmoid | nn.ReLU)]
    if width is None or not names:
        raise InputError(f"a {type(network).__name__} has no hidden units that LHUC could scale")
    return names, width


def is_amplitude(name: str) -> bool:
    """Return True for the name of a parameter of LHUC."""
    return name.rpartition(".")[2] == AMPLITUDES
