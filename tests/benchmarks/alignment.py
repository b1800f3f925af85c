"""How fast alignment is, and how much memory it takes as the data grow.

    python -m tests.benchmarks.alignment --manifests runs/speechocean762/prepare --features \
        runs/speechocean762/mfcc/train --split train --model runs/speechocean762/tri

CPU time of the whole job of `align_to_folder` and `write_time_marks`, compilation apart; the same utterances once,
twice and four times, each in a process of its own. Memory that files are mapped into is not counted: the system takes
it back when it wants to. Only the ratios of one run mean something.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from asr_kd.alignment.align import AlignConfig, align_to_folder, build_graphs, gmm_score_source
from asr_kd.alignment.time_marks import write_time_marks
from asr_kd.core.parallel import available_cores
from asr_kd.data.manifest import read_manifest
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.hmm.model import HmmModel

KALDI = 14 / 2.88  # CPU s per hour of speech: align_si.sh with a triphone model (../shared/golden/README.md)
HOURS, CORES = 80, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("manifests", "features", "model"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(one_job(arguments)))
        return
    graphs_per_second(arguments)
    rates, cores = {}, available_cores()
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 2, 4):
            repeat_store(arguments.features, Path(folder) / f"{times}", times)
            found = job_in_process(Path(folder) / f"{times}", 1)
            rates[times] = found["cpu"] / found["hours"]
            print(f"{found['hours']:.2f} h of speech, 1 thread: {found['cpu']:.1f} CPU s = {rates[times]:.2f} per hour "
                  f"of speech ({KALDI / rates[times]:.1f} x as fast as Kaldi's {KALDI:.1f}), peak memory "
                  f"{found['before']:.0f} MiB before, {found['peak']:.0f} MiB at most")
        walls = {n: job_in_process(Path(folder) / "2", n)["wall"] for n in sorted({1, cores})}
    efficiency = walls[1] / walls[cores] / cores
    print(f"{cores} threads: {walls[1] / walls[cores]:.2f} x one thread")
    minutes = HOURS * rates[4] / 60
    print(f"{HOURS} h of speech: {minutes:.1f} CPU minutes; on {CORES} cores {minutes / CORES:.1f} minutes, "
          f"{minutes / CORES / efficiency:.1f} if they are used as well as the {cores} here")


def job_in_process(store: Path, workers: int) -> dict[str, float]:
    """Run `one_job` on a store in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.alignment", *sys.argv[1:], "--one", str(store), "--workers",
               str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def one_job(arguments: argparse.Namespace) -> dict[str, float]:
    """Align a store of repeated utterances and write times; hours of speech, seconds, and memory in MiB."""
    store, model = FrameStore.open(arguments.one), HmmModel.load(arguments.model)
    texts = {u.id: u.text.split() for u in read_manifest(arguments.manifests, arguments.split)}
    transcripts = {u: texts[u.rpartition("-")[0]] for u in store.ids}
    config = AlignConfig()
    source = gmm_score_source(model, store, config)
    with tempfile.TemporaryDirectory() as folder:
        few = {u: transcripts[u] for u in store.ids[:8]}
        alignments, _ = align_to_folder(Path(folder) / "few", model, source, list(few), few, config, 1)
        write_time_marks(Path(folder), alignments, few, model)
        memory = Memory()
        before = memory.peak
        wall, cpu = time.perf_counter(), time.process_time()
        alignments, _ = align_to_folder(Path(folder) / "ali", model, source, store.ids, transcripts, config,
                                        arguments.workers)
        write_time_marks(Path(folder), alignments, transcripts, model)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        frames = len(alignments.transition_ids)
    return {"hours": frames * store.recipe["frame_shift"] / 3.6e6, "cpu": cpu, "wall": wall, "before": before,
            "peak": memory.stop()}


class Memory:
    """The peak of this process's own memory in MiB, looked at a hundred times a second."""

    def __init__(self) -> None:
        self.peak = own_memory()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stopped.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._stopped.wait(0.01):
            self.peak = max(self.peak, own_memory())


def own_memory() -> float:
    """MiB that are not mapped from files; the peak of all where the system does not tell them apart."""
    status = Path("/proc/self/status")
    if status.exists():
        rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(rows["RssAnon"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def graphs_per_second(arguments: argparse.Namespace) -> None:
    """Training graphs built one after the other."""
    model = HmmModel.load(arguments.model)
    graphs = build_graphs(model, {u.id: u.text.split() for u in read_manifest(arguments.manifests, arguments.split)})
    next(iter(graphs.values()))
    begin = time.process_time()
    states = sum(graph.num_states for graph in graphs.values())
    seconds = time.process_time() - begin
    print(f"training graphs: {len(graphs) / seconds:,.0f} per CPU second, {states / len(graphs):.0f} states each")


def repeat_store(source: Path, folder: Path, times: int) -> None:
    """The utterances of a frame store several times over."""
    store = FrameStore.open(source)
    with FrameStoreWriter(folder, store.dim, "float32", store.recipe) as writer:
        for copy in range(times):
            for utterance in store.ids:
                writer.add(f"{utterance}-{copy}", store.speakers[utterance], store[utterance])


if __name__ == "__main__":
    main()
