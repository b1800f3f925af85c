"""The stage that trains a network on whole utterances and their lattices."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from torch import nn

from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json, read_json
from asr_kd.core.stages import Stage, StageContext
from asr_kd.distillation.config import DistillationConfig
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.lattices.training_lattices import TrainingLattices
from asr_kd.models.bundle import ModelCard, load_bundle, save_bundle
from asr_kd.models.log_likelihoods import log_likelihoods, one_torch_thread
from asr_kd.models.parameter_groups import train_only
from asr_kd.sequence.accuracies import TransitionTable
from asr_kd.sequence.config import CriterionConfig, SequenceTrainingConfig
from asr_kd.sequence.data import UtteranceData
from asr_kd.sequence.objective import SequenceObjective
from asr_kd.sequence.teacher_paths import TeacherPaths
from asr_kd.stages.networks import (
    BUNDLE,
    PASSES,
    SOFT_TARGETS,
    check_alignments,
    check_soft_targets,
    check_taught,
    frame_objective,
    heard_by_teacher,
    in_percent,
)
from asr_kd.stages.training_lattices import REPORT
from asr_kd.training.engine import TrainingResult, train


class SequenceStageConfig(Config):
    """A criterion, how a network is trained by it, and (with a teacher among the inputs) what smooths it.

    parameters: the groups that move (all, gates, output, hidden, biases, or patterns over parameter names);
    keep_passes: keep the network of every pass, in `passes/`, so that each can be decoded.
    """

    split: Name = "train"
    criterion: CriterionConfig = CriterionConfig()
    training: SequenceTrainingConfig = SequenceTrainingConfig()
    distillation: DistillationConfig | None = None
    parameters: list[str] = Field(["all"], min_length=1)
    keep_passes: bool = False
    max_dropped: float = Field(0.05, ge=0, le=1)

    @property
    def wants_labels(self) -> bool:
        """True if cross-entropy smooths."""
        taught = self.distillation
        return self.criterion.smoothing > 0 and (taught is None or taught.cross_entropy_weight > 0)


def check_sequence_training(config: SequenceStageConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError where the inputs are not those that the settings want, or soft targets are made otherwise."""
    _check_inputs(config, inputs)
    check_soft_targets(config.distillation, config.split, inputs)


def _check_inputs(config: SequenceStageConfig, inputs: Mapping[str, Any]) -> None:
    criterion, taught = config.criterion.criterion, config.distillation
    if criterion == "distillation" and "teacher" not in inputs:
        raise InputError("the criterion distillation needs the input 'teacher', whose lattices these are")
    if criterion != "distillation" and "alignments" not in inputs:
        raise InputError(f"the criterion {criterion} needs the input 'alignments'")
    if taught is not None and not config.criterion.smoothing:
        raise InputError("distillation is set, but smoothing is 0; set criterion.smoothing, or leave distillation out")
    if taught is None and "teacher" in inputs and criterion != "distillation":
        raise InputError("a teacher is among the inputs, but neither the criterion nor distillation wants one")
    if taught is None and SOFT_TARGETS in inputs:
        raise InputError("soft_targets are among the inputs, but the settings have no distillation")
    if taught is not None:
        check_taught(taught, inputs)
    if config.wants_labels and "alignments" not in inputs:
        raise InputError("smoothing by cross-entropy needs the input 'alignments'")


