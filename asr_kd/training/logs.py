"""The log of a training run: `train.jsonl`, one JSON object a line, and TensorBoard events."""

import json
from pathlib import Path
from typing import Any

from asr_kd.core.files import atomic_file


class TrainingLog:
    """Append records to `folder/train.jsonl` and `folder/tensorboard`.

    `records`: those of the checkpoint that the run goes on from; what a killed run wrote after it is dropped.
    """

    def __init__(self, folder: Path, records: list[dict[str, Any]], tensorboard: bool) -> None:
        self._path = folder / "train.jsonl"
        with atomic_file(self._path) as file:
            file.writelines(_line(record) for record in records)
        self._writer = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            last = records[-1]["step"] if records else 0
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; its numbers go to TensorBoard under `event/key` at `step`."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(_line(record))
        if self._writer is not None:
            for name, value in record.items():
                if name not in ("step", "event") and isinstance(value, int | float):
                    self._writer.add_scalar(f"{record['event']}/{name}", value, record["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
