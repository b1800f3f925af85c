"""The loss of adaptation: what teaches, and what keeps the network near the unadapted one."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from asr_kd.adaptation.data import ANCHOR_WEIGHTS
from asr_kd.distillation.divergence import SparseDistillationLoss
from asr_kd.training.data import Minibatch
from asr_kd.training.objective import Objective


class AnchoredObjective(Objective):
    """`objective + mean(anchor weight · KL(unadapted ‖ adapted)) + l2_weight / 2 · ‖θ - θ₀‖²`.

    The anchor, posteriors of the unadapted network and their weights, comes with each minibatch. With (1 - ρ) in the
    objective's own frame weights it is the KL-regularised adaptation of Yu, Yao, Su, Li, Seide, ICASSP 2013. In
    evaluation mode it is `objective` alone, by which epochs are compared. moved: the parameters θ that are adapted, by
    name; their values now are θ₀.
    """

    def __init__(self, objective: Objective, moved: Mapping[str, nn.Parameter], l2_weight: float = 0.0) -> None:
        super().__init__()
        self.objective, self.l2_weight = objective, l2_weight
        self.targets_digest = objective.targets_digest
        self.reads_hidden, self.reads_pdf_ids = objective.reads_hidden, objective.reads_pdf_ids
        self.collective, self.takes_gradients = objective.collective, objective.takes_gradients
        self._divergence = SparseDistillationLoss()
        self._moved = list(moved.values()) if l2_weight else []
        for number, parameter in enumerate(self._moved):
            self.register_buffer(f"start_{number}", parameter.detach().clone(), persistent=False)

    def forward(self, logits: Tensor, minibatch: Minibatch, hidden: Tensor | None = None) -> Tensor:
        """logits (batch, pdfs) -> scalar."""
        loss: Tensor = self.objective(logits, minibatch, hidden)
        if not self.training:
            return loss
        targets = minibatch.targets
        if ANCHOR_WEIGHTS in targets:
            loss = loss + self._divergence(logits, targets["anchor_pdf_ids"], targets["anchor_log_probs"],
                                           targets["anchor_log_tail"], targets[ANCHOR_WEIGHTS])
        for number, parameter in enumerate(self._moved):
            start = self.get_buffer(f"start_{number}")
            loss = loss + self.l2_weight / 2 * (parameter - start).square().sum()
        return loss

    def describe(self) -> dict[str, Any]:
        return {"objective": "anchored", "l2_weight": self.l2_weight, "learns": self.objective.describe()}

    def set_progress(self, progress: float) -> None:
        self.objective.set_progress(progress)

    def take_measures(self) -> dict[str, float]:
        return self.objective.take_measures()

    def damaged(self, minibatch: Minibatch) -> Tensor:
        return self.objective.damaged(minibatch)

    def describe_state(self) -> dict[str, float]:
        return self.objective.describe_state()
