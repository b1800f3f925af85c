"""Criteria and their gradients: against enumeration of all paths, central differences, and what may not change them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr_kd.lattices.lattice import Lattice
from asr_kd.sequence.accuracies import Unit, frame_accuracies, phone_errors
from asr_kd.sequence.criteria import Numerator, boosted, expected_accuracy, mutual_information
from asr_kd.sequence.forward_backward import arc_log_scores, arc_occupancies, sum_by_frame_and_pdf
from asr_kd.sequence.lattice_batch import LatticeBatch
from tests.lattices.random_lattice import random_lattice
from tests.sequence.brute_force import (
    NUM_PDFS,
    TABLE,
    central_differences,
    expected,
    path_accuracies,
    path_errors,
    path_scores,
    random_scores,
)

SEEDS = st.integers(0, 10**6)
SCALES = st.sampled_from([0.1, 0.5, 1.0])


def an_alignment(seed: int, frames: int) -> np.ndarray:
    return np.random.default_rng(seed + 1).integers(1, len(TABLE.pdfs), frames)


def batch_of(*lattices: Lattice) -> LatticeBatch:
    return LatticeBatch.of(lattices, TABLE.pdfs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@settings(deadline=None, max_examples=20)
@given(st.lists(SEEDS, min_size=1, max_size=4), st.booleans())
def test_a_gpu_has_the_values_and_gradients_of_the_cpu(seeds: list[int], reject_frames: bool) -> None:
    batch = batch_of(*(random_lattice(seed, 4) for seed in seeds))
    alignment = torch.from_numpy(np.concatenate([an_alignment(seed, 4) for seed in seeds]))
    accuracies = frame_accuracies(batch, alignment, TABLE)
    numerator = Numerator.of_alignment(torch.from_numpy(TABLE.pdfs[alignment.numpy()].astype(np.int64)),
                                       torch.zeros(len(seeds), dtype=torch.float64))
    found = []
    for device in map(torch.device, ("cpu", "cuda")):
        _, tensor = random_scores(seeds[0], 4 * len(seeds))
        tensor = tensor.detach().to(device).requires_grad_()
        values = torch.cat([
            expected_accuracy(tensor, batch.to(device), accuracies.to(device), 0.5),
            mutual_information(tensor, batch.to(device), numerator.to(device), 0.5, reject_frames)])
        values.sum().backward()
        assert tensor.grad is not None
        found.append((values.detach().cpu(), tensor.grad.cpu()))
    for on_cpu, on_gpu in zip(*found, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, atol=1e-8, rtol=1e-8)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 5), SCALES, st.sampled_from(["state", "phone"]), st.booleans())
def test_expected_accuracy_and_its_gradient_are_those_of_all_paths(
    seed: int, frames: int, scale: float, unit: Unit, one_silence_class: bool
) -> None:
    lattice, alignment = random_lattice(seed, frames), an_alignment(seed, frames)
    scores, tensor = random_scores(seed, frames)
    batch = batch_of(lattice)
    accuracies = frame_accuracies(batch, torch.from_numpy(alignment), TABLE, unit, one_silence_class)
    value = expected_accuracy(tensor, batch, accuracies, scale)
    value.sum().backward()
    paths, _ = path_scores(lattice, scores, scale)
    of_paths = path_accuracies(lattice, paths, alignment, unit, one_silence_class)
    assert value.item() == pytest.approx(expected(lattice, scores, scale, of_paths), abs=1e-6)
    differences = central_differences(lambda changed: expected(lattice, changed, scale, of_paths), scores)
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad.numpy(), differences, atol=1e-6)


def information(lattice: Lattice, scores: np.ndarray, scale: float, pdf_ids: np.ndarray, weight: float) -> float:
    _, of_paths = path_scores(lattice, scores, scale)
    return float(weight + scale * scores[np.arange(len(pdf_ids)), pdf_ids].sum() - np.logaddexp.reduce(of_paths))


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 5), SCALES)
def test_mutual_information_and_its_gradient_are_those_of_all_paths(seed: int, frames: int, scale: float) -> None:
    lattice, pdf_ids = random_lattice(seed, frames), TABLE.pdfs[an_alignment(seed, frames)]
    scores, tensor = random_scores(seed, frames)
    numerator = Numerator.of_alignment(torch.from_numpy(pdf_ids.astype(np.int64)), torch.tensor([-1.5]).double())
    value = mutual_information(tensor, batch_of(lattice), numerator, scale)
    value.sum().backward()
    assert value.item() == pytest.approx(information(lattice, scores, scale, pdf_ids, -1.5), abs=1e-6)
    differences = central_differences(
        lambda changed: information(lattice, changed, scale, pdf_ids, -1.5), scores)
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad.numpy(), differences, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(SEEDS, SCALES, st.sampled_from([0.0, 0.5, 2.0]))
def test_boosting_makes_a_path_likelier_by_its_wrong_frames_of_speech(seed: int, scale: float, boost: float) -> None:
    lattice, alignment = random_lattice(seed, 4), an_alignment(seed, 4)
    scores, tensor = random_scores(seed, 4)
    batch = batch_of(lattice)
    wrong = phone_errors(batch, torch.from_numpy(alignment), TABLE)
    _, totals = arc_occupancies(batch, arc_log_scores(boosted(batch, wrong, boost), tensor.detach(), scale))
    paths, of_paths = path_scores(lattice, scores, scale)
    errors = path_errors(lattice, paths, alignment)
    assert totals.item() == pytest.approx(np.logaddexp.reduce(of_paths + boost * errors), abs=1e-6)


Criterion = Callable[[Tensor, LatticeBatch], Tensor]


def criteria_for(batch: LatticeBatch, alignment: np.ndarray) -> dict[str, Criterion]:
    tids = torch.from_numpy(alignment)
    pdf_ids = torch.from_numpy(TABLE.pdfs.astype(np.int64))[tids]
    accuracies = frame_accuracies(batch, tids, TABLE)
    numerator = Numerator.of_alignment(pdf_ids, torch.zeros(batch.num_utterances).double())
    return {
        "smbr": lambda scores, lattices: expected_accuracy(scores, lattices, accuracies, 0.3),
        "mmi": lambda scores, lattices: mutual_information(scores, lattices, numerator, 0.3),
        "mmi, frames rejected": lambda scores, lattices: mutual_information(scores, lattices, numerator, 0.3, True),
    }


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.floats(-40, 40))
def test_gradients_sum_to_zero_in_a_frame_and_constants_change_nothing(seed: int, constant: float) -> None:
    batch = batch_of(random_lattice(seed, 4))
    for name, criterion in criteria_for(batch, an_alignment(seed, 4)).items():
        _, tensor = random_scores(seed, 4)
        value = criterion(tensor, batch)
        value.sum().backward()
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.sum(1).numpy(), 0, atol=1e-9, err_msg=name)
        moved = tensor.detach().clone()
        moved[1] += constant
        moved.requires_grad_()
        again = criterion(moved, batch)
        again.sum().backward()
        assert again.item() == pytest.approx(value.item(), abs=1e-6)
        assert moved.grad is not None
        np.testing.assert_allclose(moved.grad.numpy(), tensor.grad.numpy(), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(SEEDS, min_size=1, max_size=4), st.data())
def test_a_batch_is_its_utterances_one_by_one(seeds: list[int], data: st.DataObject) -> None:
    frames = [data.draw(st.integers(1, 6)) for _ in seeds]
    lattices = [random_lattice(seed, length) for seed, length in zip(seeds, frames, strict=True)]
    alignments = [an_alignment(seed, length) for seed, length in zip(seeds, frames, strict=True)]
    weights = torch.arange(1.0, len(seeds) + 1).double()  # so that no utterance can take another's gradient
    _, together = random_scores(1, sum(frames))
    batch = batch_of(*lattices)
    for name, criterion in criteria_for(batch, np.concatenate(alignments)).items():
        together.grad = None
        values = criterion(together, batch)
        (weights * values).sum().backward()
        assert together.grad is not None
        begin = 0
        for number, (lattice, alignment) in enumerate(zip(lattices, alignments, strict=True)):
            alone = together.detach()[begin : begin + len(alignment)].clone().requires_grad_()
            one = batch_of(lattice)
            value = criteria_for(one, alignment)[name](alone, one)
            value.sum().backward()
            assert values[number].item() == pytest.approx(value.item(), abs=1e-9)
            assert alone.grad is not None
            np.testing.assert_allclose(together.grad[begin : begin + len(alignment)].numpy(),
                                       (weights[number] * alone.grad).numpy(), atol=1e-12)
            begin += len(alignment)


def test_rejected_frames_are_those_without_the_numerators_pdf() -> None:
    lattice = random_lattice(5, 4)
    batch = batch_of(lattice)
    in_first_frame = set(batch.pdfs[(batch.rows == 0) & (batch.pdfs >= 0)].tolist())
    absent = next(pdf for pdf in range(NUM_PDFS) if pdf not in in_first_frame)
    pdf_ids = torch.tensor([absent] + [int(batch.pdfs[(batch.rows == t) & (batch.pdfs >= 0)][0]) for t in (1, 2, 3)])
    numerator = Numerator.of_alignment(pdf_ids, torch.zeros(1).double())
    _, kept = random_scores(0, 4)
    _, rejected = random_scores(0, 4)
    mutual_information(kept, batch, numerator, 0.5).sum().backward()
    mutual_information(rejected, batch, numerator, 0.5, reject_frames=True).sum().backward()
    assert kept.grad is not None and rejected.grad is not None
    assert kept.grad[0].abs().max() > 0.1 and rejected.grad[0].abs().max() == 0
    np.testing.assert_array_equal(kept.grad[1:].numpy(), rejected.grad[1:].numpy())


@settings(deadline=None, max_examples=30)
@given(SEEDS, SCALES)
def test_with_a_lattices_own_occupancies_as_numerator_the_divergence_and_its_gradient_vanish(
    seed: int, scale: float
) -> None:
    batch = batch_of(random_lattice(seed, 4))
    _, student = random_scores(seed, 4)
    _, teacher = random_scores(seed + 1, 4)

    def divergence(scores: Tensor, of: Tensor) -> Tensor:
        occupancies, totals = arc_occupancies(batch, arc_log_scores(batch, of.detach(), scale))
        sums = sum_by_frame_and_pdf(batch, occupancies, NUM_PDFS)
        rows, pdfs = torch.nonzero(sums, as_tuple=True)
        weight = totals - scale * (sums * of.detach()).sum()
        return -mutual_information(scores, batch, Numerator(rows, pdfs, sums[rows, pdfs], weight), scale)

    own = divergence(student, student)
    own.sum().backward()
    assert own.item() == pytest.approx(0, abs=1e-9)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), 0, atol=1e-9)
    assert divergence(student, teacher).item() > -1e-9
