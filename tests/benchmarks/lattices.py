"""How fast lattices are summed, measured and read: `python -m tests.benchmarks.lattices [--seconds 2]`.

CPU time of one thread, compilation apart. Lattices made here of growing density, and Kaldi's of real speech (needs
../shared).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asr_kd.kaldi_lattices.archive import read_lattices, read_word_lattices, write_lattices
from asr_kd.lattices.chains import join_chains
from asr_kd.lattices.lattice import Lattice
from asr_kd.lattices.minimum_bayes_risk import minimum_bayes_risk
from asr_kd.lattices.oracle import lattice_statistics, oracle_errors
from asr_kd.lattices.posteriors import arc_posteriors, frame_posteriors
from asr_kd.lattices.word_lattice import WordLattice
from tests.conftest import SHARED

SCALE = 0.1
FRAMES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds for each figure")
    seconds = parser.parse_args().seconds
    for width in (10, 100, 1000):
        measure(f"{FRAMES} frames of {width} states", [dense_lattice(FRAMES, width)], seconds)
    golden = SHARED / "golden" / "kaldi_lattice"
    if golden.is_dir():
        paths = sorted(golden.glob("*[0-9].lat.txt"))
        measure("Kaldi's, speechocean762, six utterances", [next(read_lattices(path))[1] for path in paths], seconds)


def measure(name: str, lattices: list[Lattice], seconds: float) -> None:
    """Print arcs a second of each job over all the lattices."""
    arcs = sum(lattice.num_arcs for lattice in lattices)
    frames = sum(lattice.num_frames for lattice in lattices)
    depth = sum(lattice_statistics(lattice)["depth"] * lattice.num_frames for lattice in lattices) / frames
    compact = [join_chains(lattice) for lattice in lattices]
    print(f"{name}: {arcs:,} arcs, {depth:.1f} across a frame")

    def report(job: str, work: Callable[[], object]) -> None:
        print(f"    {job}: {arcs / cpu_seconds(work, seconds) / 1e6:,.2f} million arcs/s")

    report("arc posteriors", lambda: [arc_posteriors(lattice, SCALE) for lattice in lattices])
    report("frame posteriors", lambda: [frame_posteriors(lattice, SCALE) for lattice in lattices])
    reference = np.random.default_rng(1).integers(1, 1000, 20).tolist()
    report("oracle against 20 words", lambda: [oracle_errors(lattice, reference) for lattice in lattices])
    if max(lattice.num_arcs for lattice in compact) < 50_000:
        report("minimum Bayes risk", lambda: [minimum_bayes_risk(lattice, SCALE) for lattice in compact])
    if arcs > 1_000_000:
        return
    with tempfile.TemporaryDirectory() as folder:
        kinds: list[tuple[str, list[Lattice] | list[WordLattice], Callable[[Path], object]]] = [
            ("lattices", lattices, lambda path: list(read_lattices(path))),
            ("compact lattices", compact, lambda path: list(read_word_lattices(path)))]
        for kind, items, read in kinds:
            for form in ("text", "binary"):
                path = Path(folder) / f"{form}.ark"
                named = [(str(i), lattice) for i, lattice in enumerate(items)]

                def write(path: Path = path, named: list = named, text: bool = form == "text") -> None:
                    write_lattices(path, named, text=text)

                report(f"writing {form} {kind}", write)
                report(f"reading {form} {kind}", lambda path=path, read=read: read(path))


def cpu_seconds(work: Callable[[], object], seconds: float) -> float:
    work()
    rounds, begin = 0, time.process_time()
    while time.process_time() - begin < seconds:
        work()
        rounds += 1
    return (time.process_time() - begin) / rounds


def dense_lattice(frames: int, width: int, arcs: int = 3) -> Lattice:
    """`width` states a frame, each with `arcs` arcs to neighbours in the next, one in twelve with a word."""
    rng = np.random.default_rng(0)
    layers = np.array([1] + [width] * frames)
    first = np.concatenate([[0], np.cumsum(layers)])
    states, state_frames = first[-1], np.repeat(np.arange(frames + 1), layers)
    inner = np.arange(first[frames])
    places = inner - first[state_frames[inner]]
    targets = first[state_frames[inner] + 1][:, None] + (places[:, None] + np.arange(arcs)) % width
    counts = np.full(len(inner), arcs)
    # The start leads to every state of the first frame, so that all are reached.
    targets = np.concatenate([np.arange(first[1], first[2]), targets[1:].ravel()])
    counts[0] = width
    n = len(targets)
    return Lattice(
        state_frames.astype(np.int32),
        np.concatenate([[0], np.cumsum(counts), np.full(states - len(inner), n)]).astype(np.int32)[: states + 1],
        np.where(state_frames == frames, 0, np.inf).astype(np.float32), targets.astype(np.int32),
        rng.integers(1, 5000, n).astype(np.int32),
        (rng.integers(1, 1000, n) * (rng.random(n) < 1 / 12)).astype(np.int32),
        rng.uniform(0, 5, n).astype(np.float32), rng.normal(50, 20, n).astype(np.float32))


if __name__ == "__main__":
    main()
