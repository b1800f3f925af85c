"""Adapt a network to one set of speech, and judge what was gained and lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from asr_kd.adaptation.adapter import apply_tensors
from asr_kd.adaptation.change import Change, doubt
from asr_kd.adaptation.config import AdaptationConfig
from asr_kd.adaptation.data import TaughtUtterance
from asr_kd.adaptation.gate import Evidence, GateConfig, refusals
from asr_kd.adaptation.lattice_data import TaughtLattices
from asr_kd.adaptation.posteriors import FramePosteriors
from asr_kd.adaptation.recognition import Recogniser, Recognition, SpokenUtterance, recognise
from asr_kd.adaptation.reserve import Reserve
from asr_kd.adaptation.training import AdaptedParameters, adapt_parameters
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads
from asr_kd.models.bundle import ModelCard

_FOLDS = 3


@dataclass(frozen=True)
class AdaptationBase:
    """A network to be adapted, in the folder `name`, with what recognises by it and its reserve, where there are."""

    network: nn.Module
    card: ModelCard
    name: Path
    recogniser: Recogniser | None = None
    reserve: Reserve | None = None


@dataclass(frozen=True)
class AdaptationSet:
    """Speech to adapt to: utterances, and the posteriors to be learnt of those that can teach.

    misfits: what the forced alignment of each transcript lacks of the best path's log-likelihood, a frame. lattices:
    for a criterion over lattices. faults: what is wrong with the set, each a reason to refuse.
    """

    utterances: Mapping[str, SpokenUtterance]
    posteriors: Mapping[str, FramePosteriors]
    frame_shift: float  # seconds
    misfits: Mapping[str, float] | None = None
    lattices: TaughtLattices | None = None
    faults: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """Seconds of the speech that teaches."""
        return self.frame_shift * sum(len(one) for one in self.posteriors.values())


@dataclass(frozen=True)
class AdaptationOutcome:
    """The numbers of an adapter, what the gate decided by, and why it refused, if it did.

    fold_losses: loss a frame of held-out utterances after each epoch, mean over the folds.
    """

    tensors: dict[str, Tensor]
    epochs: int
    evidence: Evidence
    refusals: list[str]
    fold_losses: list[float]


def adapt_to_set(
    base: AdaptationBase, speech: AdaptationSet, config: AdaptationConfig, gate: GateConfig | None, *, seed: int = 0,
    workers: int | None = None, work: Path | None = None, description: str = "adaptation",
) -> AdaptationOutcome:
    """Adapt to a set of speech; with `gate` judge the adapter on parts of the set that it was not adapted on.

    Each of three parts of the set is recognised by a network that was adapted on the other two; the canary of the
    reserve by the one that was adapted on all. Without `gate` nothing is recognised and nothing refused.
    InputError: nothing to adapt on.
    """
    taught = {name: TaughtUtterance(name, speech.utterances[name].features, posteriors)
              for name, posteriors in speech.posteriors.items()}
    if not taught:
        raise InputError(f"{description}: no utterance can teach anything")
    replay = base.reserve.replay if base.reserve is not None else []
    if config.replay_share and base.reserve is None:
        raise InputError(f"{description}: replay_share is set, but there is no reserve of training speech")

    def adapt(names: Sequence[str], held_out: Sequence[str], part: str) -> AdaptedParameters:
        return adapt_parameters(
            base.network, base.card, [taught[name] for name in names], config, seed=seed, reserve=replay,
            lattices=speech.lattices, held_out=[taught[name] for name in held_out],
            work=None if work is None else work / part,
            description=f"{description} ({part})")

    if gate is not None and base.recogniser is None:
        raise InputError(f"{description}: the gate needs a decoding graph")
    folds = part_utterances(speech) if gate is not None else []

    def judge_fold(number: int) -> tuple[Recognition, list[float]]:
        held_out = folds[number]
        adapted = adapt([name for name in taught if name not in held_out], held_out, f"part {number + 1}")
        losses = [record["cv_loss"] for record in adapted.training.history]
        return _recognised(base, adapted.tensors, [speech.utterances[name] for name in held_out]), losses

    judged = list(map_threads(judge_fold, range(len(folds)), workers, f"{description}: parts", "part"))
    whole = adapt(list(taught), [], "all")
    held_out = canary = None
    if folds:
        before = _recognised(base, {}, [speech.utterances[name] for name in taught], workers)
        held_out = Change(before, sum((recognition for recognition, _ in judged), Recognition()))
    if gate is not None and base.reserve is not None and base.recogniser is not None:
        canary = _recognise_canary(base, base.reserve, base.recogniser, whole.tensors, workers)
    doubts = None
    if held_out is not None and canary is not None and not held_out.has_transcripts:
        doubts = round(doubt(held_out.before, canary.before), 3)
    evidence = Evidence(
        seconds=round(speech.seconds, 2), utterances=len(taught),
        held_out=None if held_out is None else held_out.figures(), canary=None if canary is None else canary.figures(),
        misfit=_misfit(speech, base.reserve), doubt=doubts, faults=list(speech.faults))
    return AdaptationOutcome(
        whole.tensors, config.training.epochs, evidence, [] if gate is None else refusals(evidence, gate),
        np.mean([losses for _, losses in judged], axis=0).tolist() if judged else [])


def part_utterances(speech: AdaptationSet, folds: int = _FOLDS) -> list[list[str]]:
    """Part the utterances that teach into so many parts of about equally many frames; none where there is only one."""
    names = sorted(speech.posteriors, key=lambda name: (-len(speech.posteriors[name]), name))
    count = min(folds, len(names))
    if count < 2:
        return []
    parts: list[list[str]] = [[] for _ in range(count)]
    frames = [0] * count
    for name in names:
        shortest = frames.index(min(frames))
        parts[shortest].append(name)
        frames[shortest] += len(speech.posteriors[name])
    return parts


def _recognised(
    base: AdaptationBase, tensors: Mapping[str, Tensor], utterances: Sequence[SpokenUtterance],
    workers: int | None = 1,
) -> Recognition:
    assert base.recogniser is not None
    return recognise(apply_tensors(base.network, tensors), base.card, utterances, base.recogniser, workers)


def _recognise_canary(
    base: AdaptationBase, reserve: Reserve, recogniser: Recogniser, tensors: Mapping[str, Tensor], workers: int | None
) -> Change:
    own = reserve.recogniser(recogniser)
    before = reserve.recognition(own.graph)
    if before is None:
        before = recognise(base.network, base.card, reserve.canary, own, workers, "canary before")
    adapted = apply_tensors(base.network, tensors)
    return Change(before, recognise(adapted, base.card, reserve.canary, own, workers, "canary after"))


def _misfit(speech: AdaptationSet, reserve: Reserve | None) -> float | None:
    """Standard deviations of the canary by which the transcripts fit worse than the canary's."""
    if speech.misfits is None or reserve is None or not speech.misfits:
        return None
    known = np.array([score.misfit for score in reserve.card.scores.values()])
    worse = (np.mean(list(speech.misfits.values())) - known.mean()) / max(known.std(), 1e-3)
    return round(float(worse), 3)
