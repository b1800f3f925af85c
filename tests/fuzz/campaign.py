"""The campaign: damaged inputs one after the other, each with a time limit, in a process that may die of them."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10.0
_SECONDS_TO_START = 600.0  # compiled code may have to be made first


@dataclass(frozen=True)
class Result:
    """The outcome of one damaged input: "read", "refused" (one line), or "fault" (anything else)."""

    seed: int
    kind: str
    outcome: str
    detail: str


def run_campaign(seeds: Iterable[int]) -> Iterator[Result]:
    """Read the damaged input of each seed; a hang of more than 10 s and a crash are faults."""
    worker: _Worker | None = None
    try:
        for seed in seeds:
            worker = worker or _Worker()
            kind = worker.kinds[seed % len(worker.kinds)]
            answer, fault = worker.ask(seed)
            if answer is None:
                worker.kill()
                worker = None
                yield Result(seed, kind, "fault", fault)
                continue
            facts = {key: value for key, value in answer.items() if key not in ("seed", "kind", "outcome")}
            yield Result(seed, kind, answer["outcome"], json.dumps(facts))
    finally:
        if worker is not None:
            worker.kill()


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
        answer, fault = self._answer(_SECONDS_TO_START)
        if answer is None:
            self.kill()
            raise RuntimeError(f"the worker does not start: {fault}")
        self.kinds: list[str] = answer["kinds"]

    def ask(self, seed: int) -> tuple[dict[str, Any] | None, str]:
        """The answer, or None and what happened instead."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seed}\n".encode())
        self._process.stdin.flush()
        return self._answer(SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _answer(self, seconds: float) -> tuple[dict[str, Any] | None, str]:
        pipe = self._process.stdout
        assert pipe is not None
        if not select.select([pipe], [], [], seconds)[0]:
            return None, f"hangs: no answer within {seconds:g} s"
        line = pipe.readline()
        if not line:
            return None, f"dies: exit status {self._process.wait()}"
        return json.loads(line), ""
