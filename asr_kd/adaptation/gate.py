"""The gate: what was gained and lost by an adaptation, and whether that makes it active."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from asr_kd.adaptation.recognition import Recognition
from asr_kd.core.config import Config

_DRAWS = 10_000


class GateConfig(Config):
    """Bounds of the gate. All but the first three are of a comparison of the adapted with the unadapted network.

    On utterances that were not adapted on: with transcripts their word errors, without them what is observable.
    """

    least_seconds: float = Field(4.0, ge=0, description="of speech in the set: with less there is nothing to tell by")
    least_utterances: int = Field(2, ge=2, description="each is judged by a network that was not adapted on it")
    most_misfit: float = Field(3.0, gt=0, description="standard deviations by which the transcripts' alignment may fit "
                               "the audio worse than the canary's do theirs")
    most_doubt: float = Field(3.0, gt=0, description="without transcripts: standard deviations by which the expected "
                              "error rate of the speech may lie above the canary's")
    least_probability: float = Field(0.5, ge=0, le=1, description="that errors of held-out utterances fall, by "
                                     "bootstrap over utterances")
    most_canary_loss: float = Field(0.1, ge=0, description="share by which the canary's errors may grow")
    most_deletions: float = Field(1.5, ge=1, description="factor by which deletions may grow, held-out utterances and "
                                  "canary alike; and words may get fewer")


@dataclass(frozen=True)
class Change:
    """Utterances recognised before and after adaptation."""

    before: Recognition
    after: Recognition

    @property
    def has_transcripts(self) -> bool:
        """Return True if the words of at least one utterance are known."""
        return any(one.errors is not None for one in self.before.utterances.values())

    def relative_change(self) -> float:
        """Errors, or without transcripts expected errors a word, after over before, less 1; 0 where there were none."""
        if self.has_transcripts:
            before, after = float(self.before.errors.errors), float(self.after.errors.errors)
        else:
            before, after = self.before.expected_error_rate, self.after.expected_error_rate
        return after / before - 1 if before else float(after > 0)

    def probability_of_gain(self, seed: int = 0) -> float:
        """The share of bootstrap draws of utterances in which errors (expected errors) fall; ties count half."""
        names = sorted(self.before.utterances)
        if self.has_transcripts:
            gains = np.array([_errors(self.before, name) - _errors(self.after, name) for name in names])
        else:
            gains = np.array([_expected_rate(self.before, name) - _expected_rate(self.after, name) for name in names])
        draws = np.random.default_rng(seed).integers(len(names), size=(_DRAWS, len(names)))
        sums = gains[draws].sum(1)
        return float(np.mean((sums > 1e-9) + 0.5 * (np.abs(sums) <= 1e-9)))

    def deletion_factor(self) -> float:
        """Deletions after over before (one more of each, so that few do not count for much); without transcripts words
        before over after."""
        if self.has_transcripts:
            return (self.after.errors.deletions + 1 + 0.02 * self.after.errors.words) / (
                self.before.errors.deletions + 1 + 0.02 * self.before.errors.words)
        return (self.before.num_words + 1) / (self.after.num_words + 1)


@dataclass(frozen=True)
class Evidence:
    """All that the gate decides by.

    misfit and doubt: see `GateConfig.most_misfit` and `most_doubt`; misfit is None without transcripts, doubt with
    them, both without a canary.
    """

    seconds: float
    utterances: int
    held_out: Change | None
    canary: Change | None
    misfit: float | None = None
    doubt: float | None = None
    faults: Sequence[str] = ()


def refusals(evidence: Evidence, config: GateConfig) -> list[str]:
    """Why an adapter is not made active, one sentence each; none where it is."""
    reasons = list(evidence.faults)
    if evidence.seconds < config.least_seconds or evidence.utterances < config.least_utterances:
        reasons.append(f"too little to tell: {evidence.seconds:.1f} s in {evidence.utterances} utterances, expected at "
                       f"least {config.least_seconds:g} s in {config.least_utterances}")
    if evidence.misfit is not None and evidence.misfit > config.most_misfit:
        reasons.append(f"the transcripts do not fit the audio: {evidence.misfit:.1f} standard deviations worse than "
                       f"known speech, expected at most {config.most_misfit:g}")
    if evidence.doubt is not None and evidence.doubt > config.most_doubt:
        reasons.append(f"what was recognised is too doubtful to tell a gain by: {evidence.doubt:.1f} standard "
                       f"deviations more expected errors than in known speech, expected at most {config.most_doubt:g}")
    held_out = evidence.held_out
    if held_out is not None:
        what = "errors" if held_out.has_transcripts else "expected errors"
        probability = held_out.probability_of_gain()
        if held_out.relative_change() >= 0:
            reasons.append(f"the target does not improve: {what} of utterances that were not adapted on change by "
                           f"{100 * held_out.relative_change():+.1f} %")
        elif probability < config.least_probability:
            reasons.append(f"the gain on the target is not sure: {what} fall with probability {probability:.2f}, "
                           f"expected at least {config.least_probability:g}")
        if held_out.deletion_factor() > config.most_deletions:
            reasons.append(f"words get lost: {'deletions' if held_out.has_transcripts else 'words'} change by the "
                           f"factor {held_out.deletion_factor():.2f}, expected at most {config.most_deletions:g}")
    canary = evidence.canary
    if canary is not None:
        if canary.relative_change() > config.most_canary_loss:
            reasons.append(f"the canary loses: its errors change by {100 * canary.relative_change():+.1f} %, expected "
                           f"at most {100 * config.most_canary_loss:+.1f} %")
        if canary.deletion_factor() > config.most_deletions:
            reasons.append(f"the canary loses words: its deletions change by the factor "
                           f"{canary.deletion_factor():.2f}, expected at most {config.most_deletions:g}")
    return reasons


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