def train_sequence(
    inputs: Mapping[str, Path], config: SequenceStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """The network of the input `network`, trained on by a sequence criterion: a model bundle, curves in `log`.

    Priors stay those of the network. The bundle is that of the last pass, or of the best on the held-out speakers.
    """
    _check_inputs(config, inputs)
    hmm = HmmModel.load(inputs["hmm"])
    store = FrameStore.open(inputs["features"] / config.split)
    model, card = load_bundle(inputs["network"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=store.recipe)
    moved = train_only(model, config.parameters)
    lattices = TrainingLattices.open(inputs["lattices"], hmm.digest)
    alignments = AlignmentStore.open(inputs["alignments"], hmm) if "alignments" in inputs else {}
    objective, data = _objective_and_data(inputs, config, model, card, store, hmm, lattices, alignments)

    def save(folder: Path, result: TrainingResult, network: nn.Module) -> None:
        own = {**provenance, "result": {**_in_all(result, card, config.criterion.criterion),
                                         "training_lattices": read_json(inputs["lattices"] / REPORT)}}
        save_bundle(
            folder, network, feature_recipe=card.feature_recipe, splice_left=card.splice_left,
            splice_right=card.splice_right, hmm_digest=card.hmm_digest, lexicon_digest=card.lexicon_digest,
            priors=np.array(card.priors), prior_source=card.prior_source, provenance=own)

    def keep(result: TrainingResult, network: nn.Module) -> None:
        save(context.work / PASSES / str(result.epochs), result, network)

    provenance: dict[str, Any] = {
        "stage": context.name, "seed": context.seed, "revision": context.revision, "objective": objective.describe(),
        "parameters": config.parameters, "moved": moved, "training": config.training.model_dump(mode="json"),
        "lattices": lattices.digest, "network": card.digest, "held_out_speakers": data.held_out_speakers}
    result = train(model, data, objective, config.training, context.work, seed=context.seed, description=context.name,
                   on_epoch=keep if config.keep_passes else None)
    save(output / BUNDLE, result, model)
    if config.keep_passes:
        shutil.copytree(context.work / PASSES, output / PASSES)
    shutil.copytree(context.work, output / "log", ignore=shutil.ignore_patterns("*checkpoint-*", PASSES))
    return {**result.as_dict(), "history": result.history, "moved": moved, "utterances": data.drops.as_dict()}


def _objective_and_data(
    inputs: Mapping[str, Path], config: SequenceStageConfig, model: nn.Module, card: ModelCard, store: FrameStore,
    hmm: HmmModel, lattices: TrainingLattices, alignments: Mapping[str, np.ndarray],
) -> tuple[SequenceObjective, UtteranceData]:
    splice = (card.splice_left, card.splice_right)
    if isinstance(alignments, AlignmentStore):
        check_alignments(store, alignments)
    is_distillation = config.criterion.criterion == "distillation"
    lattices.check(features=store.digest)
    if not is_distillation and isinstance(alignments, AlignmentStore):
        lattices.check(alignments=alignments.digest)
    taught = dict(inputs)
    if config.distillation is None:
        for of_criterion in ("teacher", "teacher_features"):
            taught.pop(of_criterion, None)
    frames, targets = frame_objective(taught, config.distillation, config.split, splice, store, hmm, model)
    table = transition_table(hmm)
    paths = _teacher_paths(inputs, config, store, hmm, lattices) if is_distillation else None
    held_out = _held_out_speakers(config.training.held_out_speakers, card, store)
    data = UtteranceData(
        store, lattices, table, alignments, config.criterion, left=splice[0], right=splice[1],
        held_out_speakers=held_out, max_frames=config.training.batch_size,
        max_arcs=config.training.batch_arcs, max_dropped=config.max_dropped, targets=targets, teacher_paths=paths,
        wants_labels=config.wants_labels)
    return SequenceObjective(config.criterion, card.log_priors(), frames), data


def _held_out_speakers(wanted: int | list[str], card: ModelCard, store: FrameStore) -> int | list[str]:
    """The speakers that the network to be trained on was judged by, where as many are wanted and they are there.

    Their number alone would not do: it is counted among speakers with alignments, which not every criterion has.
    """
    earlier = card.provenance.get("held_out_speakers")
    speakers = {store.source_speaker(name) for name in store.ids}
    if isinstance(wanted, int) and isinstance(earlier, list) and len(earlier) == wanted and speakers >= set(earlier):
        return earlier
    return wanted


def transition_table(hmm: HmmModel) -> TransitionTable:
    """Return the properties of a model's transition-ids that sequence training needs."""
    transitions = hmm.transitions
    return TransitionTable(transitions.pdf_ids, transitions.phones,
                           np.isin(transitions.phones, sorted(hmm.phones.silence)))


def _teacher_paths(
    inputs: Mapping[str, Path], config: SequenceStageConfig, store: FrameStore, hmm: HmmModel,
    lattices: TrainingLattices,
) -> TeacherPaths:
    heard = heard_by_teacher(inputs, config.split, store)
    teacher, card = load_bundle(inputs["teacher"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=heard.recipe)
    lattices.check(network=card.digest)
    scale = config.criterion.acoustic_scale
    with one_torch_thread():
        fitting = [name for name, known in lattices.utterances.items()
                   if name in heard.speakers and len(heard[name]) == known.frames]
        return TeacherPaths.of(
            lattices, fitting, hmm.transitions.pdf_ids, lambda name: log_likelihoods(teacher, card, heard[name]), scale,
            hash_json([card.digest, heard.digest, scale]))


def _in_all(result: TrainingResult, card: ModelCard, criterion: str) -> dict[str, Any]:
    """The result, with the minutes of the training that this one went on from, and how each pass went."""
    passes = [{"number": record["epoch"], "criterion": criterion, "value": round(record[f"cv_{criterion}"], 5),
               "train_value": round(record[f"train_{criterion}"], 5) if record["epoch"] else None,
               "frame_accuracy": in_percent(record["cv_frame_accuracy"])} for record in result.history]
    return {**result.as_dict(), "minutes": result.minutes + card.provenance["result"]["minutes"], "passes": passes}
