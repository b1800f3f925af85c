"""Counting what a stage had to leave out."""

from collections.abc import Iterator
from pathlib import Path

from asr_kd.core.errors import WorkError

_EXAMPLES = 3


class Drops:
    """Utterances dropped by reason: `kept + dropped by reason = total`, always.

    `total` items come in; above the share `cap` of dropped ones `check` fails.
    """

    def __init__(self, total: int, what: str = "utterances", cap: float = 0.05) -> None:
        self.total = total
        self.what = what
        self.cap = cap
        self.reasons: dict[str, list[tuple[str, str]]] = {}
        self.files: dict[str, Path] = {}
        self._ids: set[str] = set()

    def drop(self, item_id: str, reason: str, detail: str = "", file: Path | None = None) -> None:
        """Count one item as dropped; `reason` is a short fixed phrase, `detail` says more of this item."""
        if item_id in self._ids:
            raise ValueError(f"{item_id} was dropped already")
        self._ids.add(item_id)
        self.reasons.setdefault(reason, []).append((item_id, detail))
        if file is not None:
            self.files[item_id] = file

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._ids

    @property
    def kept(self) -> int:
        return self.total - len(self._ids)

    @property
    def by_reason(self) -> dict[str, int]:
        """Reason -> count, most frequent first."""
        counts = {reason: len(items) for reason, items in self.reasons.items()}
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def as_dict(self) -> dict[str, object]:
        """For a stage's summary: counts, and every dropped item by name."""
        return {
            "total": self.total,
            "kept": self.kept,
            "dropped": self.by_reason,
            "items": {reason: [self._record(i, d) for i, d in sorted(self.reasons[reason])]
                      for reason in self.by_reason},
        }

    def records(self) -> Iterator[dict[str, str]]:
        """Yield id, reason, detail and, where one is known, file of each dropped item, the commonest reason first."""
        for reason in self.by_reason:
            for item_id, detail in sorted(self.reasons[reason]):
                yield {"reason": reason, **self._record(item_id, detail)}

    def _record(self, item_id: str, detail: str) -> dict[str, str]:
        file = {"file": str(self.files[item_id])} if item_id in self.files else {}
        return {"id": item_id, "detail": detail, **file}

    def check(self) -> None:
        """Raise WorkError when nothing is kept, or when more than the share `cap` was dropped."""
        dropped = len(self._ids)
        if dropped == 0 or (self.kept > 0 and dropped <= self.cap * self.total):
            return
        reason, count = next(iter(self.by_reason.items()))
        examples = []
        for item, detail in sorted(self.reasons[reason])[:_EXAMPLES]:
            file = f" ({self.files[item]})" if item in self.files else ""
            examples.append(f"{item}{file}{': ' + detail if detail else ''}")
        limit = f", more than the cap of {self.cap:.1%}" if self.cap < 1 else ""
        raise WorkError(
            f"{dropped} of {self.total} {self.what} dropped{limit}; most ({count}): {reason}, for example "
            f"{'; '.join(examples)}"
        )
