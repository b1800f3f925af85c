"""A teacher's weights of the paths of its lattices: the numerators of sequence-level distillation."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asr_kd.core.errors import WorkError
from asr_kd.lattices.training_lattices import TrainingLattices
from asr_kd.sequence.criteria import Numerator
from asr_kd.sequence.forward_backward import arc_log_scores, arc_occupancies, sum_by_frame_and_pdf
from asr_kd.sequence.lattice_batch import LatticeBatch

# Occupancies below this are left out; the others of the frame are scaled to sum to one.
_LEAST = 1e-6


@dataclass(frozen=True)
class _Paths:
    """Of one utterance: occupancies of pdfs by frame, and minus the negative entropy that makes the criterion -KL."""

    frames: NDArray[np.int32]
    pdfs: NDArray[np.int32]
    occupancies: NDArray[np.float32]
    log_weight: float


class TeacherPaths:
    """Occupancies of pdfs under the teacher's own scores, by utterance, some 20 bytes a frame in memory.

    With them as the numerator `mutual_information` is minus the KL divergence between the teacher's and the student's
    distribution over the paths of the teacher's lattice (Wong & Gales 2016, "Sequence student-teacher training of deep
    neural networks"): no transcript is needed.
    """

    def __init__(self, paths: dict[str, _Paths], digest: str) -> None:
        self._paths = paths
        self.digest = digest

    @staticmethod
    def of(
        lattices: TrainingLattices, utterances: Iterable[str], transition_pdfs: NDArray[np.int32],
        log_likelihoods_of: Callable[[str], NDArray[np.float32]], acoustic_scale: float, digest: str,
    ) -> "TeacherPaths":
        """From the lattices and the teacher's log-likelihoods (frames, pdfs) of each utterance.

        `digest` identifies the teacher, its features and the acoustic scale. WorkError: scores that are not finite.
        """
        paths = {}
        for name in utterances:
            batch = LatticeBatch.of([lattices.lattices.word_lattice(name).expand()], transition_pdfs)
            scores = torch.from_numpy(log_likelihoods_of(name))
            if not bool(torch.isfinite(scores).all()):
                raise WorkError(f"{name}: the teacher's log-likelihoods are not finite; the teacher or its input is "
                                "broken")
            occupancies, totals = arc_occupancies(batch, arc_log_scores(batch, scores, acoustic_scale))
            sums = sum_by_frame_and_pdf(batch, occupancies, scores.shape[1])
            sums = torch.where(sums > _LEAST, sums, 0.0)
            sums /= sums.sum(1, keepdim=True)
            frames, pdfs = (places.numpy() for places in torch.nonzero(sums, as_tuple=True))
            kept = sums[frames, pdfs]
            expected = acoustic_scale * float((kept * scores[frames, pdfs]).sum())
            paths[name] = _Paths(frames.astype(np.int32), pdfs.astype(np.int32), kept.float().numpy(),
                                 float(totals[0]) - expected)
        return TeacherPaths(paths, digest)

    def gather(self, utterances: Sequence[str]) -> Numerator:
        """The numerator of a batch of utterances, whose frames follow each other; KeyError for an unknown one."""
        paths = [self._paths[name] for name in utterances]
        begins = np.cumsum([0] + [int(path.frames[-1]) + 1 for path in paths])
        rows = np.concatenate([path.frames + begin for path, begin in zip(paths, begins, strict=False)])
        return Numerator(
            torch.from_numpy(rows.astype(np.int64)),
            torch.from_numpy(np.concatenate([path.pdfs for path in paths]).astype(np.int64)),
            torch.from_numpy(np.concatenate([path.occupancies for path in paths])),
            torch.tensor([path.log_weight for path in paths], dtype=torch.float64))
