"""Speaker-adaptive training: one fMLLR transform a speaker, estimated with the Gaussians (Kaldi's `train_sat.sh`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from asr_kd.bootstrap.fmllr import FmllrConfig, alignment_posteriors, fit_speakers, silence_pdfs
from asr_kd.bootstrap.gmm_training import GmmConfig, accumulate, update
from asr_kd.bootstrap.sorted_frames import SortedFrames
from asr_kd.bootstrap.trainer import Trainer
from asr_kd.bootstrap.triphone import TiedStateConfig, aligned_utterances, tie_states
from asr_kd.core.log import get_logger
from asr_kd.features.affine import apply_affine
from asr_kd.features.speaker_transforms import SpeakerFacts, SpeakerTransforms
from asr_kd.hmm.gmm_scores import FeatureSource, gmm_for, gmm_inputs, speakers_of
from asr_kd.hmm.model import HmmModel
from asr_kd.tied_states.tree_growing import TreeConfig, TreeReport

logger = get_logger(__name__)


class SpeakerAdaptiveConfig(TiedStateConfig):
    """`train_sat.sh`."""

    fmllr_passes: list[int] = [2, 4, 6, 12]
    fmllr: FmllrConfig = FmllrConfig(silence_weight=0.0)
    num_gaussians: int = Field(default=12000, gt=0)
    tree: TreeConfig = TreeConfig(num_leaves=1200)
    gmm: GmmConfig = GmmConfig(power=0.2)


def train_sat(
    features: FeatureSource,
    alignments: Mapping[str, np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    model: HmmModel,
    config: SpeakerAdaptiveConfig | None = None,
    workers: int | None = None,
    speakers: Mapping[str, str] | None = None,
) -> tuple[HmmModel, SpeakerTransforms, TreeReport]:
    """A speaker-adapted model on `model`'s front end, its training speakers' transforms, and how its tree grew.

    The transforms are supervised by the transcripts; a speaker with too little speech keeps the identity. The model
    also has Gaussians for features without transforms, one for each adapted one, from the same alignments and
    posteriors. `speakers`: utterance -> speaker, where `features` is no frame store. Arguments and errors as for
    `train_triphone`.
    """
    config = config or SpeakerAdaptiveConfig()
    ids = aligned_utterances(features, alignments, transcripts, model)
    chosen = {u: alignments[u] for u in ids}
    speaker_of = speakers_of(features, speakers)
    source = gmm_for(model, None)
    unadapted = gmm_inputs(model, features)
    matrices, facts = fit_speakers(source, source, unadapted, alignment_posteriors(chosen, model), ids, speaker_of,
                                   None, silence_pdfs(model), config.fmllr, workers)
    generator = np.random.default_rng(config.seed)
    tied, converted, report = tie_states(
        model, lambda u: apply_affine(unadapted(u), matrices[speaker_of[u]]), chosen, config, generator)
    trainer = _AdaptiveTrainer(tied, features, {u: transcripts[u] for u in ids}, converted, config,
                               "speaker-adaptive", workers, generator)
    trainer.adapt(matrices, facts, speaker_of)
    trainer.passes(max(config.tree.num_leaves, tied.tree.num_pdfs))
    transforms = SpeakerTransforms(trainer.transforms or {}, trainer.facts, "transcript", trainer.model.gmm_digest)
    logger.info("training speakers: %s", transforms.summary)
    return trainer.model, transforms, report


class _AdaptiveTrainer(Trainer):
    config: SpeakerAdaptiveConfig
    facts: dict[str, SpeakerFacts]

    def adapt(self, matrices: dict[str, np.ndarray], facts: dict[str, SpeakerFacts], speakers: Mapping[str, str]
              ) -> None:
        """Begin with these transforms."""
        self.transforms, self.facts, self.speakers = matrices, facts, speakers

    def before_statistics(self, number: int) -> None:
        """Transforms that go on from the present ones."""
        if number not in self.config.fmllr_passes:
            return
        self.forget_frames()
        found, facts = fit_speakers(
            self.gmm, self.gmm, self.inputs, alignment_posteriors(self.alignments, self.model),
            sorted(self.alignments), self.speakers, self.transforms, silence_pdfs(self.model), self.config.fmllr,
            self.workers)
        # A speaker none of whose utterances aligned this time keeps what it has.
        self.transforms = {**(self.transforms or {}), **found}
        self.facts = {**self.facts, **{s: _total(facts[s], self.facts[s]) for s in facts}}
        own = [f for f in facts.values() if not f.fallback]
        logger.info("fMLLR in pass %d: objective %+.4f per frame, %d of %d speakers fall back", number,
                    sum(f.gain * f.frames for f in own) / max(1.0, sum(f.frames for f in own)), len(facts) - len(own),
                    len(facts))

    def after_passes(self) -> None:
        """Gaussians for unadapted features, by the posteriors that adapted ones give (`gmm-acc-stats-twofeats`)."""
        self.forget_frames()

        def both(utterance: str) -> np.ndarray:
            return np.concatenate([self.inputs(utterance), self.unadapted(utterance)], axis=1)

        with SortedFrames(both, self.pdf_ids(), self.model.tree.num_pdfs, self.workers) as frames:
            statistics = accumulate(self.gmm, frames, self.workers)
        self.model = replace(self.model, speaker_independent_gmm=update(self.gmm, statistics, self.config.gmm,
                                                                         keep_rare=True))


def _total(last: SpeakerFacts, before: SpeakerFacts) -> SpeakerFacts:
    """Facts of a transform that went on from one before: gains add up."""
    return SpeakerFacts(last.frames, last.fallback and before.fallback, last.gain + before.gain)
