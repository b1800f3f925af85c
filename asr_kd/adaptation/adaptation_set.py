"""Adapt a network to one set of speech, and judge what was gained and lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_kd.adaptation.adapter import apply_tensors
from asr_kd.adaptation.change import Change, doubt
from asr_kd.adaptation.config import AdaptationConfig
from asr_kd.adaptation.data import TaughtUtterance
from asr_kd.adaptation.lattice_data import TaughtLattices
from asr_kd.adaptation.posteriors import FramePosteriors
from asr_kd.adaptation.recognition import Recogniser, Recognition, SpokenUtterance, begun_with, recognise
from asr_kd.adaptation.reserve import Reserve
from asr_kd.adaptation.training import AdaptedParameters, adapt_parameters
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads
from asr_kd.features.running_prior import RunningPrior
from asr_kd.models.bundle import ModelCard
from asr_kd.scoring.adaptation_gate import Evidence, GateConfig, refusals

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

    recognised: those that teach, by the unadapted network, where that was done already. misfits: what the forced
    alignment of each transcript lacks of the best path's log-likelihood, a frame. lattices: for a criterion over
    lattices. faults: what is wrong with the set, each a reason to refuse.
    """

    utterances: Mapping[str, SpokenUtterance]
    posteriors: Mapping[str, FramePosteriors]
    frame_shift: float  # seconds
    recognised: Recognition | None = None
    misfits: Mapping[str, float] | None = None
    lattices: TaughtLattices | None = None
    faults: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """Seconds of the speech that teaches."""
        return self.frame_shift * sum(len(one) for one in self.posteriors.values())


@dataclass(frozen=True)
class AdaptationOutcome:
    """The numbers of an adapter, what a stream begins with, what the gate decided by, and why it refused, if it did.

    epochs and kl_weight are those that were given or chosen. Loss a frame of held-out utterances after each epoch:
    part_losses is the mean over all parts with that weight, tried that of the first part with each weight tried.
    """

    tensors: dict[str, Tensor]
    prior: RunningPrior | None
    epochs: int
    kl_weight: float
    evidence: Evidence
    refusals: list[str]
    tried: dict[float, list[float]]
    part_losses: list[float]


def adapt_to_set(
    base: AdaptationBase, speech: AdaptationSet, config: AdaptationConfig, gate: GateConfig | None, *, seed: int = 0,
    workers: int | None = None, description: str = "adaptation",
) -> AdaptationOutcome:
    """Adapt to a set of speech; with `gate` judge the adapter on parts of the set that it was not adapted on.

    By the loss of each of three parts of the set, with a network that was adapted on the other two, the settings are
    chosen that are to be. The gate has the parts recognised by these networks, and the canary of the reserve by the one
    that was adapted on all; without `gate` nothing is recognised and nothing refused.
    InputError: nothing to adapt on.
    """
    if not speech.posteriors:
        raise InputError(f"{description}: no utterance can teach anything")
    if config.replay_share and base.reserve is None:
        raise InputError(f"{description}: replay_share is set, but there is no reserve of training speech")
    if gate is not None and base.recogniser is None:
        raise InputError(f"{description}: the gate needs a decoding graph")
    chooses = config.kl_weight is None or config.choose_epochs
    parts = part_utterances(speech) if gate is not None or chooses else []
    adapted = _Trainings(base, speech, parts, config, seed, workers, description).run()

    def recognise_part(number: int) -> Recognition:
        return _recognised(base, adapted.of_parts[number], adapted.part_priors[number],
                           [speech.utterances[name] for name in parts[number]])

    held_out = canary = doubts = None
    if gate is not None and parts:
        judged = map_threads(recognise_part, range(len(parts)), workers, f"{description}: parts", "part")
        before = speech.recognised
        if before is None:
            before = _recognised(base, {}, None, [speech.utterances[name] for name in speech.posteriors], workers)
        held_out = Change(before, sum(judged, Recognition()))
    if gate is not None and base.reserve is not None and base.recogniser is not None:
        canary = _recognise_canary(base, base.reserve, base.recogniser, adapted, workers)
    if held_out is not None and canary is not None and not held_out.has_transcripts:
        doubts = round(doubt(held_out.before, canary.before), 3)
    evidence = Evidence(
        seconds=round(speech.seconds, 2), utterances=len(speech.posteriors),
        held_out=None if held_out is None else held_out.figures(), canary=None if canary is None else canary.figures(),
        misfit=_misfit(speech, base.reserve), doubt=doubts, faults=list(speech.faults))
    return AdaptationOutcome(adapted.tensors, adapted.prior, adapted.epochs, adapted.kl_weight, evidence,
                             [] if gate is None else refusals(evidence, gate), adapted.tried, adapted.part_losses)


@dataclass(frozen=True)
class _Adapted:
    """Numbers adapted on all of a set, and for each of its parts those adapted on the others; see
    `AdaptationOutcome`."""

    tensors: dict[str, Tensor]
    prior: RunningPrior | None
    of_parts: list[dict[str, Tensor]]
    part_priors: list[RunningPrior | None]
    epochs: int
    kl_weight: float
    tried: dict[float, list[float]]
    part_losses: list[float]


