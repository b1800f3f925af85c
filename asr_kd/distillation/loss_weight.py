"""λ, the weight of distillation beside cross-entropy, in the course of a training."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asr_kd.distillation.config import WeightScheduleConfig
from asr_kd.training.parts import add_up_parts


def scheduled_weight(config: WeightScheduleConfig, first: float, progress: float) -> float:
    """λ after `progress` (0 to 1) of a training: fixed, or from `first` to `last` in a line or half a cosine (both
    ours, to compare with)."""
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
    they agree, less, in favour of the task, where they are at odds, but no less than r |cos φ|, that edge of the window
    at which distillation would begin to suffer (below cos φ = -1/2 λ rises again by it). arXiv 2505.06270 says that λ
    should follow norms and angle; its own schedule is not published, so this is in its spirit only. The step of an
    optimiser such as Adam is not along g, so there the rule is a balance of the two gradients, no promise.

    λ is in proportion to ‖g_t‖ and so to q, the weight of cross-entropy: where the bounds do not bind, q scales the
    whole loss and nothing else, and Adam, which does not see a loss's scale, trains alike with any.

    Norms and cosine are smoothed over the looks, the rule's λ is clipped to [lowest, highest] (ValueError where the
    first is outside). Gradients are looked at every `every` steps, by the chosen parameters only, which bounds the
    cost: two more backward passes down to them. Its state stays on the CPU, so that steps without a look do not wait
    for a GPU. All parts of a minibatch (shards, processes) take the same λ, by the gradients of the whole; none may be
    empty.
    """

    moments: Tensor  # ‖g_t‖, ‖g_d‖, cos φ, smoothed
    looks: Tensor
    steps: Tensor
    weight: Tensor  # λ as it stands

    def __init__(self, config: WeightScheduleConfig, first: float, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        if not parameters:
            raise ValueError("no parameters whose gradients could be looked at")
        if not all(parameter.requires_grad for parameter in parameters):
            raise ValueError("some of the parameters whose gradients are looked at are not trained")
        config.check_first(first)
        self.config = config
        self._parameters_looked_at = tuple(parameters)
        self._seconds = 0.0
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("weight", torch.tensor(float(first), dtype=torch.float64))
        self._first = first

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "DynamicWeight":
        return self

    def forward(self, task: Tensor, distillation: Tensor, frames: int = 1) -> float:
        """λ for this step, where both losses are means over so many frames; their graph is kept."""
        self._seconds = 0.0
        if int(self.steps) % self.config.every == 0:
            began = time.perf_counter()
            self._look(task, distillation, frames)
            self._seconds = time.perf_counter() - began
        self.steps += 1
        return self.current

    @property
    def current(self) -> float:
        """λ as it stands."""
        return float(self.weight)

    def measures(self) -> dict[str, float]:
        """Return the last norms of both gradients, the cosine between them, and the time of measuring in this step."""
        task, distillation, cosine = self.moments.tolist()
        return {"task_gradient_norm": task, "distillation_gradient_norm": distillation, "gradient_cosine": cosine,
                "weighing_ms": 1000 * self._seconds}

    def _look(self, task: Tensor, distillation: Tensor, frames: int) -> None:
        gradients = [torch.cat([part.flatten().double() for part in torch.autograd.grad(
            frames * loss, self._parameters_looked_at, retain_graph=True, allow_unused=True, materialize_grads=True)])
            for loss in (task, distillation)]
        counted = torch.cat([*gradients, gradients[0].new_tensor([frames])])
        counted = add_up_parts(counted)
        task_gradient, kd_gradient = (counted[:-1] / counted[-1]).view(2, -1)
        norms = task_gradient.norm(), kd_gradient.norm()
        cosine = torch.dot(task_gradient, kd_gradient) / (norms[0] * norms[1]).clamp_min(1e-300)
        seen = torch.stack([*norms, cosine]).cpu()
        kept = self.config.smoothing if int(self.looks) else 0.0
        self.moments.mul_(kept).add_((1 - kept) * seen)
        self.looks += 1
        task_norm, distillation_norm, smoothed_cosine = self.moments.tolist()
        config = self.config
        rule = balanced_weight(task_norm, distillation_norm, smoothed_cosine, config.lowest, config.highest)
        self.weight.fill_(self._first + config.strength * (rule - self._first))


def balanced_weight(task_norm: float, distillation_norm: float, cosine: float, lowest: float, highest: float) -> float:
    """λ = r (1 + cos φ), r = ‖g_t‖ / ‖g_d‖, in [lowest, highest]; where gradients are at odds at least r |cos φ|."""
    ratio = task_norm / max(distillation_norm, 1e-300)
    weight = ratio * (1 + cosine)
    if cosine < 0:
        weight = max(weight, ratio * -cosine)
    return min(max(weight, lowest), highest)
