"""Trials of the gate: adaptations whose true gain was looked up afterwards, good ones and attacks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_kd.core.cards import read_card, write_card
from asr_kd.core.config import Config
from asr_kd.scoring.adaptation_gate import Evidence, GateConfig, refusals
from asr_kd.scoring.teaching import Teaching

HONEST = "honest"
GATE_TRIALS = "gate_trials"  # folder of such files, in a run and in a recipe
GOOD = 0.02  # share of fewer errors from which on an honest adaptation is a good one


class GateTrial(Config):
    """One adaptation: what it was, what the gate knew of it, and what it did to the speaker's other utterances.

    kind: `honest`, or the attack. evidence is None where nothing was adapted (`not_adapted` says why). words and errors
    are of the other utterances, errors_after None where nothing was adapted.
    """

    speaker: str
    split: str
    kind: str
    teaching: Teaching
    not_adapted: str | None = None
    evidence: Evidence | None = None
    words: int
    errors_before: int
    errors_after: int | None = None

    @property
    def is_good(self) -> bool:
        """Return True for an honest adaptation that made at least 2 % fewer errors."""
        return (self.kind == HONEST and self.errors_after is not None
                and self.errors_after <= (1 - GOOD) * self.errors_before)

    def is_active(self, gate: GateConfig) -> bool:
        """Return True if a gate with these bounds makes the adapter active."""
        return self.evidence is not None and not refusals(self.evidence, gate)


class GateTrials(Config):
    """The trials of one network and seed with speakers of some splits, as they stand in a file."""

    id: str
    seed: int
    splits: list[str]
    parameters: list[str]
    command: str
    revision: str
    trials: list[GateTrial]

    @property
    def file_name(self) -> str:
        """Name of its file."""
        return f"{self.id}.{self.seed}.{'-'.join(self.splits)}.json"


@dataclass(frozen=True)
class TrialShares:
    """How many of some trials were made active, and the errors of those, before and after, in percent of their words.

    better, worse: how many of them make fewer errors, and more; worst: the largest loss of one in % absolute.
    """

    trials: int
    active: int
    wer_before: float
    wer_after: float
    better: int
    worse: int
    worst: float

    @property
    def share(self) -> float:
        """Percent of the trials that were made active."""
        return 100 * self.active / self.trials if self.trials else 0.0


def shares(trials: Iterable[GateTrial], gate: GateConfig | None) -> TrialShares:
    """The shares of these trials with a gate; without one all that were adapted are active."""
    found = list(trials)
    active = [trial for trial in found
              if trial.errors_after is not None and (gate is None or trial.is_active(gate))]
    words = max(sum(trial.words for trial in active), 1)
    changes = np.array([100 * ((trial.errors_after or 0) - trial.errors_before) / max(trial.words, 1)
                        for trial in active])
    return TrialShares(
        len(found), len(active), 100 * sum(trial.errors_before for trial in active) / words,
        100 * sum(trial.errors_after or 0 for trial in active) / words, int((changes < 0).sum()),
        int((changes > 0).sum()), float(changes.max(initial=0.0)))


def agreement(trials: Sequence[GateTrial]) -> tuple[float, int]:
    """Pearson's correlation of the change that the gate saw with the true one, both relative; and of how many trials.

    Trials that were not adapted, or without errors before, do not count.
    """
    pairs = [(trial.evidence.held_out.relative, 100 * (trial.errors_after / trial.errors_before - 1))
             for trial in trials
             if trial.evidence is not None and trial.evidence.held_out is not None and trial.errors_after is not None
             and trial.errors_before]
    if len(pairs) < 3:
        return float("nan"), len(pairs)
    seen, true = np.array(pairs).T
    return float(np.corrcoef(seen, true)[0, 1]), len(pairs)


def write_trials(folder: Path, trials: GateTrials) -> None:
    """Write `folder/ID.SEED.SPLITS.json`."""
    write_card(Path(folder) / trials.file_name, trials)


def read_trials_folder(folder: Path) -> list[GateTrials]:
    """All trials of a folder, sorted by file name; an absent folder holds none. InputError: a damaged file."""
    return [read_card(path, GateTrials, "run the trials again") for path in sorted(Path(folder).glob("*.json"))]
