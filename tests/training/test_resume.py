"""SIGKILL anywhere in training, and the same weights in the end, bit for bit."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asr_kd.core.errors import WorkError
from asr_kd.core.own_folders import mark_folder
from asr_kd.models.dnn import DNN
from asr_kd.training.checkpoints import RunState, read_checkpoint, restore_tensors, write_checkpoint
from asr_kd.training.objective import CrossEntropy
from tests.training.corpora import write_corpus


def start(store: Path, work: Path, output: Path, seconds_a_step: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.training.killed_run", str(store), str(work), str(output),
               str(seconds_a_step)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def newest_step(work: Path) -> int:
    """The global step of the newest whole checkpoint, -1 where there is none."""
    try:
        states = [json.loads(path.read_text()) for path in work.glob("checkpoint-*/state.json")]
    except (OSError, json.JSONDecodeError):  # replaced while we looked
        return -1
    return max((state["global_step"] for state in states), default=-1)


def test_killed_twice_and_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    np.save(tmp_path / "store.npy", pdf_ids)
    whole = start(tmp_path / "store", tmp_path / "whole", tmp_path / "whole.safetensors", 0.0)
    work = tmp_path / "killed"
    for kill_after in (8, 40):  # within the first epoch, within the second
        process = start(tmp_path / "store", work, tmp_path / "killed.safetensors", 0.02)
        deadline = time.monotonic() + 120
        while newest_step(work) < kill_after:
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()  # type: ignore[union-attr]
        assert not (tmp_path / "killed.safetensors").exists()
    last = start(tmp_path / "store", work, tmp_path / "killed.safetensors", 0.0)
    for process in (whole, last):
        process.communicate(timeout=120)
        assert process.returncode == 0
    expected, found = load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "killed.safetensors")
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name
    # The log, too, reads as if nothing had happened.
    curves = [[{key: value for key, value in json.loads(line).items() if key not in ("seconds", "frames_per_second")}
               for line in (tmp_path / run / "train.jsonl").read_text().splitlines()] for run in ("whole", "killed")]
    assert curves[0] == curves[1]


def test_remains_of_a_killed_checkpoint_are_ignored_and_removed(tmp_path: Path) -> None:
    model = DNN(4, 3, 1, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    write_checkpoint(tmp_path, RunState("k", "float32", 1, epoch=1), model, CrossEntropy(), optimiser, {})
    remains = tmp_path / ".checkpoint-0002-00000000.tmp-0123456789ab"
    remains.mkdir()
    mark_folder(remains, "checkpoint")
    (remains / "state.safetensors").write_bytes(b"half")
    found = read_checkpoint(tmp_path, "k")
    assert found is not None and found[0].epoch == 1
    assert not remains.exists()


def test_a_checkpoint_restores_weights_optimiser_and_generator(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = DNN(4, 3, 1, 2, batch_norm=True)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.randn(8, 4)).sum().backward()
    optimiser.step()
    best = {name: value + 1 for name, value in model.state_dict().items()}
    write_checkpoint(tmp_path, RunState("k", "float32", 1, best_loss=2.5), model, CrossEntropy(), optimiser, best)
    draw = torch.rand(3)
    other = DNN(4, 3, 1, 2, batch_norm=True)
    other_optimiser = torch.optim.AdamW(other.parameters(), fused=True)
    found = read_checkpoint(tmp_path, "k")
    assert found is not None and found[0].best_loss == 2.5
    restored_best = restore_tensors(found[1], other, CrossEntropy(), other_optimiser)
    assert torch.equal(torch.rand(3), draw)
    assert all(torch.equal(value, restored_best[name]) for name, value in best.items())
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(optimiser.state[a]["exp_avg_sq"], other_optimiser.state[b]["exp_avg_sq"])
        assert torch.equal(optimiser.state[a]["step"], other_optimiser.state[b]["step"])


def test_a_full_disk_keeps_the_checkpoint_before_and_says_so(tmp_path: Path) -> None:
    model = DNN(4, 300, 1, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    write_checkpoint(tmp_path, RunState("k", "float32", 1, epoch=1), model, CrossEntropy(), optimiser, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk had 1,000 bytes left
    try:
        with pytest.raises(WorkError, match="cannot be written.*make room"):
            write_checkpoint(tmp_path, RunState("k", "float32", 1, epoch=2), model, CrossEntropy(), optimiser, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = read_checkpoint(tmp_path, "k")
    assert found is not None and found[0].epoch == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0001-00000000"]
