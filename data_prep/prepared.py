"""What a preparer says of each split that it has written."""

from collections.abc import Sequence
from dataclasses import dataclass

from asr_kd.core.drops import Drops
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import Utterance


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
        return (f"{self.split}: {self.utterances} utterances, {self.speakers} speakers, {self.words} words, "
                f"{self.seconds / 3600:.3f} h" + (f"; dropped: {dropped}" if dropped else ""))
