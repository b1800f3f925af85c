"""Training from CUDA graphs is training."""

from pathlib import Path

import pytest
import torch

from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.training import engine
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData
from asr_kd.training.engine import train
from asr_kd.training.graphs import graphed
from asr_kd.training.objective import CrossEntropy
from tests.training.corpora import write_corpus


def test_a_cpu_has_no_graphs() -> None:
    assert graphed(HighwayDNN(6, 4, 3, 5), CrossEntropy(), torch.zeros(7, 6), "float32") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_networks_that_draw_or_count_while_they_train_are_left_alone() -> None:
    inputs = torch.randn(7, 6, device="cuda")
    for model in (HighwayDNN(6, 4, 3, 5, dropout=0.1), DNN(6, 4, 3, 5, batch_norm=True)):
        assert graphed(model.cuda(), CrossEntropy(), inputs, "float32") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_the_same_with_and_without_graphs(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = TrainingData(*write_corpus(tmp_path / "store"), held_out_speakers=2)
    config = TrainingConfig(epochs=3, schedule="one_cycle", precision=precision, device="cuda")
    torch.manual_seed(0)
    start = HighwayDNN(data.input_dim, 16, 3, data.num_pdfs_needed).state_dict()
    losses = []
    for with_graphs in (True, False):
        if not with_graphs:
            monkeypatch.setattr(engine, "graphed", lambda *arguments: None)
        model = HighwayDNN(data.input_dim, 16, 3, data.num_pdfs_needed)
        model.load_state_dict(start)
        result = train(model, data, CrossEntropy(), config, tmp_path / f"{with_graphs}")
        losses.append([record["cv_loss"] for record in result.history])
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02 if precision == "bfloat16" else 1e-4, atol=0)
