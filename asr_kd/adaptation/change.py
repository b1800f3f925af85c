"""What an adaptation changed in the recognition of some utterances, as a comparison and as plain figures."""

from dataclasses import dataclass

import numpy as np

from asr_kd.adaptation.recognition import Recognition
from asr_kd.scoring.adaptation_gate import ChangeFigures, ErrorFigures

_DRAWS = 10_000


@dataclass(frozen=True)
class Change:
    """Utterances recognised before and after adaptation."""

    before: Recognition
    after: Recognition

    @property
    def has_transcripts(self) -> bool:
        """Return True if the words of at least one utterance are known."""
        return any(one.errors is not None for one in self.before.utterances.values())

    def figures(self) -> ChangeFigures:
        """Return the figures of the change."""
        before, after = self._rates()
        facts = None
        if self.has_transcripts:
            facts = ErrorFigures(
                words=self.before.errors.words, errors_before=self.before.errors.errors,
                errors_after=self.after.errors.errors, deletions_before=self.before.errors.deletions,
                deletions_after=self.after.errors.deletions)
        return ChangeFigures(
            measure="errors" if self.has_transcripts else "expected errors", before=round(before, 3),
            after=round(after, 3), relative=round(100 * (after / before - 1 if before else float(after > 0)), 3),
            probability_of_gain=round(self._probability_of_gain(), 4),
            deletion_factor=round(self._deletion_factor(), 3), words_before=self.before.num_words,
            words_after=self.after.num_words, errors=facts)

    def _rates(self) -> tuple[float, float]:
        if self.has_transcripts:
            return self.before.errors.wer, self.after.errors.wer
        return self.before.expected_error_rate, self.after.expected_error_rate

    def _probability_of_gain(self, seed: int = 0) -> float:
        """The share of bootstrap draws of utterances in which errors (expected errors) fall; ties count half."""
        names = sorted(self.before.utterances)
        if self.has_transcripts:
            gains = np.array([_errors(self.before, name) - _errors(self.after, name) for name in names])
        else:
            gains = np.array([_expected_rate(self.before, name) - _expected_rate(self.after, name) for name in names])
        draws = np.random.default_rng(seed).integers(len(names), size=(_DRAWS, len(names)))
        sums = gains[draws].sum(1)
        return float(np.mean((sums > 1e-9) + 0.5 * (np.abs(sums) <= 1e-9)))

    def _deletion_factor(self) -> float:
        if self.has_transcripts:
            return (self.after.errors.deletions + 1 + 0.02 * self.after.errors.words) / (
                self.before.errors.deletions + 1 + 0.02 * self.before.errors.words)
        return (self.before.num_words + 1) / (self.after.num_words + 1)


def doubt(before: Recognition, canary: Recognition) -> float:
    """Standard deviations over the canary's utterances by which the expected error rate of speech lies above theirs."""
    known = np.array([_expected_rate(canary, name) for name in canary.utterances])
    own = np.array([_expected_rate(before, name) for name in before.utterances])
    return float((own.mean() - known.mean()) / max(known.std(), 1e-3))


def _errors(recognition: Recognition, name: str) -> float:
    errors = recognition.utterances[name].errors
    return 0.0 if errors is None else float(errors.errors)


def _expected_rate(recognition: Recognition, name: str) -> float:
    one = recognition.utterances[name]
    return one.expected_errors / max(len(one.words), 1)
