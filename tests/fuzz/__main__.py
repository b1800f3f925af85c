"""Damage inputs of every kind and read them.

Usage: python -m tests.fuzz --inputs 2000 --seed 1 [--verbose]

Expected of each: it is read, or refused in one line. No traceback, no hang of more than 10 s, no memory of more than
1 GiB, no death of the process. A fault is printed with its seed; `--seed SEED --inputs 1` makes it again. With
NUMBA_BOUNDSCHECK=1 compiled code checks every index (all of it is compiled anew, which takes minutes).
"""

import argparse
import sys
from collections import Counter

from tests.fuzz.campaign import run_campaign


def main() -> int:
    """Run the campaign; 1 where there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read damaged inputs of every kind.")
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="of the first input; the next has the next one")
    parser.add_argument("--verbose", action="store_true", help="say what became of every input")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    for result in run_campaign(range(arguments.seed, arguments.seed + arguments.inputs)):
        counts[result.outcome] += 1
        if result.outcome == "fault" or arguments.verbose:
            print(f"seed {result.seed}: {result.kind}: {result.outcome}: {result.detail}", flush=True)
    print(f"{sum(counts.values())} damaged inputs: {counts['read']} read, {counts['refused']} refused in one line, "
          f"{counts['fault']} faults")
    return 1 if counts["fault"] else 0


if __name__ == "__main__":
    sys.exit(main())
