"""Kaldi's MPE and sMBR values on its own lattices of real speech, with and without one silence class."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd.kaldi_lattices.archive import read_lattices
from asr_kd.sequence.accuracies import TransitionTable, Unit, frame_accuracies
from asr_kd.sequence.criteria import expected_accuracy
from asr_kd.sequence.forward_backward import (
    arc_log_scores,
    arc_occupancies,
    gains_over_average,
    occupancies_by_depth,
)
from asr_kd.sequence.lattice_batch import LatticeBatch
from tests.lattices.test_golden import SCALE, UTTERANCES, posteriors_of

Pdfs = dict[tuple[int, int], float]


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "kaldi_lattice"


@pytest.fixture(scope="module")
def table(golden: Path) -> TransitionTable:
    lines = [line.split("\t") for line in (golden / "transitions.tsv").read_text().splitlines()]
    column = {name: [row[place] for row in lines[1:]] for place, name in enumerate(lines[0])}
    phones = np.array([0, *map(int, column["phone_id"])], np.int32)
    pdfs = np.array([-1, *map(int, column["pdf"])], np.int32)
    assert column["tid"] == [str(number) for number in range(1, len(phones))]
    return TransitionTable(pdfs, phones, (phones >= 1) & (phones <= 10))


def batch_of(golden: Path, utterance: str, table: TransitionTable) -> tuple[LatticeBatch, torch.Tensor]:
    """The lattice with its own acoustic costs, scaled in single precision as Kaldi does; and the numerator."""
    [(_, lattice)] = read_lattices(golden / f"{utterance}.lat.txt")
    costs = lattice.graph_costs.astype(np.float64) + np.float32(SCALE) * lattice.acoustic_costs
    alignment = (golden / f"{utterance}.ali.txt").read_text().split()[1:]
    return LatticeBatch.of([replace(lattice, graph_costs=costs)], table.pdfs), torch.tensor(list(map(int, alignment)))


def by_frame_and_tid(batch: LatticeBatch, values: torch.Tensor) -> Pdfs:
    found: Pdfs = {}
    for frame, tid, value in zip(batch.rows.tolist(), batch.transition_ids.tolist(), values.tolist(), strict=True):
        if tid:
            found[frame, tid] = found.get((frame, tid), 0.0) + value
    return found


def largest_difference(found: Pdfs, wanted: Pdfs) -> float:
    assert len(wanted) > 300
    return max(abs(found.get(key, 0.0) - wanted.get(key, 0.0)) for key in found.keys() | wanted.keys())


@pytest.mark.parametrize("utterance", UTTERANCES)
@pytest.mark.parametrize("forward", [arc_occupancies, occupancies_by_depth])
def test_denominator_occupancies_are_kaldis(
    golden: Path, table: TransitionTable, utterance: str, forward: Callable[..., tuple[torch.Tensor, torch.Tensor]]
) -> None:
    batch, _ = batch_of(golden, utterance, table)
    nothing = torch.zeros(batch.num_rows, int(table.pdfs.max()) + 1, dtype=torch.float64)
    occupancies, _ = forward(batch, arc_log_scores(batch, nothing, SCALE))
    wanted = posteriors_of(golden / f"{utterance}.post_den.txt")
    assert largest_difference(by_frame_and_tid(batch, occupancies), wanted) < 1e-5


@pytest.mark.parametrize("utterance", UTTERANCES)
@pytest.mark.parametrize("unit, name", [("state", "smbr"), ("phone", "mpe")])
@pytest.mark.parametrize("one_silence_class, suffix", [(False, ""), (True, "_osc")])
def test_values_and_accuracies_are_kaldis(
    golden: Path, table: TransitionTable, utterance: str, unit: Unit, name: str, one_silence_class: bool, suffix: str
) -> None:
    batch, alignment = batch_of(golden, utterance, table)
    accuracies = frame_accuracies(batch, alignment, table, unit, one_silence_class)
    nothing = torch.zeros(batch.num_rows, int(table.pdfs.max()) + 1, dtype=torch.float64, requires_grad=True)
    occupancies, totals = arc_occupancies(batch, arc_log_scores(batch, nothing.detach(), SCALE))
    gains, _ = gains_over_average(batch, occupancies, accuracies)
    wanted = posteriors_of(golden / f"{utterance}.{name}{suffix}.txt")
    assert largest_difference(by_frame_and_tid(batch, occupancies * gains), wanted) < 1e-4

    facts = json.loads((golden / "summary.json").read_text())["utterances"][utterance]
    value = expected_accuracy(nothing, batch, accuracies, SCALE)
    assert value.item() / batch.num_rows == pytest.approx(facts[f"{name}{suffix}_frame_acc"], abs=1e-6)
    assert totals.item() == pytest.approx(facts["loglike_scaled"], abs=1e-3)

    # The gradient of the criterion is the same, summed to pdfs, times the acoustic scale.
    value.sum().backward()
    by_pdf = torch.zeros_like(nothing)
    for (frame, tid), number in wanted.items():
        by_pdf[frame, table.pdfs[tid]] += number
    assert nothing.grad is not None
    assert (nothing.grad / SCALE - by_pdf).abs().max() < 1e-4
