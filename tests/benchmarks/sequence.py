"""How fast lattices are trained on: `python -m tests.benchmarks.sequence [--run-dir RUN] [--seconds 2] [--threads N]`.

Arcs a second of forward-backward and expected accuracies, by lattice density, arc by arc on the CPU and depth by depth
(the way of a GPU, which is measured where there is one). With a run directory of recipes/speechocean762: frames a
second of sMBR on the training lattices of the student that the sMBR teacher taught beside one frame-level epoch of the
same network on the same features, both through the training engine, and the peak of memory.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.core.parallel import available_cores
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.training_lattices import TrainingLattices
from asr_kd.models.bundle import load_bundle
from asr_kd.sequence.config import CriterionConfig, SequenceTrainingConfig
from asr_kd.sequence.data import UtteranceData
from asr_kd.sequence.forward_backward import (
    arc_log_scores,
    arc_occupancies,
    gains_by_depth,
    gains_over_average,
    occupancies_by_depth,
)
from asr_kd.sequence.lattice_batch import LatticeBatch
from asr_kd.sequence.objective import SequenceObjective
from asr_kd.stages.networks import BUNDLE, aligned_pdf_ids
from asr_kd.stages.sequence import transition_table
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData
from asr_kd.training.engine import train
from asr_kd.training.objective import CrossEntropy
from tests.benchmarks.lattices import dense_lattice

FRAMES, UTTERANCES, PDFS = 400, 4, 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--threads", type=int, default=available_cores())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for width in (2, 4, 8, 16):
        measure_sums(width, arguments.seconds)
    if arguments.run_dir is not None:
        measure_pass(arguments.run_dir, arguments.seed, arguments.threads)


def measure_sums(width: int, seconds: float) -> None:
    """Print arcs a second of both ways of summing, on all devices there are."""
    lattices = [dense_lattice(FRAMES, width) for _ in range(UTTERANCES)]
    batch = LatticeBatch.of(lattices, torch.arange(-1, 20_000).clamp_max(PDFS - 1).int().numpy())
    scores, values = torch.randn(batch.num_rows, PDFS), torch.rand(batch.num_arcs).round()
    print(f"{UTTERANCES} utterances of {FRAMES} frames, {batch.num_arcs / batch.num_rows:.0f} arcs a frame")

    def arc_by_arc() -> object:
        occupancies, _ = arc_occupancies(batch, arc_log_scores(batch, scores, 0.1))
        return gains_over_average(batch, occupancies, values)

    print(f"    arc by arc, CPU: {batch.num_arcs / seconds_of(arc_by_arc, seconds) / 1e6:.2f} million arcs/s")
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        there, scores_there, values_there = batch.to(torch.device(device)), scores.to(device), values.to(device)

        def by_depth(  # type: ignore[no-untyped-def]
            there=there, scores_there=scores_there, values_there=values_there
        ) -> object:
            occupancies, _ = occupancies_by_depth(there, arc_log_scores(there, scores_there, 0.1))
            return gains_by_depth(there, occupancies, values_there.double())[1].cpu()

        rate = batch.num_arcs / seconds_of(by_depth, seconds) / 1e6
        print(f"    depth by depth, {device}: {rate:.2f} million arcs/s")


def measure_pass(run_dir: Path, seed: int, threads: int) -> None:
    """Print what a pass of sMBR and a frame-level epoch of the student that the sMBR teacher taught take."""
    hmm = HmmModel.load(run_dir / "sat")
    store = FrameStore.open(run_dir / "fmllr" / "train")
    alignments = AlignmentStore.open(run_dir / "sat-align", hmm)
    lattices = TrainingLattices.open(run_dir / f"student-kd-smbrteacher-lattices-seed{seed}", hmm.digest)
    student = run_dir / f"student-kd-smbrteacher-seed{seed}" / BUNDLE
    settings: dict[str, Any] = {"epochs": 1, "threads": threads, "tensorboard": False, "checkpoint_minutes": 60.0}

    model, _ = load_bundle(student)
    frames = TrainingData(store, aligned_pdf_ids(store, alignments, hmm))
    with tempfile.TemporaryDirectory() as folder:
        epoch = train(model, frames, CrossEntropy(), TrainingConfig(**settings), Path(folder))
    print(f"frame-level epoch: {len(frames.train_frames) / epoch.frames_per_second:.1f} s "
          f"({epoch.frames_per_second:,.0f} frames/s, {epoch.precision}), peak {peak_mib():,.0f} MiB")

    model, card = load_bundle(student)
    criterion = CriterionConfig()
    utterances = UtteranceData(store, lattices, transition_table(hmm), alignments, criterion)
    objective = SequenceObjective(criterion, card.log_priors(), CrossEntropy())
    with tempfile.TemporaryDirectory() as folder:
        once = train(model, utterances, objective, SequenceTrainingConfig(**settings), Path(folder))
    ratio = epoch.frames_per_second / once.frames_per_second
    print(f"sMBR pass: {len(frames.train_frames) / once.frames_per_second:.1f} s ({once.frames_per_second:,.0f} "
          f"frames/s, {once.precision}) = {ratio:.2f} epochs (asked for 3 at most), peak {peak_mib():,.0f} MiB")


def seconds_of(work: Callable[[], object], seconds: float) -> float:
    """Wall time of one call, after a first that compiles."""
    work()
    rounds, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        work()
        rounds += 1
    return (time.perf_counter() - begin) / rounds


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
