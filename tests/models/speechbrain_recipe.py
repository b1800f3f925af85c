"""A SpeechBrain recipe that trains a HighwayDNN: `python -m tests.models.speechbrain_recipe`.

Prints the mean loss of the first and of the last epoch.
"""

from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from asr_kd.core.torchaudio_stub import import_torchaudio
from asr_kd.models.highway import HighwayDNN


def main() -> None:
    import_torchaudio()
    import speechbrain as sb

    class FrameClassifier(sb.Brain):  # type: ignore[misc]
        losses: list[float] = []

        def compute_forward(self, batch: list[torch.Tensor], stage: Any) -> torch.Tensor:
            return self.modules.network(batch[0]).log_softmax(-1)

        def compute_objectives(self, predictions: torch.Tensor, batch: list[torch.Tensor], stage: Any) -> torch.Tensor:
            loss = torch.nn.functional.nll_loss(predictions, batch[1])
            self.losses.append(loss.item())
            return loss

    torch.manual_seed(0)
    inputs = torch.randn(512, 12)
    labels = (inputs @ torch.randn(12, 4)).argmax(-1)
    batches = DataLoader(TensorDataset(inputs, labels), batch_size=64)
    brain = FrameClassifier({"network": HighwayDNN(12, 16, 3, 4)}, lambda p: torch.optim.Adam(p, 0.02),
                            run_opts={"device": "cpu"})
    brain.fit(range(8), batches, progressbar=False)
    print(sum(brain.losses[:8]) / 8, sum(brain.losses[-8:]) / 8)


if __name__ == "__main__":
    main()
