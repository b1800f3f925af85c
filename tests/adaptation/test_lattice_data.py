"""Adaptation over lattices: whole utterances in minibatches, and a criterion that rises."""

from pathlib import Path

import numpy as np
import pytest

from asr_kd.adaptation.config import AdaptationConfig, AdaptationTrainingConfig
from asr_kd.adaptation.data import AdaptationData, TaughtUtterance
from asr_kd.adaptation.lattice_data import LatticeAdaptationData, TaughtLattice, TaughtLattices
from asr_kd.adaptation.training import adapt_parameters
from asr_kd.core.errors import InputError
from asr_kd.lattices.lattice import Lattice
from asr_kd.sequence.accuracies import TransitionTable
from asr_kd.sequence.config import CriterionConfig
from tests.adaptation.speech import PDFS, saved_network, taught_utterances


def loop_lattice(frames: int) -> Lattice:
    """Any pdf in any frame: transition-id p + 1 has pdf p."""
    sources = np.repeat(np.arange(frames), PDFS)
    finals = np.full(frames + 1, np.inf, np.float32)
    finals[-1] = 0.0
    return Lattice(
        np.arange(frames + 1, dtype=np.int32),
        np.minimum(PDFS * np.arange(frames + 2), PDFS * frames).astype(np.int32), finals,
        (sources + 1).astype(np.int32), np.tile(np.arange(1, PDFS + 1), frames).astype(np.int32),
        np.zeros(frames * PDFS, np.int32), np.zeros(frames * PDFS, np.float32),
        np.zeros(frames * PDFS, np.float32))


def taught_lattices(utterances: list[TaughtUtterance]) -> TaughtLattices:
    pdfs = np.concatenate([[-1], np.arange(PDFS)]).astype(np.int32)
    table = TransitionTable(pdfs, pdfs + 1, np.zeros(PDFS + 1, bool))
    return TaughtLattices(
        {one.id: TaughtLattice(loop_lattice(len(one.features)), (one.posteriors.pdf_ids[:, 0] + 1).astype(np.int32))
         for one in utterances}, table)


def test_smbr_raises_the_expected_accuracy_of_transcripts(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    utterances = taught_utterances(4, frames=30)
    config = AdaptationConfig(
        parameters=["all"], criterion=CriterionConfig(criterion="smbr", acoustic_scale=1.0, smoothing=0.1),
        training=AdaptationTrainingConfig(epochs=6, batch_size=64, learning_rate=0.05))
    adapted = adapt_parameters(network, card, utterances[:3], config, held_out=utterances[3:],
                               lattices=taught_lattices(utterances))
    history = adapted.training.history
    assert history[-1]["train_smbr"] > history[0]["train_smbr"] + 0.1
    assert history[-1]["cv_smbr"] > history[0]["cv_smbr"]


def test_minibatches_are_whole_utterances_and_equally_many_in_every_epoch() -> None:
    utterances = taught_utterances(5, frames=30)
    frames = AdaptationData(utterances, left=1, right=1)
    data = LatticeAdaptationData(frames, utterances, [], taught_lattices(utterances), CriterionConfig())
    for epoch in range(3):
        batches = data.batches(64, seed=1, epoch=epoch)
        assert [len(batch) for batch in sorted(batches, key=len)] == [1, 2, 2]
        assert sorted(np.concatenate(batches)) == [0, 1, 2, 3, 4]
    minibatch = data.minibatch(np.array([3, 0]))
    assert len(minibatch.inputs) == 60 and minibatch.lattices.num_utterances == 2
    plain = frames.minibatch(np.concatenate([np.arange(90, 120), np.arange(30)]))
    assert minibatch.inputs.equal(plain.inputs)
    assert minibatch.accuracies is not None and minibatch.accuracies.sum() == 60


def test_what_has_no_lattice_is_refused(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    utterances = taught_utterances(2)
    config = AdaptationConfig(criterion=CriterionConfig())
    with pytest.raises(InputError, match="needs transcripts"):
        adapt_parameters(network, card, utterances, config)
    with pytest.raises(InputError, match="utterance u1 has no lattice"):
        adapt_parameters(network, card, utterances, config, lattices=taught_lattices(utterances[:1]))
    with pytest.raises(InputError, match="criterion mmi"):
        adapt_parameters(network, card, utterances, AdaptationConfig(criterion=CriterionConfig(criterion="mmi")),
                         lattices=taught_lattices(utterances))
