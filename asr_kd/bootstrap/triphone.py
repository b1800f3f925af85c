"""Triphone GMM training: a tree from alignments, then its Gaussians (Kaldi's `train_deltas.sh`)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from asr_kd.alignment.align import Alignments, utterance_ids
from asr_kd.alignment.boundaries import AlignmentConverter
from asr_kd.bootstrap.gmm_training import split
from asr_kd.bootstrap.trainer import Trainer, TrainingConfig, check_alignments
from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import FeatureSource
from asr_kd.hmm.model import HmmModel
from asr_kd.hmm.transitions import TransitionModel
from asr_kd.tied_states.questions import phone_questions
from asr_kd.tied_states.tree_growing import TreeConfig, TreeReport, grow_tree
from asr_kd.tied_states.tree_statistics import accumulate_tree_statistics

logger = get_logger(__name__)


class TiedStateConfig(TrainingConfig):
    """The settings of trainings with a tree of their own."""

    tree: TreeConfig = TreeConfig()


class TriphoneConfig(TiedStateConfig):
    """`train_deltas.sh`. `deltas`: whether to add them here."""

    deltas: bool = True
    boost_silence: float = Field(default=1.25, gt=0)


def train_triphone(
    features: FeatureSource,
    alignments: Mapping[str, np.ndarray],
    transcripts: Mapping[str, Sequence[str]],
    model: HmmModel,
    config: TriphoneConfig | None = None,
    workers: int | None = None,
) -> tuple[HmmModel, TreeReport]:
    """A triphone GMM with a tree grown from `alignments` (transition-ids of `model`), and how the tree grew.

    `features` as for `train_monophone`; utterances without alignment are left out. InputError where an alignment
    store is of another model, or where lengths differ.
    """
    config = config or TriphoneConfig()
    ids = aligned_utterances(features, alignments, transcripts, model)
    generator = np.random.default_rng(config.seed)
    front_end = FrontEnd.deltas() if config.deltas else FrontEnd.identity()
    tied, converted, report = tie_states(
        replace(model, front_end=front_end), lambda u: front_end(features[u]), {u: alignments[u] for u in ids}, config,
        generator)
    # train_deltas.sh splits before the first pass (gmm-mixup); its successors do not.
    initial = max(config.tree.num_leaves, tied.tree.num_pdfs)
    assert tied.gmm is not None
    tied = replace(tied, gmm=split(tied.gmm, _occupancy(converted, tied), min(initial, config.num_gaussians),
                                   config.gmm, generator))
    trainer = Trainer(tied, features, {u: transcripts[u] for u in ids}, converted, config, "triphone", workers,
                      generator)
    trainer.passes(initial)
    return trainer.model, report


def tie_states(model: HmmModel, inputs: Callable[[str], np.ndarray], alignments: Mapping[str, np.ndarray],
               config: TiedStateConfig, generator: np.random.Generator) -> tuple[HmmModel, Alignments, TreeReport]:
    """A model with a new tree and one Gaussian a pdf, the alignments as its transition-ids, and a report.

    `inputs(utterance)` `(frames, dim)` is what the Gaussians will be given; `alignments` are of `model`.
    """
    phones, topology = model.phones, model.topology
    statistics = accumulate_tree_statistics(_Computed(inputs, alignments), alignments, model.transitions, phones)
    questions = phone_questions(phones, statistics, config.tree.variance_floor, generator)
    tree, sums, report = grow_tree(statistics, phones, topology, questions, config.tree)
    logger.info("tree: %d leaves, gain %.4f per frame; clustering %+.4f; %d pdfs, %d seen", report.leaves_split,
                report.gain_per_frame, report.clustering_change_per_frame, report.num_pdfs, report.num_seen_pdfs)
    transitions = TransitionModel.from_tree(topology, tree)
    tied = replace(model, tree=tree, transitions=transitions, speaker_independent_gmm=None,
                   gmm=_gmm_of_statistics(sums, config.tree.variance_floor))
    convert = AlignmentConverter(model.transitions, tree, transitions)
    return tied, {u: convert(alignments[u]) for u in alignments}, report


def aligned_utterances(features: FeatureSource, alignments: Mapping[str, np.ndarray],
                       transcripts: Mapping[str, Sequence[str]], model: HmmModel) -> list[str]:
    """The utterances that have all of these, sorted. InputError where there are none, or `check_alignments` fails."""
    ids = [u for u in utterance_ids(features) if u in alignments and u in transcripts]
    if not ids:
        raise InputError("no utterance has features, a transcript and an alignment")
    check_alignments(alignments, features, ids, model)
    return ids


class _Computed(Mapping[str, np.ndarray]):
    """A function as the mapping of some utterances."""

    def __init__(self, function: Callable[[str], np.ndarray], keys: Mapping[str, np.ndarray]) -> None:
        self._function = function
        self._keys = keys

    def __getitem__(self, key: str) -> np.ndarray:
        return self._function(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _occupancy(alignments: Alignments, model: HmmModel) -> np.ndarray:
    counts = np.zeros(model.tree.num_pdfs)
    for alignment in alignments.values():
        counts += np.bincount(model.transitions.pdf_ids[alignment], minlength=len(counts))
    return counts


def _gmm_of_statistics(sums: np.ndarray, variance_floor: float) -> DiagonalGmms:
    """One Gaussian per pdf; a pdf without data gets the Gaussian of all data (`gmm-init-model`)."""
    filled = np.where(sums[:, :1] > 0, sums, sums.sum(axis=0))
    dim = (sums.shape[1] - 1) // 2
    means = filled[:, 1 : 1 + dim] / filled[:, :1]
    variances = np.maximum(filled[:, 1 + dim :] / filled[:, :1] - means**2, variance_floor)
    return DiagonalGmms(np.arange(len(sums) + 1), np.ones(len(sums)), means, variances)
