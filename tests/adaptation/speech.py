"""Small networks and speech to adapt them to."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr_kd.adaptation.data import TaughtUtterance
from asr_kd.adaptation.posteriors import FramePosteriors
from asr_kd.models.bundle import ModelCard, load_bundle, save_bundle
from asr_kd.models.highway import HighwayDNN

DIM, PDFS = 4, 6
RUNNING: dict[str, Any] = {"kind": "fbank", "num_mel_bins": DIM, "normalisation": "running", "frame_shift": 10.0}


def saved_network(folder: Path, seed: int = 0, *, inputs: int = 3 * DIM, hidden: int = 8, pdfs: int = PDFS,
                  layers: int = 3, splice: int = 1, recipe: dict[str, Any] | None = None
                  ) -> tuple[HighwayDNN, ModelCard]:
    """A network in a bundle, read again: it and its card."""
    torch.manual_seed(seed)
    save_bundle(folder, HighwayDNN(inputs, hidden, layers, pdfs), feature_recipe=recipe or {"kind": "fbank"},
                splice_left=splice, splice_right=splice, hmm_digest="hmm", lexicon_digest="lexicon",
                priors=np.full(pdfs, 1 / pdfs))
    network, card = load_bundle(folder)
    assert isinstance(network, HighwayDNN)
    return network, card


def taught_utterances(count: int = 4, frames: int = 40, seed: int = 0) -> list[TaughtUtterance]:
    """Utterances whose pdfs depend on their features."""
    generator = np.random.default_rng(seed)
    utterances = []
    for number in range(count):
        features = generator.normal(size=(frames, DIM)).astype(np.float32)
        labels = features.argmax(1)
        utterances.append(TaughtUtterance(f"u{number}", features, FramePosteriors.of_alignment(labels)))
    return utterances
