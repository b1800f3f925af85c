"""Masks over what a network hears."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd.models.highway import HighwayDNN
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData
from asr_kd.training.engine import train
from asr_kd.training.masking import MaskingConfig, mask_spliced
from asr_kd.training.objective import CrossEntropy, NetworkOutputs, forward_loss
from tests.training.corpora import DIM, PDFS, write_corpus

SPLICE, WIDE = 15, 40


@pytest.mark.parametrize(("config", "axis", "widest"), [
    (MaskingConfig(feature_masks=1, feature_width=8), 1, 8), (MaskingConfig(time_masks=1, time_width=4), 0, 4)])
def test_masks_are_bands_of_every_width_and_place(config: MaskingConfig, axis: int, widest: int) -> None:
    torch.manual_seed(0)
    masked = mask_spliced(torch.ones(4000, SPLICE * WIDE), SPLICE, config).view(4000, SPLICE, WIDE)
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    along = masked.amin(2 - axis)  # the other axis is masked as a whole
    assert torch.equal(along, masked.amax(2 - axis))
    hidden = along == 0
    widths = hidden.sum(-1)
    assert set(widths.tolist()) == set(range(widest + 1))
    assert torch.bincount(widths).min() > 0.7 * 4000 / (widest + 1)
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(-1) + hidden[:, 0].long() + hidden[:, -1].long()
    assert set(edges.tolist()) == {0, 2}, "one band without a gap"
    assert hidden.any(0).all()


def test_no_masks_change_nothing_and_several_fall_apart() -> None:
    inputs = torch.randn(50, SPLICE * WIDE)
    assert torch.equal(mask_spliced(inputs, SPLICE, MaskingConfig()), inputs)
    torch.manual_seed(0)
    masked = mask_spliced(torch.ones(2000, WIDE), 1, MaskingConfig(feature_masks=2, feature_width=6))
    assert 6 < (masked == 0).sum(-1).max() <= 12


def test_the_student_hears_masks_and_its_teacher_does_not(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1)
    heard: list[torch.Tensor] = []

    class Listening(CrossEntropy):
        def forward(self, logits: torch.Tensor, minibatch: object, hidden: torch.Tensor | None = None) -> torch.Tensor:
            heard.append(minibatch.inputs)  # type: ignore[attr-defined]
            return super().forward(logits, minibatch, hidden)  # type: ignore[arg-type]

    torch.manual_seed(0)
    model, by_model = HighwayDNN(3 * DIM, 8, 2, PDFS), []
    model.register_forward_pre_hook(lambda _, inputs: by_model.append(inputs[0]))
    settings = TrainingConfig(epochs=1, batch_size=64, precision="float32", shards=1, threads=1, tensorboard=False,
                              held_out_speakers=1, masking=MaskingConfig(feature_masks=1, feature_width=2))
    train(model, data, Listening(), settings, tmp_path / "work")
    masked = [(own != clean).any(0).any().item() for own, clean in zip(by_model[-len(heard):], heard, strict=True)]
    steps = len(data.batches(64, 0, 0))
    assert all(masked[:steps]) and not any(masked[steps:]), "training is masked, cross-validation is not"
    assert all(np.isfinite(clean.numpy()).all() and (clean != 0).all() for clean in heard)
    loss, _ = forward_loss(NetworkOutputs(model, False), CrossEntropy(),
                           data.minibatch(data.cv_frames).to(torch.device("cpu")), "float32")
    assert torch.isfinite(loss)
