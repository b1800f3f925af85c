"""Forced alignment by a speaker-adapted model, with transforms estimated from the same transcripts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asr_kd.alignment.align import (
    AlignConfig,
    Alignments,
    ScoreSource,
    align,
    align_to_folder,
    gmm_score_source,
    utterance_ids,
)
from asr_kd.bootstrap.fmllr import FmllrConfig, alignment_posteriors, estimate_fmllr
from asr_kd.core.drops import Drops
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm_scores import FeatureSource
from asr_kd.hmm.model import HmmModel

# Kaldi's align_fmllr.sh leaves silence out; decoding, which does not know where it is, only weights it down.
TRANSCRIPT_FMLLR = FmllrConfig(silence_weight=0.0)


def align_adapted(
    model: HmmModel,
    features: FeatureSource,
    transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig | None = None,
    fmllr: FmllrConfig | None = None,
    workers: int | None = None,
    speakers: Mapping[str, str] | None = None,
) -> tuple[Alignments, SpeakerTransforms, Drops]:
    """Alignments, the transforms that they were made with, and what was dropped (Kaldi's `align_fmllr.sh`).

    A first alignment with the speaker-independent Gaussians supervises one transform for each speaker (silence left
    out unless `fmllr` says otherwise), the second is made with those. Arguments and errors as for `align`.
    """
    first, _ = align(model, features, transcripts, config, workers, speakers=speakers)
    transforms = _supervised(model, features, transcripts, first, fmllr, workers, speakers)
    alignments, drops = align(model, features, transcripts, config, workers, transforms, speakers)
    return alignments, transforms, drops


def adapted_score_source(
    model: HmmModel,
    features: FeatureSource,
    transcripts: Mapping[str, Sequence[str]],
    config: AlignConfig,
    scratch: Path,
    fmllr: FmllrConfig | None = None,
    workers: int | None = None,
    speakers: Mapping[str, str] | None = None,
) -> tuple[ScoreSource, SpeakerTransforms]:
    """The first half of `align_adapted` for many hours: scores for `align_to_folder`, and the transforms in them.

    The first alignment is written to the new folder `scratch`, not kept in memory. Features without a transcript are
    passed over.
    """
    first, _ = align_to_folder(scratch, model, gmm_score_source(model, features, config, speakers=speakers),
                               list(transcripts), transcripts, config, workers)
    transforms = _supervised(model, features, transcripts, first, fmllr, workers, speakers)
    return gmm_score_source(model, features, config, transforms, speakers), transforms


def _supervised(
    model: HmmModel, features: FeatureSource, transcripts: Mapping[str, Sequence[str]],
    alignments: Mapping[str, np.ndarray], fmllr: FmllrConfig | None, workers: int | None,
    speakers: Mapping[str, str] | None,
) -> SpeakerTransforms:
    # Also of speakers without any alignment: they get the identity, and the second alignment may yet succeed.
    utterances = [utterance for utterance in utterance_ids(features) if utterance in transcripts]
    return estimate_fmllr(model, features, alignment_posteriors(alignments, model), utterances,
                          fmllr or TRANSCRIPT_FMLLR, supervision="transcript", speakers=speakers, workers=workers)
