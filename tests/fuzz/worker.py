"""A process that reads damaged inputs: lines `SEED` on stdin, one line of JSON about each on stdout.

Its memory is limited to 1 GiB above what the readers of valid inputs need.
"""

import json
import os
import re
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import IO

import numpy as np

from asr_kd.core.errors import AsrKdError
from tests.fuzz.kinds import KINDS, files_of
from tests.fuzz.mutations import damage

MEMORY = 1 << 30


def serve(requests: IO[str], answers: IO[str], root: Path) -> None:
    """Make a valid input of each kind, read it, then damage and read one for each seed."""
    warnings.simplefilter("ignore")
    for number, (name, kind) in enumerate(KINDS.items()):
        source = root / "valid" / str(number)
        source.mkdir(parents=True)
        target = kind.build(source)
        (root / f"{number}.target").write_text(str(target.relative_to(source)))
        work = root / "work" / f"valid-{number}"
        shutil.copytree(source, work)
        try:
            kind.read(work / target.relative_to(source))
        except Exception as error:
            raise SystemExit(f"{name}: the valid input is not read: {error!r}") from error
        shutil.rmtree(work)
    _limit_memory()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries of audio complain there
    print(json.dumps({"kinds": list(KINDS)}), file=answers, flush=True)
    for line in requests:
        print(json.dumps(_read_damaged(int(line), root)), file=answers, flush=True)


def _read_damaged(seed: int, root: Path) -> dict[str, object]:
    number = seed % len(KINDS)  # all kinds have their turn
    name = list(KINDS)[number]
    generator = np.random.default_rng(seed)
    work = root / "work" / str(seed)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(root / "valid" / str(number), work)
    files = list(files_of(work))
    pool = list(files_of(root / "valid"))
    file = files[int(generator.integers(len(files)))]
    answer: dict[str, object] = {"seed": seed, "kind": name, "file": str(file.relative_to(work)),
                                 "damage": damage(file, pool, generator)}
    try:
        KINDS[name].read(work / (root / f"{number}.target").read_text())
        answer["outcome"] = "read"
    except AsrKdError as error:
        answer |= {"outcome": "refused", "message": str(error)[:300]}
        if "\n" in str(error):
            answer["outcome"] = "fault"
    except BaseException as error:
        answer |= {"outcome": "fault", "message": f"{type(error).__name__}: {error}"[:500],
                   "where": traceback.format_exc()[-1500:]}
    shutil.rmtree(work, ignore_errors=True)
    return answer


def _limit_memory() -> None:
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux
        return
    size = re.search(r"VmSize:\s+(\d+) kB", status.read_text())
    assert size is not None
    limit = int(size.group(1)) * 1024 + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    # Answers go where nothing that a reader prints can get between them.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        serve(sys.stdin, answers, Path(folder))
