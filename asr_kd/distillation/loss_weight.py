"""λ, the weight of distillation beside cross-entropy, in the course of a training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asr_kd.distillation.config import WeightScheduleConfig


def scheduled_weight(config: WeightScheduleConfig, first: float, progress: float) -> float:
    """λ after `progress` (0 to 1) of a training: fixed, or from `first` to `last` in a line or half a cosine."""
    if config.schedule == "linear":
        return first + (config.last - first) * progress
    if config.schedule == "cosine":
        return config.last + (first - config.last) * 0.5 * (1 + math.cos(math.pi * progress))
    return first


class DynamicWeight(nn.Module):
    """λ from the norms of the two gradients and the angle φ between them.

    A step of size η along g = g_t + λ g_d, the gradients of the task (cross-entropy) and of distillation, changes both
    losses, to first order, by

        ΔL_task = -η (‖g_t‖² + λ ‖g_t‖ ‖g_d‖ cos φ),    ΔL_kd = -η (‖g_t‖ ‖g_d‖ cos φ + λ ‖g_d‖²).

    With r = ‖g_t‖ / ‖g_d‖ both fall for every λ > 0 where cos φ ≥ 0, and where cos φ < 0 for λ between r |cos φ| and
    r / |cos φ|, whose geometric mean is r: there both fall by the same share of what each alone would give, ΔL_task /
    ‖g_t‖² = ΔL_kd / (λ ‖g_d‖²). The rule, ours, is λ = r (1 + cos φ): r where the gradients are orthogonal, more where
    they agree, less, in favour of the task, where they are at odds, but no less than that edge of the window at which
    distillation would begin to suffer. arXiv 2505.06270 says that λ should follow norms and angle; its own schedule is
    not published, so this is in its spirit only.

    Norms and cosine are smoothed over the looks, λ is clipped to [lowest, highest]. Gradients are looked at every
    `every` steps, by the chosen parameters only, which bounds the cost: two more backward passes down to them.
    """

    moments: Tensor  # ‖g_t‖, ‖g_d‖, cos φ, smoothed
    looks: Tensor
    steps: Tensor
    weight: Tensor  # λ as it stands

    def __init__(self, config: WeightScheduleConfig, first: float, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        if not parameters:
            raise ValueError("no parameters whose gradients could be looked at")
        self.config = config
        self._parameters_looked_at = tuple(parameters)
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("weight", torch.tensor(float(first), dtype=torch.float64))
        self._first = first

    def forward(self, task: Tensor, distillation: Tensor) -> float:
        """λ for this step; the graph of both losses is kept."""
        if int(self.steps) % self.config.every == 0:
            self._look(task, distillation)
        self.steps += 1
        return self.current

    @property
    def current(self) -> float:
        """λ as it stands."""
        return float(self.weight)

    def measures(self) -> dict[str, float]:
        """What was seen last: norms of both gradients, the cosine between them."""
        task, distillation, cosine = (float(value) for value in self.moments)
        return {"task_gradient_norm": task, "distillation_gradient_norm": distillation, "gradient_cosine": cosine}

    def _look(self, task: Tensor, distillation: Tensor) -> None:
        gradients = [torch.autograd.grad(loss, self._parameters_looked_at, retain_graph=True)
                     for loss in (task, distillation)]
        task_gradient, kd_gradient = (torch.cat([part.flatten().double() for part in parts]) for parts in gradients)
        norms = task_gradient.norm(), kd_gradient.norm()
        cosine = torch.dot(task_gradient, kd_gradient) / (norms[0] * norms[1]).clamp_min(1e-300)
        seen = torch.stack([*norms, cosine]).cpu()
        kept = self.config.smoothing if int(self.looks) else 0.0
        self.moments.mul_(kept).add_((1 - kept) * seen)
        self.looks += 1
        task_norm, distillation_norm, smoothed_cosine = self.moments.tolist()
        rule = balanced_weight(task_norm, distillation_norm, smoothed_cosine, self.config.lowest, self.config.highest)
        self.weight.fill_(self._first + self.config.strength * (rule - self._first))


def balanced_weight(task_norm: float, distillation_norm: float, cosine: float, lowest: float, highest: float) -> float:
    """λ = r (1 + cos φ), r = ‖g_t‖ / ‖g_d‖, in [lowest, highest]; where gradients are at odds at least r |cos φ|."""
    ratio = task_norm / max(distillation_norm, 1e-300)
    weight = ratio * (1 + cosine)
    if cosine < 0:
        weight = max(weight, ratio * -cosine)
    return min(max(weight, lowest), highest)
