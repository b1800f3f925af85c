"""Stages that make sets of utterances: a speaker's first or last ones, or so many seconds of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import Utterance, list_splits, read_manifest, write_manifest
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.scoring.transcripts import write_transcripts, write_utt2spk
from asr_kd.stages.prepare import REFERENCES, read_references


class UtteranceSet(Config):
    """Utterances of each speaker of a split, in the order of their ids.

    part and utterances: the first or last so many, or all. every_speaker: 2 takes every second speaker, and so on.
    """

    split: Name
    part: Literal["all", "first", "last"] = "all"
    utterances: int | None = Field(None, gt=0)
    every_speaker: int = Field(1, gt=0)

    @pydantic.model_validator(mode="after")
    def _part_has_a_size(self) -> "UtteranceSet":
        if (self.part == "all") != (self.utterances is None):
            raise ValueError("part first or last wants utterances, how many; and utterances want part first or last")
        return self


class UtteranceSetsConfig(Config):
    """Sets of utterances by name; each becomes a split of the stage's manifests."""

    sets: dict[Name, UtteranceSet] = Field(min_length=1)


class UtteranceDrawsConfig(UtteranceSetsConfig):
    """Sets of utterances, of which some are drawn: as many as come nearest to so many seconds, one at least.

    of: so many seconds of each speaker, or of all together. The seed decides which.
    """

    seconds: float = Field(gt=0)
    of: Literal["speaker", "set"] = "speaker"


def make_sets(
    inputs: Mapping[str, Path], config: UtteranceSetsConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Manifests with a split for each set, and the references of its utterances."""
    summary = {}
    for name, wanted in config.sets.items():
        texts, speakers = read_references(inputs["manifests"], wanted.split)
        present = {utterance.id: utterance for utterance in read_manifest(inputs["manifests"], wanted.split)}
        generator = np.random.default_rng([context.seed, sum(map(ord, wanted.split))])
        chosen: list[str] = []
        for speaker in sorted(set(speakers.values()))[::wanted.every_speaker]:
            of_speaker = sorted(identifier for identifier in texts if speakers[identifier] == speaker)
            part = list(_part(of_speaker, wanted))
            if isinstance(config, UtteranceDrawsConfig) and config.of == "speaker":
                part = _draw(part, config.seconds, present, generator)
            chosen += part
        if isinstance(config, UtteranceDrawsConfig) and config.of == "set":
            chosen = _draw(chosen, config.seconds, present, generator)
        kept = [present[identifier] for identifier in chosen if identifier in present]
        if not kept:
            raise InputError(f"set {name}: no utterance of {wanted.split} is left for it")
        write_manifest(output, name, kept)
        write_transcripts(output / REFERENCES / name / "text", {one: texts[one] for one in sorted(chosen)})
        write_utt2spk(output / REFERENCES / name / "utt2spk", {one: speakers[one] for one in sorted(chosen)})
        seconds = sum(utterance.duration for utterance in kept)
        number = len({utterance.speaker for utterance in kept})
        summary[name] = {"utterances": len(kept), "speakers": number, "seconds": round(seconds, 1),
                         "seconds_per_speaker": round(seconds / number, 2)}
    return summary


def _part(of_speaker: Sequence[str], wanted: UtteranceSet) -> Sequence[str]:
    if wanted.utterances is None:
        return of_speaker
    return of_speaker[:wanted.utterances] if wanted.part == "first" else of_speaker[-wanted.utterances:]


def _draw(
    names: Sequence[str], seconds: float, present: Mapping[str, Utterance], generator: np.random.Generator
) -> list[str]:
    """Draw some of the utterances that have audio."""
    chosen: list[str] = []
    total = 0.0
    for number in generator.permutation(len(names)):
        name = names[number]
        if name not in present:
            continue
        duration = present[name].duration
        if chosen and abs(total + duration - seconds) >= abs(total - seconds):
            break
        chosen.append(name)
        total += duration
    return sorted(chosen)


class SetFeaturesConfig(Config):
    """Features of sets of utterances, taken from those of the splits that they are parts of."""


def copy_features(
    inputs: Mapping[str, Path], config: SetFeaturesConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A frame store for each set of the manifests, with frames of the input `features`.

    InputError: features that were normalised, or adapted, over more speech of a speaker than the set has; those are to
    be made anew.
    """
    stores = [FrameStore.open(folder) for folder in sorted(inputs["features"].iterdir()) if folder.is_dir()]
    holder = {name: store for store in stores for name in store.ids}
    summary = {}
    for split in list_splits(inputs["manifests"]):
        names = [utterance.id for utterance in read_manifest(inputs["manifests"], split) if utterance.id in holder]
        if not names:
            raise InputError(f"{inputs['features']}: no features of the set {split}")
        source = holder[names[0]]
        if source.recipe.get("kind") == "fmllr" or source.recipe.get("normalisation") == "speaker":
            raise InputError(f"{source.folder}: depends on all speech of a speaker, and the set {split} has only a "
                             "part; make its features anew")
        with FrameStoreWriter(output / split, source.dim, source.dtype, source.recipe, source.supervision) as writer:
            for name in names:
                writer.add(name, source.speakers[name], holder[name][name])
        summary[split] = {"utterances": len(names)}
    return summary
