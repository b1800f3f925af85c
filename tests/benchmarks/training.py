"""How fast networks train: `python -m tests.benchmarks.training [--threads 1] [--rounds 3] [--seconds 10]`.

The engine itself on generated frames: gathering, optimiser and checkpoints included, cross-validation not. Beside the
frames per second, training arithmetic (6 x parameters x frames per second) is compared with the rate of a 2048^3
bfloat16 matrix product that the same threads reach before and after each round: on a shared machine only that ratio
means something. Medians of some rounds are printed. Then what distillation costs beside cross-entropy, each of its
switches too, and how fast soft targets are cached beside the teacher's forward pass alone.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from asr_kd.core.files import remove
from asr_kd.core.parallel import available_cores
from asr_kd.distillation.config import DistillationConfig
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.soft_targets import SoftTargetsKey, build_soft_targets
from asr_kd.distillation.teachers import CachedTeacher
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.splice import SplicedFrames
from asr_kd.models.architecture import count_parameters
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData, frames_digest
from asr_kd.training.engine import train
from asr_kd.training.objective import CrossEntropy, Objective
from asr_kd.training.tuning import training_device

FRAMES = 200_000
SIZE = 2048


@dataclass(frozen=True)
class Case:
    """A network, its objective, and the rates that are asked of it."""

    name: str
    model: nn.Module
    objective: Objective
    data: TrainingData
    batch_size: int
    kaldi: float | None = None  # frames a second of Kaldi's CPU trainer on two idle cores
    times_kaldi: float = 0.0
    share: float = 0.0  # of the matrix product's rate, where one is asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of training, about, a round")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        store = write_frames(Path(folder) / "store")
        speeds = {case.name: measure(case, Path(folder), arguments.threads, arguments.rounds, arguments.seconds)
                  for case in make_cases(Path(folder), store)}
        plain = speeds[_PLAIN]
        for name, speed in speeds.items():
            if name.startswith(_STUDENT) and name != _PLAIN:
                asked = _verdict(speed / plain, 0.8) if name == _DISTILLED else "not asked for"
                print(f"{name}: {100 * speed / plain:.0f} % of the rate of CE ({asked})")
        measure_cache(Path(folder), store, arguments.rounds)


_STUDENT = "student H128L10, 912 pdfs"
_PLAIN = f"{_STUDENT}, CE"
_DISTILLED = f"{_STUDENT}, KD from the 32 best of a cache"


def make_cases(folder: Path, store: FrameStore) -> list[Case]:
    """Networks of the size that AMI needs, and the teacher and student of the speechocean762 recipe."""

    def data(pdfs: int) -> TrainingData:
        pdf_ids = np.random.default_rng(0).integers(pdfs, size=store.num_frames).astype(np.int32)
        return TrainingData(store, pdf_ids, held_out_speakers=1)

    small = data(912)
    teacher = DNN(600, 1024, 1, 912)
    cross_entropy = CrossEntropy()

    def distilled(name: str, **switches: Any) -> Case:
        model, with_hidden = HighwayDNN(600, 128, 10, 912), "projector" in switches
        soft_targets = build_soft_targets(folder / f"soft_targets-{with_hidden}", teacher, store,
                                          soft_targets_key(store, with_hidden))
        objective = DistillationObjective(
            DistillationConfig(**switches), CachedTeacher.of(soft_targets),
            student_dim=128, parameters=list(model.output_layer.parameters()))
        taught = TrainingData(store, np.zeros(store.num_frames, np.int32), held_out_speakers=1, targets=soft_targets)
        return Case(f"{_DISTILLED}{name}", model, objective, taught, 512)

    return [
        Case("student H128L10, 3,980 pdfs, CE", HighwayDNN(600, 128, 10, 3980), cross_entropy, data(3980), 2048,
             17_800, 3.0, 0.33),  # three times Kaldi's, where two cores reach 750 GFLOP/s
        Case(_PLAIN, HighwayDNN(600, 128, 10, 912), cross_entropy, small, 512),
        distilled(""), distilled(", noise", noise={"sigma": 0.1}), distilled(", projector", projector={"weight": 0.1}),
        distilled(", dynamic", cross_entropy_weight=0.5, weight_schedule={"schedule": "dynamic", "every": 10}),
        Case("teacher DNN 4x768, 3,980 pdfs, CE", DNN(600, 768, 4, 3980), cross_entropy, data(3980), 1024,
             6_700, 1.5, 0.75),
        Case("teacher DNN 4x768, 3,980 pdfs, minibatches twice as large, CE", DNN(600, 768, 4, 3980), cross_entropy,
             data(3980), 2048, share=0.75),
        Case("teacher DNN 6x2048, 3,980 pdfs, CE", DNN(600, 2048, 6, 3980), cross_entropy, data(3980), 1024,
             share=0.75),
        Case("teacher DNN 4x1024, 912 pdfs, batch norm, dropout, CE",
             DNN(600, 1024, 4, 912, batch_norm=True, dropout=0.2), cross_entropy, small, 1024, share=0.65),
    ]


def measure(case: Case, folder: Path, threads: int, rounds: int, seconds: float) -> float:
    """Print the medians of a case; frames a second."""
    parameters = count_parameters(case.model)
    speeds, products, epochs = [], [], 1
    for index in range(rounds + 1):
        products.append(product_rate())
        config = TrainingConfig(epochs=epochs, schedule="one_cycle", batch_size=case.batch_size, threads=threads,
                                precision="auto", tensorboard=False)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            speed = train(case.model, case.data, case.objective, config, Path(work), seed=index).frames_per_second
        products.append(product_rate())
        if index == 0:  # warms up, and says how many epochs fill a round
            epochs = max(1, round(seconds * speed / len(case.data.train_frames)))
            continue
        speeds.append(speed)
    speed, product = statistics.median(speeds), statistics.median(products)
    share = 6 * parameters * speed / product
    line = f"{case.name}: {parameters / 1e6:.2f} M parameters, {threads} threads: {speed / 1e3:.1f} k frames/s"
    if case.kaldi:
        line += f" = {speed / case.kaldi:.1f} x Kaldi's (asked for {case.times_kaldi:g} on two idle cores)"
    verdict = f" ({_verdict(share, case.share)})" if case.share else ""
    print(f"{line}; {100 * share:.0f} % of the product's {product / 1e9:.0f} GFLOP/s{verdict}", flush=True)
    return speed


def _verdict(share: float, asked: float) -> str:
    return f"{'reaches' if share >= asked else 'MISSES'} {100 * asked:.0f} %"


def soft_targets_key(store: FrameStore, hidden: bool) -> SoftTargetsKey:
    return SoftTargetsKey(teacher="benchmark", left=7, right=7, features=frames_digest(store), hmm="benchmark",
                          top_k=32, hidden=hidden)


def measure_cache(folder: Path, store: FrameStore, rounds: int) -> None:
    """Print how fast soft targets are written beside the teacher's forward pass, and what they take on disk."""
    device = training_device()
    teacher = DNN(600, 1024, 4, 912, batch_norm=True).eval().to(device)
    spliced = SplicedFrames.of(store, 7, 7)
    for hidden in (False, True):
        rates, shares = [], []
        for index in range(rounds + 1):
            begin = time.perf_counter()
            built = build_soft_targets(folder / "cache", teacher, store, soft_targets_key(store, hidden), "bfloat16")
            building, forward = time.perf_counter() - begin, 0.0
            remove(folder / "cache")
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                for first in range(0, store.num_frames, 2048):
                    inputs = spliced.gather(np.arange(first, min(first + 2048, store.num_frames))).to(device)
                    forward += seconds_of(lambda inputs=inputs: teacher(inputs))  # type: ignore[misc]
            if index > 0:  # the first warms up
                rates.append(store.num_frames / building)
                shares.append(forward / building)
        share = statistics.median(shares)
        print(f"soft targets of a DNN 4x1024{', last hidden layer too' if hidden else ''}: "
              f"{statistics.median(rates) / 1e3:.1f} k frames/s = {100 * share:.0f} % of its forward rate "
              f"({_verdict(share, 0.8)}), {built.num_bytes / store.num_frames * 360_000 / 1e6:.0f} MB an hour of "
              "speech")


def product_rate(repeats: int = 8) -> float:
    """FLOP a second of a bfloat16 matrix product on the device that trains."""
    matrix = torch.randn(SIZE, SIZE, device=training_device(), dtype=torch.bfloat16)
    seconds_of(lambda: matrix @ matrix)
    return 2 * SIZE ** 3 * repeats / seconds_of(lambda: [matrix @ matrix for _ in range(repeats)])


def seconds_of(function: Callable[[], Any]) -> float:
    on_gpu = training_device().type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    function()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def write_frames(folder: Path) -> FrameStore:
    """Frames of random walks: the arithmetic does not depend on them, but which pdfs are the best is found the sooner
    the more neighbours are alike, and those of speech are."""
    generator = np.random.default_rng(0)
    with FrameStoreWriter(folder, 40, "float16", {"kind": "random walk"}) as writer:
        for utterance in range(FRAMES // 400):
            steps = generator.standard_normal((400, 40)).cumsum(0) / np.sqrt(np.arange(1, 401))[:, None]
            matrix = steps.astype(np.float32)
            writer.add(f"{utterance:05d}", f"speaker{utterance % 20:02d}", matrix)
    return FrameStore.open(folder)


if __name__ == "__main__":
    main()
