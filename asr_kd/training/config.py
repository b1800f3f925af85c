"""Settings of the training engine."""

import importlib.util
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from asr_kd.core.config import Config, ExecutionOnly
from asr_kd.training.masking import MaskingConfig

Precision = Literal["auto", "float32", "bfloat16"]
PositiveCount = Annotated[int, Field(gt=0)]


class TrainingConfig(Config):
    """Settings of one training run, of a teacher or a student, with any objective."""

    epochs: int = Field(12, gt=0, description="newbob: at most; else exactly so many")
    batch_size: int = Field(512, gt=0, description="frames; of whole utterances, at most so many")
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, description="newbob: the first; one_cycle: the highest")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(0.0, ge=0, description="decoupled from the gradient; on matrices, not on biases")
    gradient_clip: float = Field(0.0, ge=0, description="highest norm of the gradient of all that is trained; 0: no "
                                 "limit")
    gradient: Literal["mean", "sum"] = Field("mean", description="over the frames of a minibatch; sum, as Kaldi's "
                                            "trainers have it, is what the rates of sequence training are for")
    judge_start: bool = Field(False, description="cross-validate the initial weights too, and keep them where no epoch "
                              "is better")
    keep: Literal["best", "last"] = Field("best", description="the epoch whose weights the model has in the end: that "
                                          "of the least CV loss, or the last; newbob: best")
    collapse_below: float = Field(0.0, ge=0, le=1, description="with judge_start: an epoch after which the CV frame "
                                  "accuracy is below this share of the start's is the last, and is not kept")
    masking: MaskingConfig = MaskingConfig()
    evaluation_mode: bool = Field(False, description="train without dropout and with batch norms as they are")
    schedule: Literal["newbob", "one_cycle", "constant"] = Field(
        "newbob", description="newbob ends when the CV loss does not fall: what an objective changes in the course of "
        "training (λ, σ) goes by `epochs` then, and may be on its way")
    newbob_halve_below: float = Field(0.01, ge=0, description="relative improvement of the CV loss below which "
                                      "the learning rate is halved from then on")
    newbob_stop_below: float = Field(0.001, ge=0, description="relative improvement, once halving, that stops")
    warm_up: float = Field(0.1, ge=0, lt=1, description="part of a one_cycle run spent going up")
    held_out_speakers: PositiveCount | list[str] = Field(
        10, description="training speakers kept for cross-validation (CV): how many, or which")
    precision: Precision = Field(
        "auto", description="of the network's products; auto: bfloat16 where this machine's matrix products gain by it")
    shards: int = Field(0, ge=0, description="parts of a minibatch on a CPU, each of which one thread trains on; they, "
                        "not the threads, decide the last digits of the result; 0: one for 512 frames, but at least 2")
    threads: Annotated[int, ExecutionOnly()] = Field(
        0, ge=0, description="that train at a time, at most one a shard; 0: as many as there are cores")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_minutes: Annotated[float, ExecutionOnly()] = Field(
        2.0, gt=0, description="between checkpoints within an epoch")
    checkpoint_steps: Annotated[int, ExecutionOnly()] = Field(
        0, ge=0, description="the same in minibatches; 0: by minutes only")
    log_steps: Annotated[int, ExecutionOnly()] = Field(
        200, gt=0, description="minibatches between lines of the log")
    tensorboard: Annotated[bool, ExecutionOnly()] = Field(
        False, description="also write TensorBoard events (extra `tensorboard`)")

    @pydantic.model_validator(mode="after")
    def _tensorboard_is_installed(self) -> "TrainingConfig":
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError("tensorboard is on, but the package is not installed; install the extra `tensorboard`")
        return self

    @pydantic.model_validator(mode="after")
    def _newbob_keeps_the_best(self) -> "TrainingConfig":
        if self.schedule == "newbob" and self.keep == "last":
            raise ValueError("newbob goes back to the best epoch; keep is best with it")
        return self

    @pydantic.model_validator(mode="after")
    def _stop_is_below_halve(self) -> "TrainingConfig":
        if self.newbob_stop_below > self.newbob_halve_below:
            raise ValueError("newbob_stop_below is above newbob_halve_below")
        return self
