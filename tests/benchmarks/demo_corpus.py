"""How fast the demo corpus is made: `python -m tests.benchmarks.demo_corpus [--workers 2]`.

Wall time of everything that `asr-kd prepare demo` does with default settings, into a temporary folder.
"""

import argparse
import tempfile
import time
from pathlib import Path

from asr_kd.core.parallel import available_cores
from data_prep.demo import prepare_demo

REQUIRED = 50  # x real time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=available_cores())
    workers = parser.parse_args().workers
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        prepared = prepare_demo(Path(folder), workers=workers)
        wall = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    seconds = sum(split.seconds for split in prepared.values())
    for split in prepared.values():
        print(split)
    print(f"{seconds / 60:.1f} min of audio ({size / 1e6:.0f} MB) in {wall:.1f} s with {workers} workers: "
          f"{seconds / wall:.0f} x real time (required: {REQUIRED})")


if __name__ == "__main__":
    main()
