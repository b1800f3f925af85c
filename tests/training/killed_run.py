"""A training run in a process of its own, for the tests that kill it: `python -m tests.training.killed_run
STORE WORK OUT SECONDS`.

Each step takes SECONDS longer. The final weights go to OUT.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from asr_kd.features.frame_store import FrameStore
from asr_kd.models.dnn import DNN
from asr_kd.training import engine
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData
from asr_kd.training.objective import CrossEntropy

CONFIG = TrainingConfig(epochs=4, batch_size=32, learning_rate=0.003, held_out_speakers=2, checkpoint_steps=3,
                        log_steps=2, precision="float32", threads=1, gradient_clip=1.0, tensorboard=False)


def main(store_folder: str, work: str, output: str, seconds_a_step: str) -> None:
    store = FrameStore.open(Path(store_folder))
    data = TrainingData(store, np.load(store_folder + ".npy"), left=1, right=1, held_out_speakers=2)
    torch.manual_seed(0)
    # Batch normalisation and dropout: running statistics and the generator must be resumed too.
    model = DNN(data.input_dim, 32, 2, 6, batch_norm=True, dropout=0.2)

    class Slow(CrossEntropy):
        def forward(self, logits, minibatch):  # type: ignore[no-untyped-def]
            time.sleep(float(seconds_a_step))
            return super().forward(logits, minibatch)

    engine.train(model, data, Slow(), CONFIG, Path(work), seed=3)
    save_file(model.state_dict(), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
