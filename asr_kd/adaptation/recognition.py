"""Recognise a few utterances: words, errors, and expected errors where there are no transcripts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from asr_kd.core.parallel import map_threads
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.rescoring import best_path
from asr_kd.decoding.search import SearchConfig, SearchError, decode
from asr_kd.features.running_prior import RunningPrior
from asr_kd.lattices.determinization import determinize_within
from asr_kd.lattices.minimum_bayes_risk import minimum_bayes_risk
from asr_kd.models.bundle import ModelCard
from asr_kd.models.log_likelihoods import log_likelihoods, one_torch_thread
from asr_kd.scoring.wer import ErrorCounts, count_errors, pool


@dataclass(frozen=True)
class Recogniser:
    """A decoding graph with its search, and the LM weight and insertion penalty of the words that come out."""

    graph: DecodingGraph
    search: SearchConfig
    lm_weight: float
    insertion_penalty: float


@dataclass(frozen=True)
class SpokenUtterance:
    """An utterance to be recognised: features (frames, dim) as the network hears them, and what was said, if known."""

    id: str
    features: NDArray[np.float32]
    transcript: Sequence[str] | None = None


@dataclass(frozen=True)
class Recognised:
    """Words of one utterance, their errors where the transcript is known, their expected errors in the lattice, and
    the acoustic log-likelihood of their path, a frame."""

    words: Sequence[str]
    errors: ErrorCounts | None
    expected_errors: float
    log_likelihood: float
    frames: int


@dataclass(frozen=True)
class Recognition:
    """Recognised utterances by id."""

    utterances: Mapping[str, Recognised] = field(default_factory=dict)

    def __add__(self, other: "Recognition") -> "Recognition":
        return Recognition({**self.utterances, **other.utterances})

    @property
    def errors(self) -> ErrorCounts:
        """Errors of the utterances whose transcripts are known."""
        return pool(one.errors for one in self.utterances.values() if one.errors is not None)

    @property
    def num_words(self) -> int:
        """Words that were recognised."""
        return sum(len(one.words) for one in self.utterances.values())

    @property
    def expected_error_rate(self) -> float:
        """Expected errors in percent of the words recognised; 100 where none were."""
        errors = sum(one.expected_errors for one in self.utterances.values())
        return 100 * errors / self.num_words if self.num_words else 100.0


def begun_with(
    prior: RunningPrior | None, utterances: Sequence[SpokenUtterance], card: ModelCard
) -> Sequence[SpokenUtterance]:
    """The utterances as they are heard where running normalisation begins with `prior`; as they are without one."""
    if prior is None:
        return utterances
    return [replace(one, features=prior.renormalise(one.features, card.feature_recipe)) for one in utterances]


def recognise(
    network: nn.Module, card: ModelCard, utterances: Sequence[SpokenUtterance], recogniser: Recogniser,
    workers: int | None = None, description: str = "recognising",
) -> Recognition:
    """Recognise utterances with a network. One whose search fails has no words and is all deletions."""
    def one(utterance: SpokenUtterance) -> Recognised:
        return _recognise(lambda: log_likelihoods(network, card, utterance.features), utterance, recogniser)

    with one_torch_thread():
        found = map_threads(one, utterances, workers, description)
        return Recognition({utterance.id: result for utterance, result in zip(utterances, found, strict=True)})


def _recognise(
    scores: Callable[[], NDArray[np.float32]], utterance: SpokenUtterance, recogniser: Recogniser
) -> Recognised:
    words: list[str] = []
    risk, acoustic = 0.0, 0.0
    weight, penalty = recogniser.lm_weight, recogniser.insertion_penalty
    try:
        result = decode(recogniser.graph, scores(), recogniser.search)
    except SearchError:
        frames = 0
    else:
        frames = result.frames
        lattice, _ = determinize_within(
            result.lattice, recogniser.search.lattice_beam, recogniser.search.acoustic_scale)
        path = best_path(lattice, weight, penalty)
        words = [recogniser.graph.words[word] for word in path.words]
        acoustic = -path.acoustic_cost
        risk = minimum_bayes_risk(lattice, 1 / weight, 1.0, penalty, path.words, decode_mbr=False).risk
    errors = None if utterance.transcript is None else count_errors(utterance.transcript, words)
    return Recognised(words, errors, risk, acoustic / max(frames, 1), frames)
