"""The gate: what was gained and lost by an adaptation, and whether that makes it active."""

from typing import Literal

from pydantic import Field

from asr_kd.core.config import Config


class ErrorFigures(Config):
    """Words of known transcripts, and their errors before and after."""

    words: int
    errors_before: int
    errors_after: int
    deletions_before: int
    deletions_after: int


class ChangeFigures(Config):
    """A change as reports hold it, and as the gate decides by it.

    before, after: errors, or without transcripts expected errors, in percent of the words; relative: percent, negative
    where they fall. deletion_factor: deletions after over before (one more of each, and two in a hundred words, so that
    few do not count for much); without transcripts words before over words after. errors: None without transcripts.
    """

    measure: Literal["errors", "expected errors"]
    before: float
    after: float
    relative: float
    probability_of_gain: float
    deletion_factor: float
    words_before: int
    words_after: int
    errors: ErrorFigures | None = None


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


class Evidence(Config):
    """All that the gate decides by.

    misfit and doubt: see `GateConfig.most_misfit` and `most_doubt`; misfit is None without transcripts, doubt with
    them, both without a canary.
    """

    seconds: float
    utterances: int
    held_out: ChangeFigures | None = None
    canary: ChangeFigures | None = None
    misfit: float | None = None
    doubt: float | None = None
    faults: list[str] = []


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
        if held_out.relative >= 0:
            reasons.append(f"the target does not improve: {held_out.measure} of utterances that were not adapted on "
                           f"change by {held_out.relative:+.1f} %")
        elif held_out.probability_of_gain < config.least_probability:
            reasons.append(f"the gain on the target is not sure: {held_out.measure} fall with probability "
                           f"{held_out.probability_of_gain:.2f}, expected at least {config.least_probability:g}")
        if held_out.deletion_factor > config.most_deletions:
            reasons.append(f"words get lost: {'words' if held_out.errors is None else 'deletions'} change by the "
                           f"factor {held_out.deletion_factor:.2f}, expected at most {config.most_deletions:g}")
    canary = evidence.canary
    if canary is not None:
        if canary.relative > 100 * config.most_canary_loss:
            reasons.append(f"the canary loses: its errors change by {canary.relative:+.1f} %, expected at most "
                           f"{100 * config.most_canary_loss:+.1f} %")
        if canary.deletion_factor > config.most_deletions:
            reasons.append(f"the canary loses words: its deletions change by the factor {canary.deletion_factor:.2f}, "
                           f"expected at most {config.most_deletions:g}")
    return reasons
