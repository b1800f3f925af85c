"""Settings of adaptation: what moves, what holds it back, how long it is trained."""

from typing import Literal

from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.distillation.config import DistillationConfig
from asr_kd.features.running_prior import RunningPriorConfig
from asr_kd.sequence.config import CriterionConfig
from asr_kd.training.config import Precision, TrainingConfig

LEARNING_RATES = {"gates": 1e-3, "lhuc": 0.03, "all": 1e-4}
"""Of groups of parameters, chosen on dev; other groups take that of the gates."""


class AdaptationTrainingConfig(TrainingConfig):
    """Settings of the training engine for seconds of speech: few epochs, a constant rate, dropout at rest.

    The epochs of a constant schedule are prefixes of each other, so that cross-validation may choose their number.
    """

    epochs: int = Field(5, gt=0)
    batch_size: int = Field(256, gt=0, description="frames, replayed ones included")
    learning_rate: float | None = Field(  # type: ignore[assignment]
        None, gt=0, description="null: that of what moves, see `LEARNING_RATES`")
    schedule: Literal["newbob", "one_cycle", "constant"] = "constant"
    keep: Literal["best", "last"] = "last"
    evaluation_mode: bool = True
    shards: int = Field(1, ge=0)
    precision: Precision = "float32"


class AdaptationConfig(Config):
    """Settings of what moves in a network, by which loss, and of what holds it back.

    What is to be chosen is chosen inside the set: by the loss of parts of it that were not adapted on.
    criterion: with transcripts, sMBR or MPE over lattices in the place of the frame objective, which smooths it then.
    running_prior: of what a stream of this speech begins with; null: as the network's features do.
    parameters: groups of `asr_kd.models.parameter_groups`, `lhuc`, or patterns over parameter names. distillation: the
    frame objective; transcripts, first pass and teacher alike give it posteriors to learn from.
    """

    parameters: list[str] = Field(["gates"], min_length=1)
    running_prior: RunningPriorConfig | None = RunningPriorConfig()
    distillation: DistillationConfig = DistillationConfig()
    criterion: CriterionConfig | None = None
    kl_weight: float | None = Field(None, ge=0, lt=1, description="ρ: targets are (1 - ρ) of what teaches and ρ of "
                                    "the unadapted network's posteriors (Yu et al., ICASSP 2013); null: chosen of "
                                    "`kl_weights`")
    kl_weights: list[float] = Field([0.2, 0.5], min_length=1, description="among these one is chosen; the last, where "
                                    "the set has no parts")
    choose_epochs: bool = Field(True, description="stop after the epoch that is best on parts that were not adapted "
                                "on; else after all")
    l2_weight: float = Field(0.0, ge=0, description="of half the squared distance from the unadapted parameters")
    replay_share: float = Field(0.0, ge=0, lt=1, description="share of each minibatch that is training speech of the "
                                "reserve, which the network is to hear as before")
    training: AdaptationTrainingConfig = AdaptationTrainingConfig()

    def training_settings(self) -> AdaptationTrainingConfig:
        """The settings of training with a learning rate: the given one, or the least of those of what moves."""
        if self.training.learning_rate is not None:
            return self.training
        rate = min(LEARNING_RATES.get(group, LEARNING_RATES["gates"]) for group in self.parameters)
        return self.training.model_copy(update={"learning_rate": rate})
