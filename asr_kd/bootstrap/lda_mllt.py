"""Triphone GMM training on spliced features after LDA and MLLT (Kaldi's `train_lda_mllt.sh`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from asr_kd.bootstrap.fmllr import silence_pdfs
from asr_kd.bootstrap.lda import accumulate_lda, lda_transform
from asr_kd.bootstrap.mllt import accumulate_mllt, mllt_transform
from asr_kd.bootstrap.trainer import Trainer
from asr_kd.bootstrap.triphone import TiedStateConfig, aligned_utterances, tie_states
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import one_blas_thread
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import FeatureSource
from asr_kd.hmm.model import HmmModel
from asr_kd.tied_states.tree_growing import TreeConfig, TreeReport

logger = get_logger(__name__)


class LdaMlltConfig(TiedStateConfig):
    """`train_lda_mllt.sh`: `left` and `right` neighbours of a frame are reduced to `dim` values."""

    left: int = Field(default=3, ge=0)
    right: int = Field(default=3, ge=0)
    dim: int = Field(default=40, gt=0)
    mllt_passes: list[int] = [2, 4, 6, 12]
    num_gaussians: int = Field(default=10000, gt=0)
    tree: TreeConfig = TreeConfig(num_leaves=1200)


def train_lda_mllt(
    features: FeatureSource,
    alignments: Mapping[str, np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    model: HmmModel,
    config: LdaMlltConfig | None = None,
    workers: int | None = None,
) -> tuple[HmmModel, TreeReport]:
    """A triphone GMM whose front end is one linear transform of spliced frames, and how its tree grew.

    LDA tells the pdfs of `alignments` (transition-ids of `model`) apart, silence left out; MLLT then makes diagonal
    covariances fit, in some of the passes. Arguments and errors as for `train_triphone`.
    """
    config = config or LdaMlltConfig()
    ids = aligned_utterances(features, alignments, transcripts, model)
    statistics = accumulate_lda(features.__getitem__, _SpeechPdfs({u: alignments[u] for u in ids}, model),
                                model.tree.num_pdfs, config.left, config.right, workers)
    front_end = FrontEnd(0, config.left, config.right, lda_transform(statistics, config.dim))
    generator = np.random.default_rng(config.seed)
    tied, converted, report = tie_states(
        replace(model, front_end=front_end), lambda u: front_end(features[u]), {u: alignments[u] for u in ids}, config,
        generator)
    trainer = _MlltTrainer(tied, features, {u: transcripts[u] for u in ids}, converted, config, "LDA+MLLT", workers,
                           generator)
    trainer.passes(max(config.tree.num_leaves, tied.tree.num_pdfs))
    return trainer.model, report


class _MlltTrainer(Trainer):
    config: LdaMlltConfig

    @one_blas_thread()
    def before_statistics(self, number: int) -> None:
        """Another linear transform behind the front end, and the means follow it."""
        if number not in self.config.mllt_passes:
            return
        statistics = accumulate_mllt(self.gmm, self.frames(), silence_pdfs(self.model), self.workers)
        transform, gain = mllt_transform(statistics)
        logger.info("MLLT in pass %d: objective %+.4f per frame over %.0f frames", number, gain, statistics.frames)
        gmm = self.gmm
        self.forget_frames()
        self.model = replace(
            self.model, front_end=self.model.front_end.followed_by(transform),
            gmm=DiagonalGmms(gmm.offsets, gmm.weights, gmm.means @ transform.T, gmm.variances))


class _SpeechPdfs(Mapping[str, np.ndarray]):
    """Utterance -> pdf of each frame, -1 for those of silence."""

    def __init__(self, alignments: Mapping[str, np.ndarray], model: HmmModel) -> None:
        self._alignments = alignments
        self._table = np.where(silence_pdfs(model)[model.transitions.pdf_ids], -1, model.transitions.pdf_ids)

    def __getitem__(self, utterance: str) -> np.ndarray:
        return self._table[self._alignments[utterance]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._alignments)

    def __len__(self) -> int:
        return len(self._alignments)
