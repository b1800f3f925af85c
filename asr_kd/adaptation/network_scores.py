"""Log-likelihoods by a network, adapted or not: opened here for decoding, alignment and lattices alike."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from asr_kd.adaptation.adapter import AdaptedNetworks
from asr_kd.features.frame_store import FrameStore
from asr_kd.models.bundle import ModelCard, load_bundle
from asr_kd.models.log_likelihoods import log_likelihoods


@dataclass(frozen=True)
class NetworkScores:
    """A network with its card, and its adapters where there are any."""

    network: nn.Module
    card: ModelCard
    adapted: AdaptedNetworks | None = None

    @staticmethod
    def open(
        bundle: Path, *, hmm_digest: str | None = None, feature_recipe: dict[str, Any] | None = None,
        adapters: Path | None = None, refused_too: bool = False,
    ) -> "NetworkScores":
        """Open a bundle, and an adapter or a folder of one a speaker; errors as of `load_bundle` and of the adapters'
        own."""
        network, card = load_bundle(bundle, hmm_digest=hmm_digest, feature_recipe=feature_recipe)
        if adapters is None:
            return NetworkScores(network, card)
        return NetworkScores(network, card, AdaptedNetworks.open(adapters, network, card, bundle,
                                                                 refused_too=refused_too))

    def of(self, store: FrameStore) -> Callable[[str], np.ndarray]:
        """Utterance id -> log-likelihoods (frames, pdfs) of its features in `store`."""
        def scores(utterance_id: str) -> np.ndarray:
            features = store[utterance_id]
            if self.adapted is None:
                return log_likelihoods(self.network, self.card, features)
            return self.adapted.of(store.speakers[utterance_id]).log_likelihoods(self.card, features)

        return scores

    def describe(self) -> dict[str, Any]:
        """Facts for a summary; after scoring they count what utterances were scored by."""
        facts: dict[str, Any] = {"scores": "network", "network": self.card.digest}
        return facts if self.adapted is None else {**facts, "adapted": self.adapted.describe()}
