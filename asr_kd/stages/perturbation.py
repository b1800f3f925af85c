"""The stage that makes more training speech of what there is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest, write_manifest
from asr_kd.data.perturbation import perturb_speed


class SpeedStageConfig(Config):
    """factors: how fast the speech of `split` is played, beside as it is."""

    split: Name = "train"
    factors: list[Annotated[float, Field(gt=0)]] = Field([0.9, 1.1], min_length=1)


def add_speeds(
    inputs: Mapping[str, Path], config: SpeedStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A manifest of the split with each utterance as it is and at each other speed."""
    if len({1.0, *config.factors}) <= len(config.factors):
        raise InputError(f"factors {config.factors}: each once, and 1 is there already")
    utterances = read_manifest(inputs["manifests"], config.split)
    try:
        perturbed = [perturb_speed(utterance, factor) for factor in config.factors for utterance in utterances]
    except ValueError as error:
        raise InputError(f"{inputs['manifests']}: {error}") from error
    _check_names({u.id for u in utterances}, {u.id for u in perturbed}, "utterance", inputs["manifests"])
    _check_names({u.speaker for u in utterances}, {u.speaker for u in perturbed}, "speaker", inputs["manifests"])
    everything = [*utterances, *perturbed]
    write_manifest(output, config.split, everything)
    return {"utterances": len(everything), "hours": round(sum(u.duration for u in everything) / 3600, 3)}


def _check_names(names: set[str], copies: set[str], kind: str, manifests: Path) -> None:
    """InputError: the name of a copy is that of a real utterance or speaker."""
    if names & copies:
        raise InputError(f"{manifests}: the {kind} {min(names & copies)} has the name that a copy at another speed "
                         f"would get; rename the {kind}, or take other factors")
