"""Frame log-likelihoods, what a search over an HMM wants, from a network's posteriors."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.models.bundle import ModelCard


def log_likelihoods(
    model: nn.Module,
    card: ModelCard,
    features: NDArray[np.floating[Any]],
    *,
    precision: Literal["float32", "bfloat16"] = "float32",
    chunk: int = 4096,
) -> NDArray[np.float32]:
    """Scaled log-likelihoods of one utterance: log p(pdf | frame) - log prior(pdf), natural logarithms.

    features (frames, dim), normalised as the model's recipe says, not spliced -> (frames, pdfs) float32.
    At the utterance's ends the edge frame is repeated. float32 by default, so that a score does not
    depend on the machine; bfloat16 (the network only, never the softmax) is faster where the processor
    has it and changes log-posteriors by about 0.01. `chunk` frames are forwarded at a time.
    The model must be in evaluation mode. Features of another width raise InputError.
    """
    scores = forward_logits(model, card, features, precision=precision, chunk=chunk)
    log_priors = torch.from_numpy(card.log_priors())
    for begin in range(0, len(scores), chunk):
        logits = torch.from_numpy(scores[begin:begin + chunk])
        logits.copy_(torch.log_softmax(logits, dim=-1) - log_priors)
    return scores


def forward_logits(
    model: nn.Module, card: ModelCard, features: NDArray[np.floating[Any]], *,
    precision: Literal["float32", "bfloat16"] = "float32", chunk: int = 4096,
) -> NDArray[np.float32]:
    """The network's logits of one utterance: features (frames, dim) -> (frames, pdfs); see `log_likelihoods`."""
    if features.ndim != 2 or features.shape[1] != card.feature_dim:
        raise InputError(f"features have shape {features.shape}, the model takes (frames, {card.feature_dim})")
    frames = torch.from_numpy(np.ascontiguousarray(features, np.float32))
    logits = np.empty((len(frames), card.num_pdfs), np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for begin in range(0, len(frames), chunk):
            end = min(begin + chunk, len(frames))
            outputs = model(_splice(frames, begin, end, card.splice_left, card.splice_right))
            logits[begin:end] = outputs.float().numpy()
    return logits


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep a network's products to one thread where utterances already run in parallel."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _splice(frames: Tensor, begin: int, end: int, left: int, right: int) -> Tensor:
    window = torch.arange(begin, end)[:, None] + torch.arange(-left, right + 1)
    return frames[window.clamp_(0, len(frames) - 1)].flatten(1)
