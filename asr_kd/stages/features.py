"""The stage that makes features, and features of any manifest by a model's recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import list_splits, read_manifest
from asr_kd.features.config import FeatureConfig
from asr_kd.features.extract import extract_features, with_running_prior
from asr_kd.features.frame_store import FrameStore


class FeaturesConfig(Config):
    """Features of some splits (default: all); other sampling rates and channels are converted only when asked for."""

    features: FeatureConfig = FeatureConfig()
    splits: list[Name] = []
    mix_down: bool = False
    resample: bool = False
    max_dropped: float = Field(0.05, ge=0, le=1)
    prior_split: Name = Field("train", description="running normalisation without running_prior_mean: a stream begins "
                              "with the mean and variance of this split")

    @property
    def computes_prior(self) -> bool:
        """Tell whether the mean and variance that running normalisation begins with come from `prior_split`."""
        return self.features.normalisation == "running" and not self.features.running_prior_mean


def extract(
    inputs: Mapping[str, Path], config: FeaturesConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A frame store for each split, in a folder of the split's name.

    With `like`, another stage's features, they are made by its recipe, what that computed of its own speech included.
    """
    summary = {}
    features = _recipe_of(inputs["like"]) if "like" in inputs else _feature_config(inputs["manifests"], config)
    for split in config.splits or list_splits(inputs["manifests"]):
        drops = extract_features(
            read_manifest(inputs["manifests"], split), features, output / split,
            mix_down=config.mix_down, resample=config.resample, max_dropped=config.max_dropped,
        )
        summary[split] = drops.as_dict()
    return summary


def _feature_config(manifests: Path, config: FeaturesConfig) -> FeatureConfig:
    if not config.computes_prior:
        return config.features
    utterances = read_manifest(manifests, config.prior_split)
    return with_running_prior(utterances, config.features, mix_down=config.mix_down, resample=config.resample)


def _recipe_of(folder: Path) -> FeatureConfig:
    """The recipe of the features of a stage, and how it stores them. InputError: features of no audio alone."""
    store = FrameStore.open(next(path for path in sorted(folder.iterdir()) if path.is_dir()))
    return _config_of(store.recipe, store.dtype)


def _config_of(recipe: Mapping[str, Any], store_dtype: str) -> FeatureConfig:
    try:
        return FeatureConfig(**{**recipe, "store_dtype": store_dtype})
    except pydantic.ValidationError as error:
        raise InputError(f"features of kind {recipe.get('kind')!r} cannot be made from audio alone; "
                         "give the features themselves") from error


def features_by_recipe(
    manifests: Path, split: str, recipe: Mapping[str, Any] | None, folder: Path, max_dropped: float = 0.05,
    workers: int | None = None, audio: AudioOptions | None = None,
) -> tuple[FrameStore, Drops]:
    """The features that a model's `feature_recipe` describes, of a split, as a new store, and what was dropped.

    `audio` says whether other sampling rates and several channels are converted. For models whose
    features need nothing but audio; other recipes raise InputError.
    """
    if recipe is None:
        raise InputError("the model does not say what features it was trained on; give the features themselves")
    config = _config_of(recipe, "float32")
    audio = audio or AudioOptions()
    drops = extract_features(read_manifest(manifests, split), config, folder, workers=workers, max_dropped=max_dropped,
                             resample=audio.resample, mix_down=audio.mix_down)
    return FrameStore.open(folder), drops
