"""Train the numbers of an adapter with the training engine."""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from asr_kd.adaptation.config import AdaptationConfig
from asr_kd.adaptation.data import AdaptationData, TaughtUtterance
from asr_kd.adaptation.lattice_data import LatticeAdaptationData, TaughtLattices
from asr_kd.adaptation.objective import AnchoredObjective
from asr_kd.adaptation.teaching import teacher_posteriors
from asr_kd.core.errors import InputError
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.teachers import CachedTeacher
from asr_kd.models.architecture import hidden_dim
from asr_kd.models.bundle import ModelCard
from asr_kd.models.lhuc import add_lhuc
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.models.parameter_groups import parameters_of, train_only
from asr_kd.sequence.objective import SequenceObjective
from asr_kd.training.data import TrainingExamples
from asr_kd.training.engine import TrainingResult, train
from asr_kd.training.objective import Objective

_ANCHOR_PDFS = 64
"""Pdfs of a frame by which the network is held to what it said before; their mass is nearly all of it."""


@dataclass(frozen=True)
class AdaptedParameters:
    """The numbers that moved, by parameter name, after each epoch, and how their training went."""

    after_epochs: list[dict[str, Tensor]]
    training: TrainingResult

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The numbers after the last epoch."""
        return self.after_epochs[-1]

    @property
    def held_out_losses(self) -> list[float]:
        """Loss a frame of the held-out utterances after each epoch."""
        return [record["cv_loss"] for record in self.training.history]


def movable_network(network: nn.Module, groups: Sequence[str]) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """A copy of a network of which the parameters of these groups alone move, and those by name.

    The group `lhuc` adds scales of hidden units. InputError: a group that fits no parameter.
    """
    model = copy.deepcopy(network)
    if "lhuc" in groups:
        model = add_lhuc(model)
    train_only(model, groups)
    return model, {name: value for name, value in model.named_parameters() if value.requires_grad}


def adapt_parameters(
    network: nn.Module, card: ModelCard, utterances: Sequence[TaughtUtterance], config: AdaptationConfig, *,
    held_out: Sequence[TaughtUtterance] = (), reserve: Sequence[NDArray[np.float32]] = (),
    lattices: TaughtLattices | None = None, seed: int = 0, description: str = "adaptation",
) -> AdaptedParameters:
    """Adapt the parameters that the settings name on `utterances`; the network itself is left as it is.

    held_out: utterances by which each epoch is judged. reserve: features (frames, dim) of training speech for replay.
    lattices: of all utterances, where the settings have a criterion over lattices. Errors as of
    `asr_kd.training.engine.train`.
    """
    model, moved = movable_network(network, config.parameters)
    if config.criterion is not None and lattices is None:
        raise InputError(f"{description}: a criterion over lattices needs transcripts and a decoding graph")
    data: TrainingExamples
    unadapted = copy.deepcopy(network).eval()
    with one_torch_thread():
        frames = data = AdaptationData(
            utterances, held_out, left=card.splice_left, right=card.splice_right, kl_weight=config.kl_weight or 0.0,
            reserve=reserve, replay_share=config.replay_share,
            unadapted=lambda features: teacher_posteriors(unadapted, card, features, top_k=_ANCHOR_PDFS))
    teacher = CachedTeacher(frames.targets_digest, temperature=1.0)
    learns: Objective = DistillationObjective(
        config.distillation, teacher, student_dim=hidden_dim(model),
        parameters=parameters_of(model, config.distillation.weight_schedule.parameters))
    if config.criterion is not None and lattices is not None:
        data = LatticeAdaptationData(frames, utterances, held_out, lattices, config.criterion)
        learns = SequenceObjective(config.criterion, card.log_priors(), learns)
    objective = AnchoredObjective(learns, moved, config.l2_weight)
    after_epochs: list[dict[str, Tensor]] = []

    def keep(result: TrainingResult, model: nn.Module) -> None:
        after_epochs.append({name: value.detach().clone() for name, value in moved.items()})

    with tempfile.TemporaryDirectory() as scratch:
        result = train(model, data, objective, config.training_settings(), Path(scratch), seed=seed,
                       description=description, on_epoch=keep)
    return AdaptedParameters(after_epochs, result)
