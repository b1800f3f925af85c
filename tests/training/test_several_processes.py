"""Two processes that train together end where one ends."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json
from asr_kd.core.text_tables import read_lines
from asr_kd.training import batch_norm, tuning
from asr_kd.training.tuning import choose_threads, training_device

SCRIPT = "tests.training.several_processes"
TOGETHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", SCRIPT]


TRAININGS = ("adam,mean,cross_entropy", "sgd,sum,cross_entropy", "adam,mean,distillation", "adam,mean,dynamic",
             "adam,mean,cached", "adam,mean,difference", "sgd,mean,correlation")
DAMAGED = "adam,mean,distillation,s1-1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trainings by one process in the folder `alone`, by two in `together`; the damaged one by two alone."""
    folder = tmp_path_factory.mktemp("processes")
    start(["-m", SCRIPT], folder, folder / "alone", *TRAININGS)
    start(TOGETHER, folder, folder / "together", *TRAININGS, DAMAGED)
    return folder


def start(arguments: list[str], store: Path, work: Path, *trainings: str) -> None:
    command = [sys.executable, *arguments, str(store), str(work), *trainings]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("training", TRAININGS)
def test_two_processes_end_where_one_ends_and_have_the_same_weights(trained: Path, training: str) -> None:
    alone, together = trained / "alone" / training, trained / "together" / training
    np.testing.assert_allclose(read_json(together / "losses.json"), read_json(alone / "losses.json"), rtol=1e-4)
    first, second, single = (load_file(folder / f"weights-{number}.safetensors")
                             for folder, number in ((together, 0), (together, 1), (alone, 0)))
    for name, value in first.items():
        assert torch.equal(value, second[name])
        torch.testing.assert_close(value, single[name], rtol=1e-3, atol=1e-4)
    assert len(list(read_lines(together / "train.jsonl"))) == 3  # written by one of them


def test_whichever_process_finds_a_damaged_utterance_all_name_it(trained: Path) -> None:
    for number in (0, 1):
        error = (trained / "together" / DAMAGED / f"error-{number}").read_text()
        assert "features or targets of s1-1 are not finite; make them again" in error and "in epoch 1, step" in error


def test_each_of_several_processes_has_its_share_of_cores_and_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(tuning, "available_cores", lambda: 12)
    assert choose_threads(0) == 3 and choose_threads(5) == 5
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert training_device("cuda") == torch.device("cuda", 2) and training_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="3 GPUs are asked for, PyTorch finds 2; .* or start fewer processes"):
        training_device("cuda")


def test_layers_whose_statistics_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm2d(2))
    with batch_norm.shared_batch_norm(model):
        assert [type(layer) for layer in model] == [torch.nn.BatchNorm1d, torch.nn.BatchNorm2d]  # one process
    monkeypatch.setattr(batch_norm, "num_processes", lambda: 2)
    with (pytest.raises(InputError, match="2 processes cannot share the statistics of a BatchNorm2d"),
          batch_norm.shared_batch_norm(model)):
        pass
    with batch_norm.shared_batch_norm(model[:1]):
        assert type(model[0]) is not torch.nn.BatchNorm1d
    assert type(model[0]) is torch.nn.BatchNorm1d
