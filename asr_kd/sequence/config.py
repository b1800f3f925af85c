"""Settings of sequence training."""

from typing import Literal

import pydantic
from pydantic import Field

from asr_kd.core.bounds import AcousticScale
from asr_kd.core.config import Config
from asr_kd.training.config import TrainingConfig


class CriterionConfig(Config):
    """The criterion over lattices, and its smoothing.

    criterion: smbr and mpe: expected accuracy of states and of phones; mmi; distillation: nearness to the paths of the
    teacher's lattice. The loss of an utterance is -(1 / acoustic_scale) · criterion + smoothing · the sum of its
    frames' loss, so that rates and smoothing mean what they do in arXiv 1608.00892, eq. 13, and in Kaldi.
    """

    criterion: Literal["smbr", "mpe", "mmi", "distillation"] = "smbr"
    acoustic_scale: AcousticScale = 0.1
    one_silence_class: bool = Field(True, description="smbr, mpe: any silence is right where there is silence")
    boost: float = Field(0.0, ge=0, description="mmi: how much likelier a path gets with each frame of a wrong phone, "
                         "silence apart")
    reject_frames: bool = Field(False, description="mmi: frames where no path has the numerator's pdf teach nothing")
    smoothing: float = Field(0.0, ge=0, description="p, weight of the frame loss: cross-entropy, or with a teacher "
                             "among the inputs what `distillation` says")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "CriterionConfig":
        if self.criterion != "mmi" and (self.boost or self.reject_frames):
            raise ValueError("boost and reject_frames are of the criterion mmi")
        return self


class SequenceTrainingConfig(TrainingConfig):
    """Settings of the training engine for whole utterances: few passes of plain SGD, the gradient summed.

    How many passes is for dev's WER to say: the loss of a few held-out speakers may turn while WER still falls.
    """

    epochs: int = Field(4, gt=0, description="passes over the training lattices; newbob: at most")
    batch_size: int = Field(2048, gt=0, description="frames: a step takes whole utterances of at most so many; longer "
                            "utterances are dropped and named")
    batch_arcs: int = Field(1_000_000, gt=0, description="arcs of their lattices, at most so many to a step too")
    optimiser: Literal["adam", "sgd"] = "sgd"
    learning_rate: float = Field(1e-6, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    schedule: Literal["newbob", "one_cycle", "constant"] = "constant"
    gradient: Literal["mean", "sum"] = "sum"
    gradient_clip: float = Field(5000.0, ge=0, description="highest norm of the gradient, summed over batch_size "
                                 "frames; 0: no limit")
    keep: Literal["best", "last"] = "last"
    collapse_below: float = Field(0.8, ge=0, le=1)
    judge_start: bool = True
    evaluation_mode: bool = True
