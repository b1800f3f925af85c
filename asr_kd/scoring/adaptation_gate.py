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
    """Bounds of the gate, chosen on dev speakers (ADAPTATION.md). All but the first six compare the adapted with the
    unadapted network.

    On utterances that were not adapted on: with transcripts their word errors, without them what is observable. Few
    words tell little: a set of seconds is refused only where its errors almost surely do not fall.
    """

    least_seconds: float = Field(4.0, ge=0, description="of speech in the set: with less there is nothing to tell by")
    least_utterances: int = Field(2, ge=2, description="each is judged by a network that was not adapted on it")
    most_misfit: float = Field(4.5, gt=0, description="standard deviations by which the transcripts' alignment may fit "
                               "the audio worse than the canary's do theirs")
    most_errors: float = Field(0.9, gt=0, description="share of the transcripts' words that the unadapted network may "
                               "get wrong: of wrong transcripts nearly all")
    most_doubt: float = Field(3.5, gt=0, description="without transcripts: standard deviations by which the expected "
                              "error rate of the speech may lie above the canary's")
    least_words: float = Field(0.4, ge=0, description="without transcripts: words a second that the unadapted network "
                               "recognises at least, which noise and tones do not reach")
    least_probability: float = Field(0.1, ge=0, le=1, description="that errors of held-out utterances fall, by "
                                     "bootstrap over utterances")
    many_words: int = Field(200, ge=0, description="from so many held-out words on their errors have to fall")
    most_canary_loss: float = Field(0.3, ge=0, description="share by which the canary's errors may grow")
    most_deletions: float = Field(2.5, ge=1, description="factor by which deletions may grow, held-out utterances and "
                                  "canary alike")
    most_lost_words: float = Field(1.2, ge=1, description="without transcripts: factor by which words may get fewer")


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
    reasons = [*evidence.faults, *_faults_of_set(evidence, config)]
    if evidence.held_out is not None:
        reasons += _target_losses(evidence.held_out, config)
    if evidence.canary is not None:
        reasons += _canary_losses(evidence.canary, config)
    return reasons


def _faults_of_set(evidence: Evidence, config: GateConfig) -> list[str]:
    reasons = []
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
    if held_out is not None and held_out.errors is not None and held_out.before > 100 * config.most_errors:
        reasons.append(f"the transcripts are not what was recognised: {held_out.before:.1f} % of their words are "
                       f"errors before adaptation, expected at most {100 * config.most_errors:g} %")
    if held_out is not None and held_out.errors is None:
        rate = held_out.words_before / max(evidence.seconds, 0.01)
        if rate < config.least_words:
            reasons.append(f"hardly any speech: {rate:.2f} words a second are recognised, expected at least "
                           f"{config.least_words:g}")
    return reasons


def _target_losses(held_out: ChangeFigures, config: GateConfig) -> list[str]:
    reasons = []
    words = held_out.words_before if held_out.errors is None else held_out.errors.words
    surely_worse = held_out.probability_of_gain < config.least_probability
    if surely_worse or (held_out.relative >= 0 and words >= config.many_words):
        reasons.append(f"the target does not improve: {held_out.measure} of {words} words that were not adapted on "
                       f"change by {held_out.relative:+.1f} %; they fall with probability "
                       f"{held_out.probability_of_gain:.2f}")
    if held_out.errors is None and held_out.deletion_factor > config.most_lost_words:
        reasons.append(f"words get lost: they get fewer by the factor {held_out.deletion_factor:.2f}, expected at most "
                       f"{config.most_lost_words:g}")
    if held_out.errors is not None and held_out.deletion_factor > config.most_deletions:
        reasons.append(f"words get lost: deletions change by the factor {held_out.deletion_factor:.2f}, expected at "
                       f"most {config.most_deletions:g}")
    return reasons


def _canary_losses(canary: ChangeFigures, config: GateConfig) -> list[str]:
    reasons = []
    if canary.relative > 100 * config.most_canary_loss:
        reasons.append(f"the canary loses: its errors change by {canary.relative:+.1f} %, expected at most "
                       f"{100 * config.most_canary_loss:+.1f} %")
    if canary.deletion_factor > config.most_deletions:
        reasons.append(f"the canary loses words: its deletions change by the factor {canary.deletion_factor:.2f}, "
                       f"expected at most {config.most_deletions:g}")
    return reasons
