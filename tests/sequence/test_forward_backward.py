"""The two forward-backwards against each other, in both precisions, on lattices with arcs that take no frame."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.lattices.lattice import Lattice
from asr_kd.sequence.forward_backward import (
    arc_log_scores,
    arc_occupancies,
    gains_by_depth,
    gains_over_average,
    occupancies_by_depth,
    sum_by_frame_and_pdf,
)
from asr_kd.sequence.lattice_batch import LatticeBatch
from tests.lattices.random_lattice import random_lattice
from tests.sequence.brute_force import NUM_PDFS, TABLE, path_scores, random_scores

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


def a_batch(seed: int, frames: list[int], width: int = 4) -> tuple[LatticeBatch, torch.Tensor, torch.Tensor]:
    """A batch, its log-likelihoods, and values of its arcs."""
    batch = LatticeBatch.of([random_lattice(seed + i, length, width) for i, length in enumerate(frames)], TABLE.pdfs)
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(sum(frames), NUM_PDFS, generator=generator)
    return batch, scores, torch.rand(batch.num_arcs, generator=generator).round()


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_depth_by_depth_is_arc_by_arc(device: str, seed: int, frames: list[int]) -> None:
    batch, scores, values = a_batch(seed, frames)
    log_scores = arc_log_scores(batch, scores, 0.4)
    occupancies, totals = arc_occupancies(batch, log_scores)
    gains, averages = gains_over_average(batch, occupancies, values)
    there = batch.to(torch.device(device))
    again, totals_again = occupancies_by_depth(there, arc_log_scores(there, scores.to(device), 0.4))
    gains_again, averages_again = gains_by_depth(there, again, values.to(device).double())
    for one, other in ((occupancies, again), (totals, totals_again), (averages, averages_again),
                       (occupancies * gains, again * gains_again)):
        np.testing.assert_allclose(one.numpy(), other.cpu().numpy(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("by_depth", [False, True])
def test_single_precision_is_within_its_bound_for_a_thousand_frames(by_depth: bool) -> None:
    batch, scores, values = a_batch(3, [1000, 700])
    exact, _ = arc_occupancies(batch, arc_log_scores(batch, scores, 1.0))
    gains, _ = gains_over_average(batch, exact, values)
    rough = arc_log_scores(batch, scores, 1.0, torch.float32)
    assert rough.dtype == torch.float32
    found, _ = (occupancies_by_depth if by_depth else arc_occupancies)(batch, rough)
    found_gains, _ = (gains_by_depth if by_depth else gains_over_average)(batch, found, values)
    assert found.dtype == found_gains.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-3
    assert (found * found_gains - exact * gains).abs().max() < 0.1


def test_scores_of_thousands_neither_overflow_nor_vanish() -> None:
    batch, scores, values = a_batch(7, [30])
    for forward in (arc_occupancies, occupancies_by_depth):
        occupancies, totals = forward(batch, arc_log_scores(batch, 1e4 * scores, 1.0))
        gains, averages = gains_over_average(batch, occupancies, values)
        assert all(torch.isfinite(tensor).all() for tensor in (occupancies, totals, gains, averages))


def test_states_are_in_the_order_of_depth_and_starts_first() -> None:
    batch, _, _ = a_batch(11, [4, 6, 2])
    assert batch.state_begins[:2] == [0, 3] and batch.num_utterances == 3
    assert (batch.sources.diff() >= 0).all() and (batch.targets > batch.sources).all()
    depth = torch.bucketize(torch.arange(batch.state_begins[-1]), torch.tensor(batch.state_begins), right=True)
    assert (depth[batch.targets] > depth[batch.sources]).all()
    assert batch.arc_begins[-1] == batch.num_arcs and batch.num_rows == 12


def a_cycle(lattice: Lattice) -> Lattice:
    return replace(lattice, targets=np.where(np.arange(lattice.num_arcs) == 2, 0, lattice.targets).astype(np.int32))


def a_dead_end(lattice: Lattice) -> Lattice:
    finals = lattice.final_costs.copy()
    finals[np.flatnonzero(np.isfinite(finals))[0]] = np.inf
    return replace(lattice, final_costs=finals)


@pytest.mark.parametrize(("damage", "said"), [(a_cycle, "does not lead to a higher state"), (a_dead_end, "dead end")])
def test_a_lattice_with_a_fault_is_refused_with_its_place(damage: Callable[[Lattice], Lattice], said: str) -> None:
    whole = random_lattice(5, 4)
    with pytest.raises(ValueError, match=f"lattice 1 of the batch: .*{said}"):
        LatticeBatch.of([whole, damage(whole)], TABLE.pdfs)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_occupancies_are_those_of_all_paths(seed: int, frames: int) -> None:
    lattice = random_lattice(seed, frames)
    scores, tensor = random_scores(seed, frames)
    batch = LatticeBatch.of([lattice], TABLE.pdfs)
    occupancies, totals = arc_occupancies(batch, arc_log_scores(batch, tensor.detach(), 0.7))
    paths, of_paths = path_scores(lattice, scores, 0.7)
    total = np.logaddexp.reduce(of_paths)
    expected = np.zeros(lattice.num_arcs)
    for arcs, score in zip(paths, of_paths, strict=True):
        expected[list(arcs)] += np.exp(score - total)
    by_pdf = np.zeros((frames, NUM_PDFS))
    pdfs = TABLE.pdfs[lattice.transition_ids]
    emitting = lattice.transition_ids > 0
    np.add.at(by_pdf, (lattice.frames[lattice.sources][emitting], pdfs[emitting]), expected[emitting])
    np.testing.assert_allclose(sum_by_frame_and_pdf(batch, occupancies, NUM_PDFS).numpy(), by_pdf, atol=1e-6)
    assert totals.item() == pytest.approx(total, abs=1e-6)


def test_what_is_no_lattice_of_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no lattices"):
        LatticeBatch.of([], TABLE.pdfs)
    with pytest.raises(ValueError, match="transition-id"):
        LatticeBatch.of([random_lattice(1, 6)], TABLE.pdfs[:3])
