"""The features that a given model hears, of any manifest: given, computed from the audio, or adapted to speakers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr_kd.core.errors import InputError
from asr_kd.data.audio import AudioOptions
from asr_kd.features.adapted import AdaptedFeaturesConfig, write_adapted_features
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm_scores import gmm_inputs
from asr_kd.hmm.model import HmmModel
from asr_kd.stages.features import features_by_recipe
from asr_kd.stages.model_folders import beneath


@dataclass(frozen=True)
class Audio:
    """A split of a manifest folder; `features` are those made of it before, where there are any.

    `options` says whether other sampling rates and several channels are converted. `unusable`: utterance -> (reason,
    detail) where features could not be made of the audio.
    """

    manifests: Path
    split: str
    features: Path | None = None
    max_dropped: float = 0.05
    workers: int | None = None
    options: AudioOptions = AudioOptions()
    unusable: dict[str, tuple[str, str]] = field(default_factory=dict)

    def store(self, recipe: Mapping[str, Any] | None, whose: str, scratch: Path) -> FrameStore:
        """The features given, which must be of `recipe`; else made from the audio, in a folder below `scratch`."""
        if self.features is None:
            if recipe is not None and recipe.get("kind") == "fmllr":
                raise InputError(f"{whose} hear features adapted to speakers; give them (--features), speaker "
                                 "transforms (--transforms), or adapt (--adapt)")
            made, drops = features_by_recipe(Path(self.manifests), self.split, recipe, scratch / "features",
                                             self.max_dropped, self.workers, self.options)
            for reason, items in drops.reasons.items():
                self.unusable.update({utterance: (reason, detail) for utterance, detail in items})
            return made
        store = FrameStore.open(beneath(self.features, self.split))
        if store.recipe != recipe:
            raise InputError(f"{store.folder}: other features than those that {whose} were trained on; give theirs, or "
                             "leave them out to have them computed")
        store.verify()  # a stage's record vouches for its own stores, nothing for one that is given
        return store


def base_recipe(network: Path, recipe: Mapping[str, Any], hmm: HmmModel) -> Mapping[str, Any]:
    """The sources of the adapted features that a network hears.

    InputError where it hears other features, or ones adapted to other Gaussians than those of `hmm`.
    """
    if recipe.get("kind") != "fmllr":
        raise InputError(f"{network}: hears features of kind {recipe.get('kind')!r}, which are not adapted to "
                         "speakers; leave out the transforms")
    if recipe["gmm"] != hmm.gmm_digest:
        raise InputError(f"{network}: hears features adapted to the GMMs {recipe['gmm'][:8]}, the model {hmm.name} has "
                         f"the GMMs {hmm.gmm_digest[:8]}; take the model that its features were made with")
    base: Mapping[str, Any] = recipe["base"]
    return base


def adapted_store(
    recipe: Mapping[str, Any], hmm: HmmModel, base: FrameStore, transforms: SpeakerTransforms, scratch: Path
) -> FrameStore:
    """The adapted features of `recipe`, made from those of its base in a folder below `scratch`."""
    config = AdaptedFeaturesConfig(
        **{name: recipe[name] for name in AdaptedFeaturesConfig.model_fields if name in recipe}, store_dtype="float32")
    return write_adapted_features(base, gmm_inputs(hmm, base, transforms), hmm.gmm_digest, transforms.supervision,
                                  scratch / "adapted", config)


def refuse_transcripts(supervision: str | None, where: Path) -> None:
    """InputError for speaker transforms, or features by them, that know the transcripts: scores would not be fair."""
    if supervision == "transcript":
        raise InputError(f"{where}: speaker transforms that were estimated from transcripts; what is decoded to be "
                         "scored must not know them: estimate them by a first pass")


def adaptation_facts(transforms: SpeakerTransforms | None) -> dict[str, Any]:
    """Describe the speaker transforms that were used, for a summary; nothing where there were none."""
    if transforms is None:
        return {}
    return {"transforms": {"supervision": transforms.supervision, **transforms.summary,
                           "fallbacks": transforms.fallbacks}}
