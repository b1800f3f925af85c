"""The distance of a student's last hidden layer, projected, from its teacher's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr_kd.distillation.config import ProjectorConfig
from asr_kd.training.batch_statistics import frame_mean, normalise_frames, sum_of_parts
from asr_kd.training.cross_entropy import check_shape

_DIFFERENCE_EPS, _CORRELATION_EPS, _LOG_EPS = 1e-4, 1e-8, 1e-5


class Projector(nn.Module):
    """`log Σ |Δ|^α` between W h + b of the student and the teacher's h, both normalised over the batch without affine.

    Δ is the difference of the two in every frame and dimension, summed over all, or for each dimension how far its
    correlation with the teacher's is from 1. The logarithm makes the gradient free of the distance's scale, and α lets
    the worst dimensions weigh most. Miles & Mikolajczyk, "Understanding the role of the projector in knowledge
    distillation", arXiv 2303.11098; both forms are those of the authors' code (ImageNet, DeiT), but for two that keep
    logarithm and division finite and are ours: 1e-5 beside Σ in the first too, 1e-8 in the second's normalisation. It
    is no part of the student: after training it is dropped.
    """

    def __init__(self, config: ProjectorConfig, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.config, self.student_dim, self.teacher_dim = config, student_dim, teacher_dim
        if config.projector == "none":
            if student_dim != teacher_dim:
                raise ValueError(f"without a projector student and teacher need equally wide last hidden layers, they "
                                 f"have {student_dim} and {teacher_dim}")
            self.layers: nn.Module = nn.Identity()
        elif config.projector == "linear":
            self.layers = nn.Linear(student_dim, teacher_dim)
        else:
            self.layers = nn.Sequential(nn.Linear(student_dim, teacher_dim), nn.ReLU(),
                                        nn.Linear(teacher_dim, teacher_dim))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """student (frames, student_dim), teacher (frames, teacher_dim) -> scalar; at least two frames in
        all parts of the minibatch. InputError: other widths or frames."""
        config, alone = self.config, not self.training
        check_shape(student, (len(teacher), self.student_dim), "the student's last hidden layer")
        check_shape(teacher, (len(teacher), self.teacher_dim), "the teacher's last hidden layer")
        projected, followed = self.layers(student.float()), teacher.detach().float()
        if config.distance == "correlation":
            projected, followed = (normalise_frames(side, _CORRELATION_EPS, alone) for side in (projected, followed))
            delta, is_whole = frame_mean(projected * followed, alone) - 1, True
        else:
            delta, is_whole = self._normalised(projected) - self._normalised(followed), alone
        return sum_of_parts((delta.abs() ** config.exponent).sum(), is_whole).add(_LOG_EPS).log()

    def _normalised(self, side: Tensor) -> Tensor:
        if self.config.normalisation == "batch_norm":
            return normalise_frames(side, _DIFFERENCE_EPS, alone=not self.training)
        return F.normalize(side, dim=-1) if self.config.normalisation == "l2" else side

    @torch.no_grad()
    def singular_values(self) -> Tensor:
        """Of the weight matrix (an MLP's last), largest first; empty without one. Few of any size: it collapses."""
        matrices = [parameter for parameter in self.parameters() if parameter.ndim == 2]
        return torch.linalg.svdvals(matrices[-1].float()) if matrices else torch.zeros(0)
