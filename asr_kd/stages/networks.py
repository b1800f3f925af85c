"""Stages that train networks, and the one that caches a teacher's soft targets."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from asr_kd.adaptation.adapter import AdaptedNetworks
from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.core.config import AddedLater, Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json, link_or_copy
from asr_kd.core.log import get_logger
from asr_kd.core.stages import Stage, StageContext
from asr_kd.distillation.config import DistillationConfig, Temperature
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.soft_targets import SoftTargets, SoftTargetsKey, build_soft_targets
from asr_kd.distillation.teachers import CachedTeacher, Combination, LiveTeacher, Teacher, TeacherEnsemble
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.architecture import NetworkConfig, build_network, hidden_dim
from asr_kd.models.bundle import alignment_priors, load_bundle, save_bundle
from asr_kd.models.lhuc import add_speaker_scales
from asr_kd.models.parameter_groups import parameters_of
from asr_kd.training.config import TrainingConfig
from asr_kd.training.data import TrainingData, frames_digest
from asr_kd.training.engine import TrainingResult, train
from asr_kd.training.objective import CrossEntropy, Objective
from asr_kd.training.tuning import training_device

logger = get_logger(__name__)

BUNDLE = "model"
PASSES = "passes"  # a bundle after each pass of sequence training
SOFT_TARGETS = "soft_targets"
_MUCH_LOST = 0.1  # of the teacher's probability


class SpeakerAdaptiveConfig(Config):
    """LHUC scales of each training speaker, trained with the network (SAT-LHUC, arXiv 1601.02828, section 4).

    The network that is kept is the one without scales; it is made to be adapted by LHUC.
    """

    independent_share: float = Field(0.5, gt=0, le=1, description="share of the utterances that are heard without "
                                     "scales, by the network as it is kept")


class NetworkStageConfig(Config):
    """A network, how it is trained, and (with a teacher or soft targets among the inputs) how it is taught."""

    split: Name = "train"
    network: NetworkConfig
    training: TrainingConfig = TrainingConfig()
    distillation: DistillationConfig | None = None
    splice_left: int = Field(7, ge=0)
    splice_right: int = Field(7, ge=0)
    speaker_adaptive: Annotated[SpeakerAdaptiveConfig | None, AddedLater()] = None
    unlabelled: bool = Field(False, description="learn from the soft targets of frames without alignment too; "
                             "cross_entropy_weight is 0 then")


class SoftTargetsStageConfig(Config):
    """The number of the teacher's pdfs that a frame keeps, and their temperature.

    hidden: its last hidden layer too, for a projector. combination: how several teachers (the inputs teacher,
    teacher_2 and so on) become one, nothing to one alone.
    """

    split: Name = "train"
    top_k: int = Field(32, gt=0)
    temperature: Temperature = 1.0
    hidden: bool = False
    combination: Combination = "posteriors"


def check_network(config: NetworkStageConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError where what teaches, and how soft targets are made, are not what the settings want."""
    check_taught(config.distillation, inputs)
    _check_unlabelled(config, inputs)
    check_soft_targets(config.distillation, config.split, inputs)


def check_taught(distillation: DistillationConfig | None, inputs: Mapping[str, Any]) -> None:
    """InputError: an input that teaches nothing, or distillation and nothing that teaches."""
    if distillation is None:
        for name in ("teacher", SOFT_TARGETS, "teacher_features"):
            if name in inputs:
                raise InputError(f"the input {name!r} teaches nothing: the settings have no distillation")
    elif not {"teacher", SOFT_TARGETS} & inputs.keys():
        raise InputError("distillation needs the input 'teacher' or its 'soft_targets'")


def check_soft_targets(distillation: DistillationConfig | None, split: str, inputs: Mapping[str, Stage]) -> None:
    """InputError where the stage that caches soft targets is set otherwise than the student that learns from them."""
    cached = inputs[SOFT_TARGETS].config if SOFT_TARGETS in inputs else None
    if distillation is None or not isinstance(cached, SoftTargetsStageConfig):
        return
    of_stage = f"soft targets of stage {inputs[SOFT_TARGETS].name!r}"
    if cached.temperature != distillation.temperature:
        raise InputError(f"distillation.temperature is {distillation.temperature:g}, that of {of_stage} "
                         f"{cached.temperature:g}; set both alike")
    if distillation.projector.weight and not cached.hidden:
        raise InputError(f"distillation.projector needs the teacher's last hidden layer; set hidden of {of_stage}")
    if cached.split != split:
        raise InputError(f"split is {split}, that of {of_stage} {cached.split}; set both alike")


def _check_unlabelled(config: NetworkStageConfig, inputs: Mapping[str, Any]) -> None:
    if config.unlabelled and (SOFT_TARGETS not in inputs or config.distillation is None
                              or config.distillation.cross_entropy_weight):
        raise InputError("frames without alignment teach by soft targets alone: with unlabelled give the input "
                         "soft_targets, and leave cross_entropy_weight at 0")


