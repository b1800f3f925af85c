"""A teacher whose logits are perturbed anew in every step, which regularises its student."""

import torch
from torch import Tensor

from asr_kd.distillation.config import LEAST_SIGMA, NoiseConfig
from asr_kd.models.random_numbers import shard_generator, step_generator


class NoisyTeacher:
    """z' = (1 + ξ) ∘ z with ξ ~ N(0, σ²) for each pdf, on a share α of the frames, drawn from the shard's generator,
    σ from the step's.

    Sau & Balasubramanian, arXiv 1610.09650, eq. 2 (their section 4.1 speaks of noise that is added; eq. 2 and the
    derivation of section 3.4 multiply). In expectation an L2 loss on logits gains a constant by it: the optimum stays,
    the gradients get noise. The noise goes with the size of a logit, so σ means what it says of this teacher's logits
    only: they are determined up to a constant a frame, and of an ensemble that gives log-probabilities
    (`TeacherEnsemble`, all but the mean of logits) the likeliest pdf is hardly perturbed.
    """

    def __init__(self, config: NoiseConfig) -> None:
        self.config = config
        self.sigma = config.sigma  # of the last step

    def factors(self, values: Tensor, progress: float) -> Tensor:
        """1 + ξ for each of `values` (frames, pdfs), 1 for frames that are left alone; progress: 0 to 1."""
        config = self.config
        if config.schedule == "random":
            self.sigma = LEAST_SIGMA + (config.sigma - LEAST_SIGMA) * torch.rand((), generator=step_generator()).item()
        elif config.schedule == "annealed":
            self.sigma = config.sigma * (1 - progress)
        generator = shard_generator()
        chosen = torch.rand(len(values), 1, generator=generator, device=values.device) < config.share
        noise = torch.randn(values.shape, generator=generator, device=values.device)
        return 1 + chosen * self.sigma * noise

    def perturb(self, logits: Tensor, progress: float) -> Tensor:
        """Noisy logits (frames, pdfs)."""
        return logits * self.factors(logits, progress)

    def perturb_best(
        self, log_probs: Tensor, log_tail: Tensor, log_norm: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """The same of the k best pdfs of a cache: log_probs (frames, k) and log_tail (frames,), normalised anew.

        Logits are log_probs + log_norm. The other pdfs are one class there, whose mass before normalisation stays, so
        that only with all pdfs kept this is the noise of eq. 2; with fewer it is ours. The two are close while noise is
        too weak to lift pdfs that are not kept among the likely ones.
        """
        logits = (log_probs + log_norm[:, None]) * self.factors(log_probs, progress)
        tail = log_tail + log_norm
        total = torch.logaddexp(logits.logsumexp(-1), tail)
        return logits - total[:, None], tail - total
