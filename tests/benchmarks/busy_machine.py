"""Compare stages on idle cores and beside busy loops: `python -m tests.benchmarks.busy_machine [--recipe] [--loops 4]`.

Each case runs in a process of its own, first on the machine as it is, which should be idle, then beside busy loops. The
table gives, for each:

- CPU: its CPU seconds beside the loops, divided by those on idle cores (at most 1.5);
- wall: its wall time beside the loops, divided by the inflation of a one-thread loop that runs beside it and by the
  wall time on idle cores (at most 1.3). The inflation of a loop is its wall time divided by its CPU time.

The cases train networks of the demo's and of a larger size on generated frames for some seconds each, with one thread
and with two, and cache soft targets; the weights that they end with must be the same, bit for bit. With `--recipe` they
are the stages of the demo recipe, `--fast`, which takes a quarter of an hour.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HIGHEST_CPU, HIGHEST_WALL = 1.5, 1.3
ROOT = Path(__file__).parents[2]
LEAST = 1.0  # CPU seconds of a stage of which a verdict is given
CASES = ("teacher", "teacher with 1 thread", "student", "student with 1 thread", "large teacher", "soft targets")


@dataclass(frozen=True)
class Cost:
    """The cost of a case or stage, and the digest of its result."""

    wall: float  # seconds
    cpu: float
    begin: float  # of time.monotonic
    digest: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2, help="on idle cores and beside the loops; the least counts")
    parser.add_argument("--recipe", action="store_true", help="the stages of the demo recipe, --fast")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(vars(run_case(arguments.case))))
        return
    measure = measure_recipe if arguments.recipe else partial(measure_cases, arguments.cases)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} (should be near 0)")
    measure()  # warms up: compiled kernels and files are cached
    idle = [measure() for _ in range(arguments.repeats)]
    with tempfile.TemporaryDirectory() as folder:
        with beside_loops(arguments.loops, Path(folder) / "notes") as probe:
            busy = [measure() for _ in range(arguments.repeats)]
        print_table(idle, busy, probe)


def print_table(idle: list[dict[str, Cost]], busy: list[dict[str, Cost]], probe: "Probe") -> None:
    width = max(map(len, idle[0]))
    print(f"{'':{width}}   idle: wall    CPU   busy: wall    CPU  loop x    CPU x  wall x  same result")
    for name in idle[0]:
        best = min((run[name] for run in idle), key=lambda cost: cost.wall)
        inflation, cost = min(((probe.inflation(run[name]), run[name]) for run in busy),
                              key=lambda pair: pair[1].wall / pair[0])
        cpu, wall = cost.cpu / best.cpu, cost.wall / inflation / best.wall
        is_same = len({run[name].digest for run in [*idle, *busy]}) == 1
        misses = [what for what, is_missed in (("CPU", cpu > HIGHEST_CPU), ("wall", wall > HIGHEST_WALL),
                                               ("RESULT", not is_same)) if is_missed]
        verdict = f"MISSES {', '.join(misses)}" if misses else "holds"
        if best.cpu < LEAST and is_same:
            verdict = "too short to tell"
        same = "yes" if is_same else "NO"
        print(f"{name:{width}}  {best.wall:10.1f} {best.cpu:6.1f}  {cost.wall:10.1f} {cost.cpu:6.1f}  "
              f"{inflation:6.2f}  {cpu:7.2f} {wall:7.2f}  {same:11}  {verdict}", flush=True)


def measure_cases(cases: Sequence[str]) -> dict[str, Cost]:
    costs = {}
    for case in cases:
        command = [sys.executable, "-m", "tests.benchmarks.busy_machine", "--case", case]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
        costs[case] = Cost(**json.loads(done.stdout.splitlines()[-1]))
    return costs


def run_case(case: str) -> Cost:
    """Train a network on generated frames, or cache what one says of them."""
    import numpy as np
    import torch

    from asr_kd.distillation.soft_targets import SoftTargetsKey, build_soft_targets
    from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
    from asr_kd.models.dnn import DNN
    from asr_kd.models.highway import HighwayDNN
    from asr_kd.training.config import TrainingConfig
    from asr_kd.training.data import TrainingData, frames_digest
    from asr_kd.training.engine import train
    from asr_kd.training.objective import CrossEntropy

    networks = {
        "teacher": (30_000, 512, lambda: DNN(600, 768, 4, 600, batch_norm=True, dropout=0.3)),
        "student": (60_000, 256, lambda: HighwayDNN(600, 128, 10, 600)),
        "large teacher": (8_000, 1024, lambda: DNN(600, 2048, 4, 3000)),
        "soft targets": (40_000, 0, lambda: DNN(600, 768, 4, 600)),
    }
    name, _, threads = case.partition(" with ")
    frames, batch_size, build = networks[name]
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with FrameStoreWriter(folder / "store", 40, "float16", {"kind": "noise"}) as writer:
            for utterance in range(frames // 400):
                matrix = generator.standard_normal((400, 40)).astype(np.float32)
                writer.add(f"{utterance:05d}", f"speaker{utterance % 20:02d}", matrix)
        store = FrameStore.open(folder / "store")
        torch.manual_seed(0)
        network = build()
        pdf_ids = generator.integers(600, size=store.num_frames).astype(np.int32)
        begin, cpu = time.monotonic(), time.process_time()
        if name == "soft targets":
            key = SoftTargetsKey(teacher="t", left=7, right=7, features=frames_digest(store), hmm="h", top_k=32)
            digest = build_soft_targets(folder / "soft_targets", network, store, key).digest
        else:
            config = TrainingConfig(epochs=1, schedule="one_cycle", batch_size=batch_size, tensorboard=False,
                                    threads=int(threads.split()[0]) if threads else 0)
            train(network, TrainingData(store, pdf_ids, held_out_speakers=2), CrossEntropy(), config, folder / "work")
            content = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
            digest = hashlib.sha256(content).hexdigest()
        return Cost(time.monotonic() - begin, time.process_time() - cpu, begin, digest)


def measure_recipe() -> dict[str, Cost]:
    """Run the demo recipe; what each stage took, by its own record."""
    begins, costs = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        command = [sys.executable, "-u", "-m", "asr_kd.cli.main", "run", "recipes/demo", "--fast", "--option", "smbr",
                   "--run-dir", str(run)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if begun := re.match(r"(\S+): [a-z-]+ \(", line):
                    begins[begun[1]] = time.monotonic()
        if process.returncode:
            sys.exit(process.returncode)
        for stage, begin in begins.items():
            weights = sorted((run / stage).rglob("*.safetensors"))
            digest = hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()
            record = json.loads((run / stage / "stage.json").read_text())
            costs[stage] = Cost(record["wall_seconds"], record["cpu_seconds"], begin, digest)
    return costs


class Probe:
    """A loop of one thread that notes in a file how much CPU time it gets."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._process = multiprocessing.Process(target=self._loop, daemon=True)
        self._process.start()

    def inflation(self, cost: Cost) -> float:
        """The loop's wall time divided by its CPU time while a case ran."""
        notes = [tuple(map(float, line.split())) for line in self._notes.read_text().splitlines()]
        during = [(wall, cpu) for wall, cpu in notes if cost.begin <= wall <= cost.begin + cost.wall]
        if len(during) < 2:
            return 1.0
        return (during[-1][0] - during[0][0]) / (during[-1][1] - during[0][1])

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()

    def _loop(self) -> None:
        with open(self._notes, "w", buffering=1) as file:
            while True:
                file.write(f"{time.monotonic()} {time.process_time()}\n")
                until = time.process_time() + 0.05
                while time.process_time() < until:
                    pass


def spin() -> None:
    while True:
        pass


@contextmanager
def beside_loops(count: int, notes: Path) -> Iterator[Probe]:
    """Keep busy loops and a probe running within the context."""
    loops = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]
    for loop in loops:
        loop.start()
    probe = Probe(notes)
    try:
        yield probe
    finally:
        for loop in loops:
            loop.terminate()
        probe.stop()


if __name__ == "__main__":
    main()
