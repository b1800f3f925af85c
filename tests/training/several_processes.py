"""Started by `torchrun`, and once without: each process trains the networks of a test on its part of every
minibatch.

python -m tests.training.several_processes STORE WORK OPTIMISER,GRADIENT,OBJECTIVE[,DAMAGED]...

DAMAGED is an utterance whose features are not finite: the training ends in its error, which each process writes down.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from asr_kd.core.errors import WorkError
from asr_kd.core.files import write_json
from asr_kd.distillation.config import DistillationConfig, ProjectorConfig, WeightScheduleConfig
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.soft_targets import SoftTargets, SoftTargetsKey, build_soft_targets
from asr_kd.distillation.teachers import CachedTeacher, LiveTeacher
from asr_kd.features.frame_store import FrameStore
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import Minibatch, TrainingData, frames_digest
from asr_kd.training.distributed import rank
from asr_kd.training.engine import train
from asr_kd.training.objective import CrossEntropy, Objective
from tests.training.corpora import DIM, PDFS, write_corpus


def make_teacher() -> DNN:
    torch.manual_seed(3)
    return DNN(3 * DIM, 20, 2, PDFS)


def cached(folder: Path, store: FrameStore) -> SoftTargets:
    """One of the processes makes it, the others wait."""
    key = SoftTargetsKey(teacher="t", left=1, right=1, features=frames_digest(store), hmm="h", top_k=3)
    return build_soft_targets(folder, make_teacher(), store, key, "float32")


def objective_of(taught: str, model: HighwayDNN | DNN, targets: SoftTargets | None) -> Objective:
    """Cross-entropy, distillation, from a cache too, with a weight that follows the gradients or with a projector."""
    if taught == "cross_entropy":
        return CrossEntropy()
    teacher = LiveTeacher(make_teacher(), "teacher") if targets is None else CachedTeacher.of(targets)
    schedule = WeightScheduleConfig(schedule="dynamic", every=3) if taught == "dynamic" else WeightScheduleConfig()
    projector = ProjectorConfig(weight=0.5 if taught in ("difference", "correlation") else 0.0,
                                distance="correlation" if taught == "correlation" else "difference")
    config = DistillationConfig(cross_entropy_weight=0.5, weight_schedule=schedule, projector=projector)
    return DistillationObjective(config, teacher, student_dim=16, parameters=list(model.output_layer.parameters()))


class DamagedData(TrainingData):
    """Training data of which one utterance is not finite."""

    damaged = ""

    def minibatch(self, frame_indices: NDArray[np.int64]) -> Minibatch:
        found = super().minibatch(frame_indices)
        found.inputs[[self.damaged in self.utterances(frame_indices[[row]]) for row in range(len(frame_indices))]] = (
            torch.nan)
        return found


def main(store_folder: Path, work: Path, *trainings: str) -> None:
    together = "RANK" in os.environ
    if together:
        torch.distributed.init_process_group("gloo")
    store, pdf_ids = write_corpus(store_folder / f"store-{os.environ.get('RANK', 'alone')}")
    targets = cached(store_folder / "soft_targets", store)
    for training in trainings:
        train_one(store, pdf_ids, targets, work / training, *training.split(","))
    if together:
        torch.distributed.destroy_process_group()


def train_one(
    store: FrameStore, pdf_ids: NDArray[np.int32], soft_targets: SoftTargets, work: Path, optimiser: str, gradient: str,
    taught: str, damaged: str = "",
) -> None:
    targets = soft_targets if taught == "cached" else None
    data = DamagedData(store, pdf_ids, left=1, right=1, held_out_speakers=2, targets=targets)
    data.damaged = damaged
    torch.manual_seed(0)
    model = (DNN(3 * DIM, 16, 2, PDFS, batch_norm=True) if taught == "correlation"
             else HighwayDNN(3 * DIM, 16, 3, PDFS))
    config = TrainingConfig(
        epochs=3, batch_size=65, precision="float32", threads=1, tensorboard=False, held_out_speakers=2,
        optimiser=optimiser, gradient=gradient,  # type: ignore[arg-type]
        learning_rate=0.01 if optimiser == "adam" else 0.05 if gradient == "mean" else 0.001, schedule="one_cycle")
    try:
        result = train(model, data, objective_of(taught, model, targets), config, work, seed=1)
    except WorkError as error:
        (work / f"error-{rank()}").write_text(str(error), encoding="utf-8")
        return
    save_file({name: value.contiguous() for name, value in model.state_dict().items()},
              work / f"weights-{rank()}.safetensors")
    if rank() == 0:
        write_json(work / "losses.json", [record["cv_loss"] for record in result.history])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
