"""Training data: which frames are drawn, what is gathered, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd.core.errors import InputError
from asr_kd.data.manifest import Source
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.splice import splice
from asr_kd.training.data import SPEAKERS, TrainingData, choose_held_out, frames_digest, hold_out, prefetch
from tests.training.corpora import DIM, write_corpus


def test_training_and_held_out_frames_part_the_labelled_frames_by_speaker(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    begin, end = store.bounds("s1-0")
    pdf_ids[begin:end] = -1
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=["s4"])
    together = np.sort(np.concatenate([data.train_frames, data.cv_frames]))
    assert np.array_equal(together, np.flatnonzero(pdf_ids >= 0))
    held_out = {i for name in ("s4-0", "s4-1") for i in range(*store.bounds(name))}
    assert set(data.cv_frames.tolist()) == held_out


def test_held_out_speakers_by_number_are_always_the_same(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    chosen = TrainingData(store, pdf_ids, held_out_speakers=2).held_out_speakers
    assert len(chosen) == 2
    assert TrainingData(store, pdf_ids, held_out_speakers=2).held_out_speakers == chosen
    assert set(chosen) < set(TrainingData(store, pdf_ids, held_out_speakers=3).held_out_speakers)


def test_minibatch_holds_spliced_frames_and_their_pdf_ids(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, left=2, right=1, held_out_speakers=1)
    spliced = np.concatenate([splice(store[name], 2, 1) for name in store.ids])
    indices = np.random.default_rng(0).permutation(store.num_frames)[:100]
    minibatch = data.minibatch(indices).to(torch.device("cpu"))
    assert minibatch.inputs.dtype == torch.float32
    np.testing.assert_array_equal(minibatch.inputs.numpy(), spliced[indices])
    np.testing.assert_array_equal(minibatch.pdf_ids.numpy(), pdf_ids[indices])


def test_an_epoch_draws_training_frames_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, held_out_speakers=1)

    def drawn(seed: int, epoch: int, batch_size: int = 10**6) -> np.ndarray:
        return np.concatenate(data.batches(batch_size, seed, epoch))

    first, second = drawn(1, 0), drawn(1, 1)
    assert np.array_equal(np.sort(first), data.train_frames)
    assert np.array_equal(first, drawn(1, 0))
    assert not np.array_equal(first, second) and not np.array_equal(first, drawn(2, 0))
    assert np.array_equal(drawn(1, 0, 7), first[: len(first) // 7 * 7])  # the last batch is whole or left out


def test_a_batch_knows_its_utterances(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, held_out_speakers=1)
    named = [store.ids[3], store.ids[7]]
    frames = np.concatenate([np.arange(*store.bounds(name)) for name in named])
    assert data.utterances(np.random.default_rng(0).permutation(frames)) == named


def test_prefetching_keeps_the_order_and_raises_the_gathering_threads_error(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, held_out_speakers=1)
    batches = [np.arange(i, i + 5) for i in range(0, 100, 5)]
    labels = torch.cat([minibatch.pdf_ids for (minibatch,) in prefetch(data, iter(batches)) if minibatch])
    assert np.array_equal(labels.numpy(), pdf_ids[:100])
    with pytest.raises(IndexError):
        list(prefetch(data, [np.array([store.num_frames])]))


def test_faults_are_refused(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    with pytest.raises(InputError, match="1482 frames, alignments .1481"):
        TrainingData(store, pdf_ids[:-1])
    with pytest.raises(InputError, match="'s9'"):
        TrainingData(store, pdf_ids, held_out_speakers=["s1", "s9"])
    with pytest.raises(InputError, match="train has 6 speakers"):
        TrainingData(store, pdf_ids, held_out_speakers=6)
    with pytest.raises(InputError, match="no training frames"):
        TrainingData(store, np.full_like(pdf_ids, -1), held_out_speakers=1)


def test_digests_tell_frames_labels_and_speakers_apart(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    other, _ = write_corpus(tmp_path / "other", frames=121)
    assert frames_digest(store) != frames_digest(other)
    changed = pdf_ids.copy()
    changed[0] += 1
    digests = {TrainingData(store, pdf_ids, held_out_speakers=1).digest,
               TrainingData(store, pdf_ids, held_out_speakers=2).digest,
               TrainingData(store, changed, held_out_speakers=1).digest}
    assert len(digests) == 3


def test_of_one_speaker_utterances_are_held_out_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [f"u{number:02d}" for number in range(20)]
    with FrameStoreWriter(tmp_path / "store", 4, "float32", {"kind": "fbank"}) as writer:
        for name in ids:
            writer.add(name, "anna", np.ones((5, 4), np.float32))
        writer.add("u00-fast", "anna-fast", np.ones((5, 4), np.float32), Source("u00", "anna"), 1.1)
    store = FrameStore.open(tmp_path / "store")
    labels = np.zeros(store.num_frames, np.int32)
    data = TrainingData(store, labels, held_out_speakers=10)
    assert len(data.cv_frames) == 2 * 5 and data.held_out_speakers == []
    assert "train has one speaker: 2 of 20 utterances are held out" in caplog.text
    again = TrainingData(store, labels, held_out_speakers=10)
    assert (again.cv_frames == data.cv_frames).all() and again.digest == data.digest
    _, held_out = hold_out(store, 1, ["u00"])
    assert held_out == {"u00", "u00-fast"}
    assert hold_out(store, 1, ["u00-fast", "u01"])[1] == {"u01"}, "the original of u00-fast could not be judged"


def test_perturbed_speech_is_held_out_with_its_speaker_and_judged_as_it_was_spoken(tmp_path: Path) -> None:
    with FrameStoreWriter(tmp_path / "store", DIM, "float16", {"kind": "synthetic"}) as writer:
        for speaker in ("a", "b", "c"):
            for mark, speed in (("", 1.0), ("_sp0.9", 0.9), ("_sp1.1", 1.1)):
                source = Source(f"{speaker}-1", speaker) if mark else None
                writer.add(f"{speaker}-1{mark}", speaker + mark, np.zeros((10, DIM), np.float32), source, speed)
    store = FrameStore.open(tmp_path / "store")
    pdf_ids = np.zeros(store.num_frames, np.int32)
    by_number = choose_held_out(store, 1, store.ids)
    for wanted in (1, [by_number[0]], [f"{by_number[0]}_sp0.9"]):
        data = TrainingData(store, pdf_ids, held_out_speakers=wanted)
        assert data.held_out_speakers == by_number and len(by_number) == 1
        assert len(data.train_frames) == 60 and data.utterances(data.cv_frames) == [f"{by_number[0]}-1"]


def test_a_speaker_whose_name_ends_like_a_copys_is_a_speaker(tmp_path: Path) -> None:
    with FrameStoreWriter(tmp_path / "store", DIM, "float16", {"kind": "synthetic"}) as writer:
        for speaker in ("anna", "anna_sp1", "bert_sp0.9", "carl"):
            writer.add(f"{speaker}-1", speaker, np.zeros((10, DIM), np.float32))
    store = FrameStore.open(tmp_path / "store")
    for held_out in store.ids:
        data = TrainingData(store, np.zeros(40, np.int32), held_out_speakers=[store.speakers[held_out]])
        assert data.utterances(data.cv_frames) == [held_out] and len(data.train_frames) == 30
    assert len(choose_held_out(store, 3, store.ids)) == 3


def test_speakers_without_alignments_are_never_held_out(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store", speakers=12)
    known = [name for name in store.ids if int(store.speakers[name][1:]) < 4]
    unlabelled = np.full_like(pdf_ids, -1)
    for name in known:
        unlabelled[slice(*store.bounds(name))] = pdf_ids[slice(*store.bounds(name))]
    held_out = {tuple(TrainingData(store, unlabelled, held_out_speakers=number, unlabelled=True).held_out_speakers)
                for number in (1, 2, 3)}
    assert held_out == {tuple(choose_held_out(store, number, known)) for number in (1, 2, 3)}
    assert {speaker for of_one in held_out for speaker in of_one} <= {"s0", "s1", "s2", "s3"}
    with pytest.raises(InputError, match="is 4, but train has 4 speakers with alignments"):
        TrainingData(store, unlabelled, held_out_speakers=4, unlabelled=True)


def test_frames_without_alignment_are_drawn_where_they_are_wanted_but_not_judged(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    pdf_ids[::3] = -1
    labelled = TrainingData(store, pdf_ids, held_out_speakers=1)
    every = TrainingData(store, pdf_ids, held_out_speakers=1, unlabelled=True)
    assert len(every.train_frames) == pytest.approx(1.5 * len(labelled.train_frames), abs=3)
    assert np.array_equal(every.cv_frames, labelled.cv_frames) and every.digest != labelled.digest


def test_minibatches_say_whose_frames_they_are_but_for_the_independent_share(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=["s4"], independent_share=0.5)
    numbers = data.minibatch(np.arange(store.num_frames)).targets[SPEAKERS]
    training = sorted(set(store.speakers.values()) - {"s4"})
    assert data.num_speakers == len(training)
    independent = 0
    for name in store.ids:
        of_utterance = set(numbers[slice(*store.bounds(name))].tolist())
        speaker = store.speakers[name]
        expected = -1 if speaker == "s4" else training.index(speaker)
        independent += speaker != "s4" and of_utterance == {-1}
        assert of_utterance in ({expected}, {-1})
    assert 0 < independent < len([name for name in store.ids if store.speakers[name] != "s4"])
    assert SPEAKERS not in TrainingData(store, pdf_ids, held_out_speakers=["s4"]).minibatch(np.arange(3)).targets
