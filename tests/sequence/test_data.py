"""Data of sequence training: what is left out, what a minibatch holds, what an epoch draws."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.core.errors import InputError, WorkError
from asr_kd.features.splice import splice
from asr_kd.lattices.training_lattices import TrainingLattices
from asr_kd.sequence.accuracies import frame_accuracies, phone_errors
from asr_kd.sequence.config import CriterionConfig
from asr_kd.sequence.lattice_batch import LatticeBatch
from asr_kd.training.data import TrainingData
from tests.sequence.brute_force import TABLE
from tests.sequence.corpora import HMM, SequenceCorpus, teacher_paths, teacher_scores, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> SequenceCorpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def with_known(corpus: SequenceCorpus, **changes: Any) -> TrainingLattices:
    """The lattices, of which something else is known: keys are utterances with _ for -, None takes one away."""
    known = dict(corpus.lattices.utterances)
    for key, change in changes.items():
        name = key.replace("_", "-")
        if change is None:
            del known[name]
        else:
            known[name] = replace(known[name], **change)
    return replace(corpus.lattices, utterances=known)


@pytest.fixture
def damaged(corpus: SequenceCorpus) -> SequenceCorpus:
    """One utterance for each reason to leave one out but its length."""
    assert longest_of(corpus)[0] not in {**UNUSABLE, **UNALIGNED}.values()
    alignments = dict(corpus.alignments)
    del alignments["s1-0"]
    alignments["s1-1"] = alignments["s1-1"][:-1]
    lattices = with_known(corpus, s1_2={"numerator_cost": None}, s2_0=None, s2_1={"frames": 3})
    return replace(corpus, lattices=lattices, alignments=alignments)


def longest_of(corpus: SequenceCorpus) -> tuple[str, int]:
    """The longest utterance, and the frames that all others fit in."""
    frames = {name: len(corpus.store[name]) for name in corpus.store.ids}
    second, first = sorted(frames, key=frames.__getitem__)[-2:]
    return first, frames[second]


UNUSABLE = {"no lattice": "s2-0", "lattice of other frames": "s2-1"}
UNALIGNED = {"no alignment": "s1-0", "alignment of other frames": "s1-1", "no numerator": "s1-2"}


@pytest.mark.parametrize("criterion", ["smbr", "mpe", "mmi"])
def test_what_a_supervised_criterion_cannot_learn_from_is_dropped_by_reason(
    damaged: SequenceCorpus, criterion: Any
) -> None:
    longest, rest = longest_of(damaged)
    data = damaged.data(CriterionConfig(criterion=criterion), max_frames=rest, max_dropped=0.5)
    dropped = {reason: [name for name, _ in items] for reason, items in data.drops.reasons.items()}
    expected = {**UNUSABLE, **UNALIGNED, "longer than a minibatch": longest}
    assert dropped == {reason: [name] for reason, name in expected.items()}
    kept = data.utterances(np.concatenate([data.train_utterances, data.cv_utterances]))
    assert set(kept) == set(damaged.store.ids) - set(expected.values())
    assert data.drops.kept == len(kept) == len(set(kept))


def test_distillation_needs_no_numerator(damaged: SequenceCorpus, corpus: SequenceCorpus) -> None:
    paths = teacher_paths(corpus, teacher_scores(corpus), 0.1)
    data = damaged.data(CriterionConfig(criterion="distillation"), max_dropped=0.5, teacher_paths=paths)
    assert {reason: [name for name, _ in items] for reason, items in data.drops.reasons.items()} == {
        reason: [name] for reason, name in UNUSABLE.items()}


def test_distillation_needs_alignments_where_the_frame_loss_wants_labels(
    damaged: SequenceCorpus, corpus: SequenceCorpus
) -> None:
    paths = teacher_paths(corpus, teacher_scores(corpus), 0.1)
    data = damaged.data(CriterionConfig(criterion="distillation", smoothing=0.1), max_dropped=0.5, teacher_paths=paths,
                        wants_labels=True)
    assert set(data.drops.reasons) == {*UNUSABLE, "no alignment", "alignment of other frames"}


def test_no_minibatch_has_more_arcs_than_it_may(corpus: SequenceCorpus) -> None:
    arcs = {name: known.arcs for name, known in corpus.lattices.utterances.items()}
    most = sorted(arcs.values())[-2]
    data = corpus.data(max_arcs=most, max_dropped=0.5)
    too_many = {name for name, number in arcs.items() if number > most}
    assert {name for name, _ in data.drops.reasons.get("more arcs than a minibatch", [])} == too_many
    sums = [sum(arcs[name] for name in data.utterances(batch)) for batch in data.batches(10**6, 1, 0)]
    assert len(sums) > 1 and max(sums) <= most
    drawn = sorted(name for batch in data.batches(10**6, 1, 0) for name in data.utterances(batch))
    assert drawn == sorted(data.utterances(data.train_utterances))


def test_details_name_both_numbers_of_frames(damaged: SequenceCorpus) -> None:
    longest, rest = longest_of(damaged)
    reasons = damaged.data(max_frames=rest, max_dropped=0.5).drops.reasons
    frames = {name: len(damaged.store[name]) for name in damaged.store.ids}
    assert reasons["lattice of other frames"] == [("s2-1", f"3, its features have {frames['s2-1']}")]
    assert reasons["alignment of other frames"] == [
        ("s1-1", f"{frames['s1-1'] - 1}, its features have {frames['s1-1']}")]
    assert reasons["longer than a minibatch"] == [(longest, f"{frames[longest]} frames, batch_size is {rest}")]


def test_too_many_drops_stop_the_work(damaged: SequenceCorpus) -> None:
    with pytest.raises(WorkError, match="5 of 18 utterances dropped, more than the cap of 10.0%"):
        damaged.data(max_dropped=0.1)


def test_training_and_held_out_utterances_are_parted_by_speaker(corpus: SequenceCorpus) -> None:
    data = corpus.data(held_out_speakers=["s1", "s4"])
    assert data.utterances(data.cv_utterances) == [f"s{speaker}-{number}" for speaker in (1, 4) for number in range(3)]
    assert sorted([*data.cv_utterances, *data.train_utterances]) == list(range(18))
    assert set(data.held_out_speakers) == {"s1", "s4"}


def test_held_out_utterances_are_those_of_frame_training_with_copies_and_without(
    corpus: SequenceCorpus, tmp_path: Path
) -> None:
    perturbed = write_corpus(tmp_path, copies=True)
    data = perturbed.data()
    held_out = data.utterances(data.cv_utterances)
    assert held_out == corpus.data().utterances(corpus.data().cv_utterances)
    pdf_ids = np.zeros(perturbed.store.num_frames, np.int32)
    frames = TrainingData(perturbed.store, pdf_ids, left=1, right=1, held_out_speakers=2)
    assert frames.utterances(frames.cv_frames) == held_out
    trained = data.utterances(data.train_utterances)
    assert frames.utterances(frames.train_frames) == sorted(trained, key=perturbed.store.ids.index)
    assert len(trained) == 24 and not {perturbed.store.source_speaker(name) for name in trained} & {
        perturbed.store.source_speaker(name) for name in held_out}


def test_parts_without_utterances_are_refused(corpus: SequenceCorpus) -> None:
    gone: dict[str, Any] = {f"s1_{number}": None for number in range(3)}
    without = replace(corpus, lattices=with_known(corpus, **gone))
    with pytest.raises(InputError, match="no held-out utterances with a lattice .1 speakers"):
        without.data(held_out_speakers=["s1"], max_dropped=0.5)
    others = [f"s{speaker}" for speaker in (0, 2, 3, 4, 5)]
    with pytest.raises(InputError, match="no training utterances"):
        without.data(held_out_speakers=others, max_dropped=0.5)


@pytest.mark.parametrize("batch_size", [30, 64, 10_000])
def test_an_epoch_draws_every_utterance_once_in_equally_many_minibatches_that_fit(
    corpus: SequenceCorpus, batch_size: int
) -> None:
    data = corpus.data(max_frames=batch_size)
    epochs = [data.batches(batch_size, 3, epoch) for epoch in range(4)]
    assert len({len(batches) for batches in epochs}) == 1
    frames = {number: len(corpus.store[name]) for number, name in enumerate(corpus.store.ids)}
    for batches in epochs:
        assert sorted(np.concatenate(batches)) == data.train_utterances.tolist()
        assert all(sum(frames[number] for number in batch) <= batch_size for batch in batches)
    if batch_size == 10_000:
        assert len(epochs[0]) == 1
    else:
        assert len(epochs[0]) > 3
        assert len({tuple(np.concatenate(batches)) for batches in epochs}) > 1


def test_what_an_epoch_draws_depends_on_seed_and_epoch_alone(corpus: SequenceCorpus) -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        return np.concatenate(corpus.data().batches(40, seed, epoch)).tolist()

    assert drawn(1, 0) == drawn(1, 0) and drawn(1, 5) == drawn(1, 5)
    assert drawn(1, 0) != drawn(1, 1) and drawn(1, 0) != drawn(2, 0)


def test_held_out_utterances_are_all_drawn_once(corpus: SequenceCorpus) -> None:
    data = corpus.data()
    batches = data.cv_batches(40)
    assert np.concatenate(batches).tolist() == data.cv_utterances.tolist() and len(batches) > 1


def test_a_minibatch_holds_spliced_frames_pdfs_and_lattices_of_its_utterances(corpus: SequenceCorpus) -> None:
    data = corpus.data(left=2, right=1)
    batch = np.array([11, 2, 7])
    names = data.utterances(batch)
    assert names == [corpus.store.ids[number] for number in batch]
    minibatch = data.minibatch(batch).to(torch.device("cpu"))
    assert minibatch.inputs.dtype == torch.float32
    np.testing.assert_array_equal(
        minibatch.inputs.numpy(), np.concatenate([splice(corpus.store[name], 2, 1) for name in names]))
    alignment = np.concatenate([corpus.alignments[name] for name in names])
    np.testing.assert_array_equal(minibatch.pdf_ids.numpy(), TABLE.pdfs[alignment])
    lattices = [corpus.lattices.lattices.word_lattice(name).expand() for name in names]
    expected = LatticeBatch.of(lattices, TABLE.pdfs)
    assert minibatch.lattices.row_begins.tolist() == np.cumsum(
        [0, *(len(corpus.alignments[name]) for name in names)]).tolist()
    for field in ("sources", "targets", "rows", "pdfs", "log_weights"):
        assert torch.equal(getattr(minibatch.lattices, field), getattr(expected, field)), field


def test_a_criterion_gets_what_it_is_computed_from(corpus: SequenceCorpus) -> None:
    batch = np.array([3, 4])
    names = [corpus.store.ids[number] for number in batch]
    alignment = torch.from_numpy(np.concatenate([corpus.alignments[name] for name in names]).astype(np.int64))
    for criterion, unit, one_silence_class in (
            ("smbr", "state", True), ("smbr", "state", False), ("mpe", "phone", True)):
        config = CriterionConfig.model_validate({"criterion": criterion, "one_silence_class": one_silence_class})
        found = corpus.data(config).minibatch(batch)
        wanted = frame_accuracies(found.lattices, alignment, TABLE, unit, one_silence_class)  # type: ignore[arg-type]
        assert found.accuracies is not None and torch.equal(found.accuracies, wanted)
        assert found.numerator is None
    plain = corpus.data(CriterionConfig(criterion="mmi")).minibatch(batch)
    assert plain.accuracies is None and plain.numerator is not None
    costs = [corpus.lattices.utterances[name].numerator_cost for name in names]
    assert (-plain.numerator.log_weights).tolist() == costs
    assert plain.numerator.pdfs.tolist() == TABLE.pdfs[alignment.numpy()].tolist()
    boosted = corpus.data(CriterionConfig(criterion="mmi", boost=0.5)).minibatch(batch)
    errors = phone_errors(plain.lattices, alignment, TABLE)
    assert 0 < errors.sum() < len(errors)
    np.testing.assert_allclose((boosted.lattices.log_weights - plain.lattices.log_weights).numpy(), 0.5 * errors,
                               atol=1e-6)


def test_frames_without_alignment_have_no_label(corpus: SequenceCorpus) -> None:
    unaligned = replace(corpus, alignments={name: tids for name, tids in corpus.alignments.items() if name != "s0-1"})
    paths = teacher_paths(corpus, teacher_scores(corpus), 0.1)
    data = unaligned.data(CriterionConfig(criterion="distillation"), teacher_paths=paths)
    begin = len(corpus.alignments["s0-0"])
    labels = data.minibatch(np.array([0, 1])).pdf_ids
    assert (labels[:begin] >= 0).all() and (labels[begin:] == -1).all()


def test_digests_tell_alignments_lattices_and_speakers_apart(corpus: SequenceCorpus, tmp_path: Path) -> None:
    tids = corpus.alignments["s0-0"]
    changed = replace(corpus, alignments={**corpus.alignments, "s0-0": np.roll(tids, 1)})
    made_otherwise = TrainingLattices.open(write_corpus(tmp_path, seed=1).lattices.folder, HMM)
    paths = teacher_paths(corpus, teacher_scores(corpus), 0.1)
    versions = [
        corpus.data(), corpus.data(held_out_speakers=1), corpus.data(max_frames=100), changed.data(),
        replace(corpus, lattices=replace(made_otherwise, utterances=corpus.lattices.utterances)).data(),
        corpus.data(teacher_paths=paths)]
    assert len({version.digest for version in versions}) == len(versions)
    assert corpus.data().digest == corpus.data().digest
