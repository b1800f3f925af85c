"""Report each split that a preparer has written, and the utterances that it dropped."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_kd.core.drops import Drops
from asr_kd.core.files import atomic_file
from asr_kd.core.log import get_logger
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import Utterance

logger = get_logger(f"asr_kd.{__name__}")  # where the commands listen

DROPPED = "dropped.jsonl"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """Counts of one split: what was kept, and what was dropped and why."""

    split: str
    utterances: int
    speakers: int
    words: int
    seconds: float
    drops: Drops

    @classmethod
    def of(cls, split: str, utterances: Sequence[Utterance], drops: Drops) -> "PreparedSplit":
        return cls(
            split=split,
            utterances=len(utterances),
            speakers=len({utterance.speaker for utterance in utterances}),
            words=sum(len(words_of(utterance.text)) for utterance in utterances),
            seconds=sum(utterance.duration for utterance in utterances),
            drops=drops,
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        counts = {name: getattr(self, name) for name in ("utterances", "speakers", "words")}
        return {**counts, "seconds": round(self.seconds, 3), "drops": self.drops.as_dict()}

    def __str__(self) -> str:
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.drops.by_reason.items())
        lines = [f"{self.split}: {self.utterances} utterances, {self.speakers} speakers, {self.words} words, "
                 f"{self.seconds / 3600:.3f} h" + (f"; dropped: {dropped}" if dropped else "")]
        records = list(self.drops.records())
        lines += [f"  dropped {describe_drop(record)}" for record in records[:_SHOWN]]
        if len(records) > _SHOWN:
            lines.append(f"  and {len(records) - _SHOWN} more; {DROPPED} names all")
        return "\n".join(lines)


def describe_drop(record: Mapping[str, str]) -> str:
    """Say in a line which utterance was dropped, of which file, and why (a record of `Drops.records`)."""
    detail = f": {record['detail']}" if record["detail"] else ""
    file = f" ({record['file']})" if "file" in record else ""
    return f"{record['id']}{file}: {record['reason']}{detail}"


def log_dropped(split: str, drops: Drops) -> None:
    """Name in the log every utterance that was dropped."""
    for record in drops.records():
        logger.info("%s: dropped %s", split, describe_drop(record))


def write_dropped(folder: Path, splits: Iterable[PreparedSplit]) -> None:
    """Write `dropped.jsonl`: split, id, reason, detail and file of every utterance dropped from the splits.

    The file is written where none was dropped, too, so that no earlier one stays.
    """
    records = [{"split": of_split.split, **record} for of_split in splits for record in of_split.drops.records()]
    with atomic_file(folder / DROPPED) as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
