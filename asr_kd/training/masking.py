"""SpecAugment for minibatches of single frames: what a network hears is masked, what it is to say of it is not."""

import torch
from pydantic import Field
from torch import Tensor

from asr_kd.core.config import Config
from asr_kd.models.random_numbers import shard_generator


class MaskingConfig(Config):
    """Masks over spliced features (Park et al., Interspeech 2019, arXiv 1904.08779); each frame is drawn on its own.

    SpecAugment masks utterances; a frame with its neighbours is a short one, so this is the same for single frames
    (ours). Masked values become 0, the mean of normalised features. On features whose dimensions are no frequencies
    (fMLLR) the masks over them are dropout of neighbouring dimensions.
    """

    feature_masks: int = Field(0, ge=0, description="how many, each over all frames of a splice")
    feature_width: int = Field(8, gt=0, description="dimensions at most; the least is none")
    time_masks: int = Field(0, ge=0, description="how many, each over all dimensions")
    time_width: int = Field(4, gt=0, description="frames at most; the least is none")

    @property
    def is_on(self) -> bool:
        return self.feature_masks > 0 or self.time_masks > 0


def mask_spliced(inputs: Tensor, splice: int, config: MaskingConfig) -> Tensor:
    """inputs (batch, splice * dim), frame by frame -> the same with masks, drawn from the shard's generator."""
    generator = shard_generator()
    spliced = inputs.view(len(inputs), splice, -1)
    for count, width, axis in ((config.time_masks, config.time_width, 1),
                               (config.feature_masks, config.feature_width, 2)):
        places = torch.arange(spliced.shape[axis], device=inputs.device)
        for _ in range(count):
            widths = torch.randint(min(width, len(places)) + 1, (len(inputs), 1), generator=generator,
                                   device=inputs.device)
            shares = torch.rand(len(inputs), 1, generator=generator, device=inputs.device)
            begins = (shares * (len(places) - widths + 1)).long()
            kept = (places < begins) | (places >= begins + widths)
            spliced = spliced * (kept[:, :, None] if axis == 1 else kept[:, None, :])
    return spliced.view(inputs.shape)