def train_network(
    inputs: Mapping[str, Path], config: NetworkStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A model bundle; its curves are `train.jsonl` and `tensorboard/` in the sub-folder `log`."""
    store = FrameStore.open(inputs["features"] / config.split)
    hmm = HmmModel.load(inputs["hmm"])
    pdf_ids = aligned_pdf_ids(store, AlignmentStore.open(inputs["alignments"]), hmm)
    splice = (config.splice_left, config.splice_right)
    torch.manual_seed(context.seed)
    model = build_network(config.network, store.dim * (sum(splice) + 1), hmm.tree.num_pdfs)
    objective, targets = frame_objective(inputs, config.distillation, config.split, splice, store, hmm, model)
    _check_unlabelled(config, inputs)
    data = TrainingData(
        store, pdf_ids, left=config.splice_left, right=config.splice_right,
        held_out_speakers=config.training.held_out_speakers, targets=targets, unlabelled=config.unlabelled,
        independent_share=None if config.speaker_adaptive is None else config.speaker_adaptive.independent_share,
    )
    trained = model if config.speaker_adaptive is None else add_speaker_scales(model, data.num_speakers)
    result = train(trained, data, objective, config.training, context.work, seed=context.seed,
                   description=context.name)
    learnt_from = {} if targets is None else {SOFT_TARGETS: _facts_of(targets, store.recipe["frame_shift"])}
    provenance = {"stage": context.name, "seed": context.seed, "revision": context.revision,
                  "objective": objective.describe(),
                  "training": config.training.model_dump(mode="json"), "held_out_speakers": data.held_out_speakers,
                  **({} if config.speaker_adaptive is None else {
                      "speaker_adaptive": config.speaker_adaptive.model_dump(mode="json")}),
                  "result": {**result.as_dict(), "curve": _curve(result), **learnt_from}}
    save_bundle(
        output / BUNDLE, model.cpu(), feature_recipe=store.recipe, splice_left=config.splice_left,
        splice_right=config.splice_right, hmm_digest=hmm.digest, lexicon_digest=hmm.lexicon.digest,
        priors=alignment_priors(pdf_ids, hmm.tree.num_pdfs), provenance=provenance,
    )
    shutil.copytree(context.work, output / "log", ignore=shutil.ignore_patterns("*checkpoint-*"))
    return {**result.as_dict(), "history": result.history, "train_frames": len(data.train_frames),
            "unlabelled_frames": int((pdf_ids[data.train_frames] < 0).sum())}


def _curve(result: TrainingResult) -> list[dict[str, Any]]:
    """Return a record of each epoch, as counts hold it."""
    return [{"number": record["epoch"], "loss": round(record["cv_loss"], 5),
             "frame_accuracy": in_percent(record["cv_frame_accuracy"]),
             "measures": {name: round(value, 5) for name, value in record.items()
                          if name.startswith(("train_", "projector_"))}}
            for record in result.history]


def cache_soft_targets(
    inputs: Mapping[str, Path], config: SoftTargetsStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """The soft targets of one teacher, with an adapter if there is one, or of several as one, for every frame of a
    split."""
    store = FrameStore.open(inputs["features"] / config.split)
    hmm = HmmModel.load(inputs["hmm"])
    teachers = [load_bundle(inputs[name] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=store.recipe)
                for name in sorted(inputs) if name.startswith("teacher")]
    network, card = teachers[0]
    digest, left, right = card.digest, card.splice_left, card.splice_right
    if "adapters" in inputs:
        if len(teachers) > 1:
            raise InputError("an adapter is of one teacher, and there are several; leave it out, or take one teacher")
        adapted = AdaptedNetworks.open(inputs["adapters"], network, card, inputs["teacher"])
        network, digest = adapted.only_network(), hash_json([digest, adapted.digest])
    if len(teachers) > 1:
        if config.hidden:
            raise InputError("several teachers have no last hidden layer in common; leave hidden out")
        splices = [(one.splice_left, one.splice_right) for _, one in teachers]
        network = TeacherEnsemble([one for one, _ in teachers], splices, store.dim, config.combination)
        digest = hash_json([config.combination, splices, *(one.digest for _, one in teachers)])
        left, right = network.left, network.right
    key = SoftTargetsKey(teacher=digest, left=left, right=right, features=frames_digest(store), hmm=hmm.digest,
                         top_k=config.top_k, temperature=config.temperature, hidden=config.hidden)
    built = build_soft_targets(context.work / SOFT_TARGETS, network.to(training_device()), store, key)
    summary = {"frames": built.num_frames, "key": key.model_dump(), "teachers": [card.digest for _, card in teachers],
               **_facts_of(built, store.recipe["frame_shift"])}
    if built.lost_mass > _MUCH_LOST:
        logger.warning("%s: %.0f %% of the teacher's probability is on pdfs that are not kept, and not learnt; set "
                       "top_k above %d", context.name, 100 * built.lost_mass, built.top_k)
    if isinstance(network, TeacherEnsemble):
        summary |= {"combination": network.combination, "chosen": built.choice_shares}
    del built
    # Work keeps it too until the stage is done: a run that is killed while it is sealed does not forward again.
    shutil.copytree(context.work / SOFT_TARGETS, output / SOFT_TARGETS, copy_function=link_or_copy)
    return summary


def _facts_of(targets: SoftTargets, frame_shift: float) -> dict[str, Any]:
    """As the counts have them (`SoftTargetsCounts`); frame_shift in ms."""
    hours = targets.num_frames * frame_shift / 3.6e6
    return {"temperature": targets.key.temperature, "top_k": targets.top_k, "num_pdfs": targets.num_pdfs,
            "hours": round(hours, 4), "lost_mass": round(targets.lost_mass, 6),
            "divergence_error": round(targets.divergence_error(), 6),
            "gradient_error": round(targets.gradient_error, 6), "bytes_per_hour": round(targets.num_bytes / hours)}


def aligned_pdf_ids(store: FrameStore, alignments: AlignmentStore, hmm: HmmModel) -> NDArray[np.int32]:
    """The pdf-id of every row of the frame store, int32 (num_frames,); -1 where the utterance has no alignment.

    InputError: alignments of another model, of utterances without features, or of another number of frames.
    """
    check_alignments(store, alignments)
    pdf_ids = np.full(store.num_frames, -1, np.int32)
    for utterance_id, pdfs in alignments.pdf_ids(hmm).items():
        begin, end = store.bounds(utterance_id)
        pdf_ids[begin:end] = pdfs
    return pdf_ids


def check_alignments(store: FrameStore, alignments: AlignmentStore) -> None:
    """InputError: alignments of utterances without features, or of another number of frames."""
    bounds = {utterance_id: store.bounds(utterance_id) for utterance_id in store.ids}
    alignments.check_lengths({utterance_id: end - begin for utterance_id, (begin, end) in bounds.items()})
    for utterance_id in alignments:
        if utterance_id not in bounds:
            raise InputError(f"utterance {utterance_id} of {alignments.folder} has no features in {store.folder}")


def frame_objective(
    inputs: Mapping[str, Path], distillation: DistillationConfig | None, split: str, splice: tuple[int, int],
    store: FrameStore, hmm: HmmModel, student: nn.Module,
) -> tuple[Objective, SoftTargets | None]:
    """Cross-entropy, or distillation from cached soft targets, or from the teacher on the fly.

    splice: frames to the left and right that the student hears. Where there are soft targets the teacher need not be
    among the inputs; where it is, they must be its own.
    """
    check_taught(distillation, inputs)
    if distillation is None:
        return CrossEntropy(), None
    heard = heard_by_teacher(inputs, split, store)
    targets: SoftTargets | None = None
    if SOFT_TARGETS in inputs:
        targets = _soft_targets(inputs, heard, hmm)
        teacher: Teacher = CachedTeacher.of(targets)
    else:
        network, card = load_bundle(inputs["teacher"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=heard.recipe)
        if heard is not store:
            raise InputError("a teacher on the fly hears what its student hears; cache its soft targets instead")
        if (card.splice_left, card.splice_right) != splice:
            raise InputError("a teacher on the fly needs the student's own splice; cache its soft targets instead")
        teacher = LiveTeacher(network, card.digest)
    try:
        return DistillationObjective(
            distillation, teacher, student_dim=hidden_dim(student),
            parameters=parameters_of(student, distillation.weight_schedule.parameters)), targets
    except ValueError as error:
        raise InputError(f"distillation: {error}") from error


def _soft_targets(inputs: Mapping[str, Path], heard: FrameStore, hmm: HmmModel) -> SoftTargets:
    """The cache, which must be of these features and pdfs."""
    expected: dict[str, Any] = {"features": frames_digest(heard), "hmm": hmm.digest}
    if "teacher" in inputs:
        _, card = load_bundle(inputs["teacher"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=heard.recipe)
        expected |= {"teacher": card.digest, "left": card.splice_left, "right": card.splice_right}
    return SoftTargets.open(inputs[SOFT_TARGETS] / SOFT_TARGETS, **expected)


def in_percent(fraction: float | None) -> float | None:
    """As the counts have it, where there is one."""
    return None if fraction is None else round(100 * fraction, 2)


def heard_by_teacher(inputs: Mapping[str, Path], split: str, store: FrameStore) -> FrameStore:
    """The features of the same frames that the teacher hears: the student's own, or the input teacher_features."""
    if "teacher_features" not in inputs:
        return store
    heard = FrameStore.open(inputs["teacher_features"] / split)
    if heard.recipe["frame_shift"] != store.recipe["frame_shift"]:
        raise InputError(f"{heard.folder} has a frame every {heard.recipe['frame_shift']:g} ms, {store.folder} every "
                         f"{store.recipe['frame_shift']:g} ms; give teacher and student the same frame_shift")
    if heard.ids != store.ids or not np.array_equal(heard.offsets, store.offsets):
        raise InputError(f"{heard.folder} and {store.folder}: not the same utterances and frames; teacher and student "
                         "must hear the same audio, make both features of the same manifests")
    return heard
