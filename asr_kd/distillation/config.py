"""Settings of the frame objective of distillation; each switch is a published method, or called ours."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from asr_kd.core.config import Config

LEAST_SIGMA = 0.01
LARGEST_WEIGHT = 1e6  # of any term of the loss
LEAST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.1, 100.0  # beyond them float32 has no digits left for posteriors, or for T²

Temperature = Annotated[float, Field(ge=LEAST_TEMPERATURE, le=HIGHEST_TEMPERATURE)]


def check_temperature(temperature: float) -> float:
    """The temperature; ValueError where it is out of range."""
    if not LEAST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise ValueError(f"temperature is {temperature}, expected {LEAST_TEMPERATURE} to {HIGHEST_TEMPERATURE}")
    return temperature


class NoiseConfig(Config):
    """Noise on the teacher's logits (Sau & Balasubramanian, arXiv 1610.09650, eq. 2): z' = (1 + ξ) z, ξ ~ N(0, σ²).

    From a cache it is on the pdfs that are kept: for a strong σ make one of all pdfs (soft-targets: top_k).
    """

    sigma: float = Field(0.0, ge=0, le=10, description="σ; random: the largest; annealed: the first")
    share: float = Field(0.5, ge=0, le=1, description="α, the share of frames whose teacher is perturbed")
    schedule: Literal["fixed", "random", "annealed"] = Field(
        "fixed", description="random: σ uniform from 0.01 to sigma in each step (section 5.4); annealed: linearly down "
        "to 0 (ours)")

    @property
    def is_on(self) -> bool:
        return self.sigma > 0 and self.share > 0

    @pydantic.model_validator(mode="after")
    def _sigma_is_within_its_range(self) -> "NoiseConfig":
        if self.schedule == "random" and 0 < self.sigma < LEAST_SIGMA:
            raise ValueError(f"sigma is drawn from {LEAST_SIGMA} on; set the largest to that at least")
        return self


class ProjectorConfig(Config):
    """The student's last hidden layer, projected, follows the teacher's (Miles & Mikolajczyk, arXiv 2303.11098)."""

    weight: float = Field(0.0, ge=0, le=LARGEST_WEIGHT, description="of the distance in the loss")
    projector: Literal["linear", "mlp", "none"] = "linear"
    normalisation: Literal["batch_norm", "l2", "none"] = Field("batch_norm", description="of both sides, not affine")
    distance: Literal["difference", "correlation"] = Field(
        "difference", description="log Σ |Δ|^α over the differences (the paper's ImageNet code), or over how far the "
        "correlation of each dimension with the teacher's is from 1 (its DeiT code)")
    exponent: float = Field(4.0, ge=1, le=16, description="α; float32 does not hold higher powers of large differences")

    @pydantic.model_validator(mode="after")
    def _correlation_is_of_normalised_values(self) -> "ProjectorConfig":
        if self.distance == "correlation" and self.normalisation != "batch_norm":
            raise ValueError("the distance correlation is of dimensions normalised over the batch: set normalisation "
                             "to batch_norm")
        return self


class WeightScheduleConfig(Config):
    """The schedule of λ, the weight of distillation, over a training.

    dynamic: by the norms of both gradients and the angle between them (in the spirit of arXiv 2505.06270; rule ours:
    asr_kd.distillation.loss_weight). linear and cosine go from distillation_weight to `last`.
    """

    schedule: Literal["fixed", "linear", "cosine", "dynamic"] = "fixed"
    last: float = Field(0.0, ge=0, le=LARGEST_WEIGHT, description="linear, cosine: λ at the end; with 0 the task is "
                        "all that is left")
    strength: float = Field(1.0, ge=0, le=1, description="dynamic: 0 keeps distillation_weight, 1 takes the rule's λ")
    every: int = Field(10, gt=0, description="dynamic: minibatches between two looks at the gradients")
    parameters: list[str] = Field(["output"], min_length=1, description="dynamic: the group of the student whose "
                                  "gradients are looked at")
    smoothing: float = Field(0.9, ge=0, lt=1, description="dynamic: of norms and angle over the looks")
    lowest: float = Field(0.1, ge=0, description="dynamic: bounds of λ")
    highest: float = Field(10.0, gt=0, le=LARGEST_WEIGHT)

    def check_first(self, weight: float) -> None:
        """ValueError where a dynamic λ would set out from outside its bounds."""
        if not self.lowest <= weight <= self.highest:
            raise ValueError(f"distillation_weight {weight:g}, from which a dynamic weight sets out, is outside its "
                             f"bounds, {self.lowest:g} to {self.highest:g}; move it or them")

    @pydantic.model_validator(mode="after")
    def _bounds_are_in_order(self) -> "WeightScheduleConfig":
        if self.lowest > self.highest:
            raise ValueError("lowest is above highest")
        return self

    @pydantic.model_validator(mode="after")
    def _settings_are_of_the_schedule(self) -> "WeightScheduleConfig":
        usual = {name: field.get_default() for name, field in type(self).model_fields.items() if name != "schedule"}
        for name, value in usual.items():
            read_by = ("linear", "cosine") if name == "last" else ("dynamic",)
            if self.schedule not in read_by and getattr(self, name) != value:
                raise ValueError(f"{name} is nothing to the schedule {self.schedule}; leave it out")
        return self


class DistillationConfig(Config):
    """`q · CE + λ · KD(T)` and its switches; the defaults are the best of arXiv 1608.00892, table 2."""

    cross_entropy_weight: float = Field(0.0, ge=0, le=LARGEST_WEIGHT, description="q")
    distillation_weight: float = Field(1.0, ge=0, le=LARGEST_WEIGHT, description="λ")
    temperature: Temperature = Field(1.0, description="T, of both networks")
    distance: Literal["kl", "logits"] = Field(
        "kl", description="logits: half the squared difference of logits (arXiv 1610.09650, eq. 1), T unused; of "
        "several teachers by posteriors or the surest: of log-posteriors")
    noise: NoiseConfig = NoiseConfig()
    projector: ProjectorConfig = ProjectorConfig()
    weight_schedule: WeightScheduleConfig = WeightScheduleConfig()

    @property
    def distils(self) -> bool:
        """Return True if λ is above 0 at any time."""
        return self.distillation_weight > 0 or self._is_scheduled and self.weight_schedule.last > 0

    @property
    def _is_scheduled(self) -> bool:
        return self.weight_schedule.schedule in ("linear", "cosine")

    @pydantic.model_validator(mode="after")
    def _something_is_learnt(self) -> "DistillationConfig":
        if self.cross_entropy_weight == 0 and not self.distils:
            raise ValueError("cross_entropy_weight and distillation_weight are both 0: there is nothing to learn")
        if self.cross_entropy_weight == 0 and self._is_scheduled and not self.weight_schedule.last:
            raise ValueError("cross_entropy_weight is 0, and weight_schedule takes the weight of distillation to 0: "
                             "there is nothing to learn in the end; set last above 0")
        return self

    @pydantic.model_validator(mode="after")
    def _switches_have_what_they_need(self) -> "DistillationConfig":
        dynamic = self.weight_schedule.schedule == "dynamic" and self.weight_schedule.strength > 0
        if dynamic and not (self.cross_entropy_weight and self.distillation_weight):
            raise ValueError("a dynamic weight weighs two losses; set cross_entropy_weight and distillation_weight "
                             "above 0")
        if dynamic:
            self.weight_schedule.check_first(self.distillation_weight)
        if not self.distils and (self.noise.is_on or self.distance == "logits"):
            raise ValueError("noise and the distance of logits are nothing without distillation; set "
                             "distillation_weight above 0")
        if self.distance == "logits" and self.temperature != 1:
            raise ValueError("the distance of logits has no temperature; leave it at 1")
        return self