@dataclass(frozen=True)
class _Trainings:
    """The trainings on all of a set and, for each of its parts, on the others."""

    base: AdaptationBase
    speech: AdaptationSet
    parts: list[list[str]]
    config: AdaptationConfig
    seed: int
    workers: int | None
    description: str

    def run(self) -> _Adapted:
        """Train; the first part alone chooses the weight of the KL divergence, all of them the number of epochs."""
        numbers = range(len(self.parts))
        weights = self.config.kl_weights if self.config.kl_weight is None else [self.config.kl_weight]
        first = self._adapt([(0, weight) for weight in weights] if self.parts and len(weights) > 1 else [])
        tried = {weight: training.held_out_losses for (_, weight), training in first.items()}
        chosen = min(tried, key=lambda weight: self._best(tried[weight])[1], default=weights[-1])
        others = [job for job in ((None, chosen), *((part, chosen) for part in numbers)) if job not in first]
        adapted = first | self._adapt(others)
        losses: list[float] = []
        epochs = self.config.training.epochs
        if self.parts:
            losses = np.mean([adapted[part, chosen].held_out_losses for part in numbers], axis=0).tolist()
            epochs = self._best(losses)[0]
        return _Adapted(adapted[None, chosen].after_epochs[epochs - 1], self._prior(None),
                        [adapted[part, chosen].after_epochs[epochs - 1] for part in numbers],
                        [self._prior(part) for part in numbers], epochs, chosen, tried, losses)

    def _prior(self, part: int | None) -> RunningPrior | None:
        """What a stream begins with, of all that teaches but this part."""
        if self.config.running_prior is None:
            return None
        held_out = [] if part is None else self.parts[part]
        heard = [self.speech.utterances[name].features for name in self.speech.posteriors if name not in held_out]
        return RunningPrior.estimate(heard, self.base.card.feature_recipe, self.config.running_prior)

    def _best(self, losses: Sequence[float]) -> tuple[int, float]:
        """The number of epochs after which the loss is least, or all of them; and that loss."""
        epochs = 1 + int(np.argmin(losses)) if self.config.choose_epochs else len(losses)
        return epochs, losses[epochs - 1]

    def _adapt(
        self, jobs: Sequence[tuple[int | None, float]]
    ) -> dict[tuple[int | None, float], AdaptedParameters]:
        """Adapt, for each part and weight, on the other parts; on all for the part None."""
        found = map_threads(self._adapt_one, jobs, self.workers, f"{self.description}: parts", "part")
        return dict(zip(jobs, found, strict=True))

    def _adapt_one(self, job: tuple[int | None, float]) -> AdaptedParameters:
        part, kl_weight = job
        held_out = [] if part is None else self.parts[part]
        base, prior = self.base, self._prior(part)

        def heard(features: NDArray[np.float32]) -> NDArray[np.float32]:
            return features if prior is None else prior.renormalise(features, base.card.feature_recipe)

        taught = {name: TaughtUtterance(name, heard(self.speech.utterances[name].features), posteriors)
                  for name, posteriors in self.speech.posteriors.items()}
        replay = [] if base.reserve is None or not self.config.replay_share else map(heard, base.reserve.replay)
        return adapt_parameters(
            base.network, base.card, [taught[name] for name in taught if name not in held_out],
            self.config.model_copy(update={"kl_weight": kl_weight}), seed=self.seed,
            reserve=list(replay), lattices=self.speech.lattices,
            held_out=[taught[name] for name in held_out],
            description=f"{self.description} ({'all' if part is None else f'part {part + 1}'})")


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
    base: AdaptationBase, tensors: Mapping[str, Tensor], prior: RunningPrior | None,
    utterances: Sequence[SpokenUtterance], workers: int | None = 1,
) -> Recognition:
    assert base.recogniser is not None
    return recognise(apply_tensors(base.network, tensors), base.card, begun_with(prior, utterances, base.card),
                     base.recogniser, workers)


def _recognise_canary(
    base: AdaptationBase, reserve: Reserve, recogniser: Recogniser, adapted: _Adapted, workers: int | None
) -> Change:
    own = reserve.recogniser(recogniser)
    before = reserve.recognition(own.graph)
    if before is None:
        before = recognise(base.network, base.card, reserve.canary, own, workers, "canary before")
    heard = begun_with(adapted.prior, reserve.canary, base.card)
    return Change(before, recognise(apply_tensors(base.network, adapted.tensors), base.card, heard, own, workers,
                                    "canary after"))


def _misfit(speech: AdaptationSet, reserve: Reserve | None) -> float | None:
    """Standard deviations of the canary by which the transcripts fit worse than the canary's."""
    if speech.misfits is None or reserve is None or not speech.misfits:
        return None
    known = np.array([score.misfit for score in reserve.card.scores.values()])
    worse = (np.mean(list(speech.misfits.values())) - known.mean()) / max(known.std(), 1e-3)
    return round(float(worse), 3)
