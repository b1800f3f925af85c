"""Speaker-adapted features of another frame store's utterances: fMLLR values, normalised per speaker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr_kd.core.config import Config
from asr_kd.features.cmvn import CmvnStatistics
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter


class AdaptedFeaturesConfig(Config):
    """The normalisation (over all of a speaker's utterances) and storing of transformed values."""

    normalisation: Literal["none", "speaker"] = "speaker"
    normalise_variance: bool = True
    store_dtype: Literal["float16", "float32", "uint8"] = "float16"


def write_adapted_features(
    store: FrameStore, adapted: Callable[[str], np.ndarray], gmm_digest: str, supervision: str, folder: Path,
    config: AdaptedFeaturesConfig | None = None,
) -> FrameStore:
    """Write `adapted(id)`, `(frames, dim)`, of every utterance of `store` to a new store, speaker by speaker.

    `gmm_digest` identifies the GMMs that the transforms belong to: it becomes part of the recipe, so that networks
    refuse features of other GMMs. `supervision` says what the transforms were estimated from, see FrameStore.
    """
    config = config or AdaptedFeaturesConfig()
    dim = adapted(store.ids[0]).shape[1]
    recipe: dict[str, Any] = {
        "kind": "fmllr", "frame_shift": store.recipe["frame_shift"], "gmm": gmm_digest, "base": store.recipe,
        **config.model_dump(mode="json", exclude={"store_dtype"}),
    }
    by_speaker: dict[str, list[str]] = {}
    for utterance_id in store.ids:
        by_speaker.setdefault(store.speakers[utterance_id], []).append(utterance_id)
    with FrameStoreWriter(folder, dim, config.store_dtype, recipe, supervision) as writer:
        for speaker, utterance_ids in by_speaker.items():
            matrices = {utterance_id: adapted(utterance_id) for utterance_id in utterance_ids}
            statistics = sum(map(CmvnStatistics.of, matrices.values()), CmvnStatistics.zero(dim))
            for utterance_id, matrix in matrices.items():
                if config.normalisation == "speaker":
                    matrix = statistics.normalise(matrix, config.normalise_variance)
                writer.add(utterance_id, speaker, matrix, store.sources.get(utterance_id),
                           store.speeds.get(utterance_id, 1.0))
    return FrameStore.open(folder)
