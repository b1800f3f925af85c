"""Settings of the training engine."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from asr_kd.core.config import Config

PositiveCount = Annotated[int, Field(gt=0)]


class TrainingConfig(Config):
    """Settings of one training run, of a teacher or a student, with any objective."""

    epochs: int = Field(12, gt=0, description="newbob: at most; one_cycle: exactly so many")
    batch_size: int = Field(512, gt=0, description="frames")
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, description="newbob: the first; one_cycle: the highest")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(0.0, ge=0, description="decoupled from the gradient; on matrices, not on biases")
    gradient_clip: float = Field(0.0, ge=0, description="highest norm of the gradient; 0: no limit")
    schedule: Literal["newbob", "one_cycle"] = "newbob"
    newbob_halve_below: float = Field(0.01, ge=0, description="relative improvement of the CV loss below which "
                                      "the learning rate is halved from then on")
    newbob_stop_below: float = Field(0.001, ge=0, description="relative improvement, once halving, that stops")
    warm_up: float = Field(0.1, ge=0, lt=1, description="part of a one_cycle run spent going up")
    held_out_speakers: PositiveCount | list[str] = Field(
        10, description="training speakers kept for cross-validation (CV): how many, or which")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the network's products; auto: bfloat16 where a training step gains by it")
    threads: int = Field(0, ge=0, description="0: one or all cores, whichever is faster at the start")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_minutes: float = Field(2.0, gt=0, description="between checkpoints within an epoch")
    checkpoint_steps: int = Field(0, ge=0, description="the same in minibatches; 0: by minutes only")
    log_steps: int = Field(200, gt=0, description="minibatches between lines of the log")
    tensorboard: bool = True

    @pydantic.model_validator(mode="after")
    def _stop_is_below_halve(self) -> "TrainingConfig":
        if self.newbob_stop_below > self.newbob_halve_below:
            raise ValueError("newbob_stop_below is above newbob_halve_below")
        return self
