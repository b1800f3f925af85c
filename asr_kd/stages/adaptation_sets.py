"""Sets of speech to adapt to, with what is to be learnt of them: for the stage `adapters` and for `asr-kd adapt`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from asr_kd.adaptation.adaptation_set import AdaptationBase, AdaptationSet
from asr_kd.adaptation.lattice_data import TaughtLattice, TaughtLattices
from asr_kd.adaptation.posteriors import FramePosteriors, mix_posteriors
from asr_kd.adaptation.recognition import Recogniser, SpokenUtterance, recognise
from asr_kd.adaptation.teaching import (
    FirstPassTeaching,
    Scores,
    best_posteriors,
    first_pass_posteriors,
    teacher_posteriors,
    transcript_misfits,
)
from asr_kd.alignment.align import AlignConfig, align_log_likelihoods
from asr_kd.core.config import Config
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads
from asr_kd.decoding.search import SearchError, decode
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.bundle import ModelCard
from asr_kd.models.log_likelihoods import log_likelihoods
from asr_kd.scoring.teaching import Teaching, learns_from_teacher, learns_transcripts
from asr_kd.sequence.config import CriterionConfig
from asr_kd.stages.sequence import transition_table

LATTICE_BEAM = 7.0  # of lattices that a criterion is taken over


class TeachingConfig(Config):
    """What teaches, and how: see `Teaching`.

    top_k: pdfs of a teacher's posteriors that a frame keeps. teacher_share: what the teacher has of the targets where
    both teach, the transcripts having the rest.
    """

    teaching: Teaching = "transcripts"
    alignment: AlignConfig = AlignConfig(max_dropped=1.0)
    first_pass: FirstPassTeaching = FirstPassTeaching()
    top_k: int = Field(32, gt=0)
    teacher_share: float = Field(0.5, gt=0, lt=1)


@dataclass(frozen=True)
class SoftTeacher:
    """A teacher, its card, and the features of the same utterances that it hears."""

    network: nn.Module
    card: ModelCard
    heard: FrameStore

    def scores(self, name: str) -> NDArray[np.float32]:
        """Log-likelihoods of an utterance, (frames, pdfs)."""
        return log_likelihoods(self.network, self.card, self.heard[name])

    def posteriors_of(self, scores: NDArray[np.float32], top_k: int) -> FramePosteriors:
        """Soft targets of an utterance with these log-likelihoods."""
        return best_posteriors(scores + self.card.log_priors(), top_k)

    def posteriors(self, name: str, top_k: int) -> FramePosteriors:
        """Soft targets of an utterance."""
        return teacher_posteriors(self.network, self.card, self.heard[name], top_k=top_k)


@dataclass(frozen=True)
class AdaptationSpeech:
    """Features of utterances as the network hears them, and the words of those whose transcripts are known."""

    store: FrameStore
    transcripts: Mapping[str, Sequence[str]]

    def utterance(self, name: str, with_transcript: bool) -> SpokenUtterance:
        """The utterance as it is to be recognised."""
        return SpokenUtterance(name, self.store[name], self.transcripts.get(name) if with_transcript else None)


def build_set(
    base: AdaptationBase, hmm: HmmModel, speech: AdaptationSpeech, names: Sequence[str], config: TeachingConfig,
    teacher: SoftTeacher | None = None, criterion: CriterionConfig | None = None, workers: int | None = None,
    faults: Sequence[str] = (),
) -> tuple[AdaptationSet, Drops]:
    """Make posteriors of these utterances, for a `criterion` their lattices too, and count what cannot teach.

    Transcripts are used where they teach: otherwise the gate must do without them. InputError: no teacher, no graph or
    no transcripts where the teaching needs them, words without pronunciation.
    """
    drops = Drops(len(names), cap=1.0)
    supervised = learns_transcripts(config.teaching)
    if learns_from_teacher(config.teaching) and teacher is None:
        raise InputError("no teacher is given whose soft targets could be learnt")
    utterances = {name: speech.utterance(name, supervised) for name in names}

    def scores(name: str) -> NDArray[np.float32]:
        return log_likelihoods(base.network, base.card, utterances[name].features)

    heard = misfits = lattices = None
    if supervised:
        known = {name: list(words) for name, words in speech.transcripts.items() if name in utterances and words}
        for name in names:
            if name not in known:
                drops.drop(name, "no transcript")
        if not known:
            raise InputError("no utterance has a transcript; give transcripts, or let a first pass or a teacher teach")
        soft: dict[str, FramePosteriors] = {}

        def aligner(name: str) -> NDArray[np.float32]:
            if teacher is None:
                return scores(name)
            found = teacher.scores(name)
            soft[name] = teacher.posteriors_of(found, config.top_k)
            return found

        alignments, alignment = align_log_likelihoods(hmm, aligner, known, config.alignment, workers)
        posteriors = alignment_posteriors(hmm, alignments)
        for reason, items in alignment.reasons.items():
            for name, detail in items:
                drops.drop(name, reason, detail)
        if base.recogniser is not None:
            heard = recognise(base.network, base.card, [utterances[name] for name in posteriors], base.recogniser,
                              workers)
            misfits = transcript_misfits(scores, posteriors, heard)
        if criterion is not None and base.recogniser is not None:
            lattices = _lattices(base.recogniser, hmm, scores, alignments, criterion, workers)
        if teacher is not None:
            posteriors = {name: mix_posteriors(aligned, soft[name], config.teacher_share)
                          for name, aligned in posteriors.items()}
    else:
        posteriors = {}
        for name in names:
            try:
                posteriors[name] = _untranscribed(base, hmm, name, scores, config, teacher)
            except SearchError as error:
                drops.drop(name, error.reason, str(error))
    shift = float(speech.store.recipe["frame_shift"]) / 1000
    return AdaptationSet(utterances, posteriors, shift, heard, misfits, lattices, faults), drops


def alignment_posteriors(hmm: HmmModel, alignments: Mapping[str, np.ndarray]) -> dict[str, FramePosteriors]:
    """The posteriors of forced alignments, transition-ids (frames,) by utterance."""
    pdf_ids = hmm.transitions.pdf_ids
    return {name: FramePosteriors.of_alignment(pdf_ids[ids]) for name, ids in alignments.items()}


def _lattices(
    recogniser: Recogniser, hmm: HmmModel, scores: Scores, alignments: Mapping[str, np.ndarray],
    criterion: CriterionConfig, workers: int | None,
) -> TaughtLattices:
    """Lattices of the aligned utterances, searched at the criterion's acoustic scale."""
    search = recogniser.search.model_copy(update={
        "acoustic_scale": criterion.acoustic_scale, "lattice_beam": LATTICE_BEAM})

    def search_one(name: str) -> TaughtLattice:
        return TaughtLattice(decode(recogniser.graph, scores(name), search).lattice, alignments[name])

    found = map_threads(search_one, alignments, workers, "lattices")
    return TaughtLattices(dict(zip(alignments, found, strict=True)), transition_table(hmm))


def _untranscribed(
    base: AdaptationBase, hmm: HmmModel, name: str, scores: Any, config: TeachingConfig, teacher: SoftTeacher | None
) -> FramePosteriors:
    if teacher is not None:
        return teacher.posteriors(name, config.top_k)
    if base.recogniser is None:
        raise InputError("a first pass needs a decoding graph")
    return first_pass_posteriors(base.recogniser.graph, hmm.transitions.pdf_ids, scores(name), config.first_pass)
