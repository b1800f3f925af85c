"""Several teachers as one."""

import pytest
import torch
from torch import Tensor, nn

from asr_kd.core.errors import InputError
from asr_kd.distillation.teachers import Combination, LiveTeacher, TeacherEnsemble
from asr_kd.models.dnn import DNN
from asr_kd.training.data import Minibatch

DIM = 3


def teachers() -> list[DNN]:
    """One that hears a frame on either side, one that hears two to the left."""
    torch.manual_seed(0)
    return [DNN(3 * DIM, 8, 1, 5).eval(), DNN(3 * DIM, 8, 1, 5).eval()]


def inputs_and_logits() -> tuple[Tensor, Tensor, list[DNN]]:
    networks = teachers()
    inputs = torch.randn(40, 4 * DIM)  # two frames to the left, one to the right
    return inputs, torch.stack([networks[0](inputs[:, DIM:]), networks[1](inputs[:, :3 * DIM])]), networks


@pytest.mark.parametrize("combination", ["posteriors", "logits", "surest"])
def test_teachers_are_combined_as_said_each_on_its_own_frames(combination: Combination) -> None:
    inputs, logits, networks = inputs_and_logits()
    ensemble = TeacherEnsemble(networks, [(1, 1), (2, 0)], DIM, combination)
    assert (ensemble.left, ensemble.right) == (2, 1)
    posteriors = logits.softmax(-1)
    if combination == "surest":
        entropies = -(posteriors * posteriors.log()).sum(-1)
        expected = torch.where((entropies[0] <= entropies[1])[:, None], posteriors[0], posteriors[1])
    else:
        expected = posteriors.mean(0) if combination == "posteriors" else logits.mean(0).softmax(-1)
    torch.testing.assert_close(ensemble(inputs).softmax(-1), expected)
    if combination == "surest":
        first = int((entropies[0] <= entropies[1]).sum())
        assert ensemble.take_choices() == [first, 40 - first] and ensemble.take_choices() == [0, 0]
    else:
        assert ensemble.take_choices() is None


def test_one_teacher_alone_is_itself() -> None:
    network = teachers()[0]
    inputs = torch.randn(10, 3 * DIM)
    for combination in ("posteriors", "logits", "surest"):
        ensemble = TeacherEnsemble([network], [(1, 1)], DIM, combination)  # type: ignore[arg-type]
        torch.testing.assert_close(ensemble(inputs).softmax(-1), network(inputs).softmax(-1))


def test_teachers_without_their_splices_are_refused() -> None:
    with pytest.raises(ValueError, match="2 teachers with 1 splices"):
        TeacherEnsemble(teachers(), [(1, 1)], DIM)


def test_teachers_of_different_trees_are_refused() -> None:
    ensemble = TeacherEnsemble([DNN(4, 8, 1, 5), DNN(4, 8, 1, 6)], [(0, 0), (0, 0)], 4)
    with pytest.raises(InputError, match="the teachers have 5, 6 pdfs: they belong to different trees"):
        ensemble(torch.randn(3, 4))


def test_a_live_teacher_that_hears_other_inputs_is_refused() -> None:
    minibatch = Minibatch(torch.randn(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="the teacher hears 12 values a frame, its student 4"):
        LiveTeacher(DNN(12, 8, 1, 5), "digest")(minibatch)


def test_teachers_that_hear_fewer_frames_than_their_student_are_refused() -> None:
    inputs = torch.randn(3, 6 * DIM)
    ensemble = TeacherEnsemble(teachers(), [(1, 1), (2, 0)], DIM)
    with pytest.raises(InputError, match=r"what the teachers hear: \(3, 18\) values, expected \(3, 12\)"):
        ensemble(inputs)
    with pytest.raises(InputError, match="the teacher hears 12 values a frame, its student 18"):
        LiveTeacher(ensemble, "digest")(Minibatch(inputs, torch.zeros(3, dtype=torch.int64)))


def test_a_live_teacher_of_foreign_make_gives_logits_only() -> None:
    assert LiveTeacher(nn.Linear(2, 2), "foreign").hidden_dim is None
    assert LiveTeacher(teachers()[0], "ours").hidden_dim == 8
