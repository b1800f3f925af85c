"""Counting what a stage had to leave out."""

from asr_kd.core.errors import WorkError


class Drops:
    """Utterances dropped by reason: `kept + dropped by reason = total`, always.

    `total` items come in; above the share `cap` of dropped ones `check` fails.
    """

    def __init__(self, total: int, what: str = "utterances", cap: float = 0.05) -> None:
        self.total = total
        self.what = what
        self.cap = cap
        self.reasons: dict[str, list[tuple[str, str]]] = {}
        self._ids: set[str] = set()

    def drop(self, item_id: str, reason: str, detail: str = "") -> None:
        """Count one item as dropped; `reason` is a short fixed phrase, `detail` says more of this item."""
        if item_id in self._ids:
            raise ValueError(f"{item_id} was dropped already")
        self._ids.add(item_id)
        self.reasons.setdefault(reason, []).append((item_id, detail))

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
            "items": {reason: [{"id": i, "detail": d} for i, d in sorted(self.reasons[reason])]
                      for reason in self.by_reason},
        }

    def check(self) -> None:
        """Raise WorkError when nothing is kept, or when more than the share `cap` was dropped."""
        dropped = len(self._ids)
        if dropped == 0 or (self.kept > 0 and dropped <= self.cap * self.total):
            return
        reason, count = next(iter(self.by_reason.items()))
        item, detail = min(self.reasons[reason])
        raise WorkError(
            f"{dropped} of {self.total} {self.what} dropped, more than the cap of {self.cap:.1%}; most ({count}): "
            f"{reason}, for example {item}{': ' + detail if detail else ''}"
        )
