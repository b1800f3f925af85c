"""The cache of soft targets: exact, resumable, and refused where it does not belong."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import list_files
from asr_kd.distillation import soft_targets
from asr_kd.distillation.config import DistillationConfig
from asr_kd.distillation.objective import DistillationObjective
from asr_kd.distillation.soft_targets import SoftTargets, SoftTargetsKey, build_soft_targets
from asr_kd.distillation.teachers import CachedTeacher, LiveTeacher, TeacherEnsemble
from asr_kd.features.frame_store import FrameStore
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.training import data as training_data
from asr_kd.training.config import TrainingConfig
from asr_kd.training.cross_validation import cross_validate
from asr_kd.training.data import TrainingData, frames_digest
from asr_kd.training.engine import train
from tests.training.corpora import DIM, PDFS, write_corpus


def make_teacher() -> DNN:
    torch.manual_seed(4)
    model = DNN(3 * DIM, 16, 2, PDFS)
    torch.nn.init.normal_(model.output_layer.weight, std=2.0)
    return model.eval()


def make_key(store: FrameStore, **changes: Any) -> SoftTargetsKey:
    arguments: dict[str, Any] = {"teacher": "t" * 64, "left": 1, "right": 1, "features": frames_digest(store),
                                 "hmm": "a" * 64, "top_k": 3}
    return SoftTargetsKey(**{**arguments, **changes})


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_cache_holds_the_teachers_best_pdfs_and_the_mass_of_the_others(tmp_path: Path, temperature: float) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    teacher = make_teacher()
    targets = build_soft_targets(tmp_path / "soft", teacher, store, make_key(store, temperature=temperature),
                                 precision="float32")
    indices = np.random.default_rng(0).permutation(store.num_frames)[:200]
    found = targets.gather(indices)
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1)
    with torch.no_grad():
        posteriors = torch.softmax(teacher(data.minibatch(indices).inputs.float()) / temperature, -1)
    ordered, order = posteriors.sort(descending=True)
    assert torch.equal(found["soft_pdf_ids"], order[:, :3])
    torch.testing.assert_close(found["soft_log_probs"].exp(), ordered[:, :3], rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(found["soft_log_tail"].exp(), ordered[:, 3:].sum(-1), rtol=5e-3, atol=1e-6)
    sizes = {path.name: path.stat().st_size for path in list_files(tmp_path / "soft")
             if path.suffix != ".json"}
    n = store.num_frames
    assert sizes == {"pdf_ids-00000.u2": 6 * n, "log_probs-00000.f2": 6 * n, "log_tail-00000.f2": 2 * n,
                     "log_norm-00000.f4": 4 * n}
    assert targets.num_bytes == sum(sizes.values())
    assert targets.lost_mass == pytest.approx(_tails(teacher, data, store.num_frames, temperature), rel=1e-3)
    with torch.no_grad():
        logits = teacher(data.minibatch(indices).inputs.float()) / temperature
    torch.testing.assert_close(found["soft_log_norm"], logits.logsumexp(-1), rtol=1e-4, atol=1e-4)


def _tails(teacher: DNN, data: TrainingData, frames: int, temperature: float) -> float:
    """Mean mass of all but the three best pdfs."""
    with torch.no_grad():
        posteriors = torch.softmax(teacher(data.minibatch(np.arange(frames)).inputs.float()) / temperature, -1)
    return float(1 - posteriors.topk(3).values.sum(-1).mean())


def test_shards_hold_what_one_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = write_corpus(tmp_path / "store")
    key = make_key(store, hidden=True)
    whole = build_soft_targets(tmp_path / "whole", make_teacher(), store, key, precision="float32")
    monkeypatch.setattr(soft_targets, "_BLOCK", 100)
    monkeypatch.setattr(soft_targets, "_SHARD", 3)
    parted = build_soft_targets(tmp_path / "parted", make_teacher(), store, key, precision="float32")
    assert len(list((tmp_path / "parted").glob("hidden-*.f2"))) == -(-store.num_frames // 300) > 1
    indices = np.random.default_rng(0).permutation(store.num_frames)
    one, other = whole.gather(indices), parted.gather(indices)
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
    assert SoftTargets.open(tmp_path / "parted", top_k=3).lost_mass == pytest.approx(whole.lost_mass, rel=1e-9)


def test_how_many_threads_build_a_cache_does_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = write_corpus(tmp_path / "store")
    monkeypatch.setattr(soft_targets, "_CHUNK", 50)
    digests = set()
    for threads in (1, 3):
        monkeypatch.setattr(soft_targets, "available_cores", lambda threads=threads: threads)
        built = build_soft_targets(tmp_path / f"soft-{threads}", make_teacher(), store, make_key(store))
        digests.add(built.digest)
    assert len(digests) == 1


def test_the_teachers_last_hidden_layer_is_kept_on_demand(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    teacher = make_teacher()
    targets = build_soft_targets(tmp_path / "soft", teacher, store, make_key(store, hidden=True),
                                 precision="float32")
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1)
    with torch.no_grad():
        expected = teacher.hidden(data.minibatch(np.arange(50)).inputs.float())
    assert targets.hidden_dim == 16
    torch.testing.assert_close(targets.gather(np.arange(50))["soft_hidden"].float(), expected, rtol=1e-3, atol=1e-3)


def test_minibatches_held_on_a_device_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    targets = build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store, hidden=True),
                                 precision="float32")
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=targets)
    indices = np.random.default_rng(0).permutation(store.num_frames)[:100]
    cpu = torch.device("cpu")
    gathered = data.minibatch(indices).to(cpu)
    data._held = training_data._Held(data._spliced, data._pdf_ids, targets, cpu)
    held = data.minibatch(indices).to(cpu)
    assert torch.equal(held.inputs, gathered.inputs) and torch.equal(held.pdf_ids, gathered.pdf_ids)
    assert held.targets.keys() == gathered.targets.keys()
    for name, value in gathered.targets.items():
        torch.testing.assert_close(held.targets[name].double(), value.double(), rtol=0, atol=0)
    objective = DistillationObjective(DistillationConfig(), CachedTeacher.of(targets))
    logits = torch.randn(100, PDFS)
    assert torch.equal(objective(logits, held), objective(logits, gathered))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_training_on_a_gpu_from_its_own_memory_goes_as_on_the_cpu(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    targets = build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store),
                                 precision="float32")
    losses = []
    for device in ("cpu", "cuda"):
        data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=targets)
        settings = TrainingConfig(epochs=3, batch_size=64, precision="float32", threads=1, tensorboard=False,
                                  learning_rate=0.01, device=device)
        torch.manual_seed(0)
        result = train(HighwayDNN(3 * DIM, 12, 3, PDFS), data,
                       DistillationObjective(DistillationConfig(), CachedTeacher.of(targets)), settings,
                       tmp_path / device)
        losses.append([record["cv_loss"] for record in result.history])
        assert (data._held is not None) == (device == "cuda")
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.parametrize("spread", [0.0, 12.0])
@pytest.mark.parametrize(("top_k", "temperature"), [(2, 1.0), (4, 1.0), (2, 3.0)])
def test_what_the_cache_loses_is_within_its_bounds(
    tmp_path: Path, top_k: int, temperature: float, spread: float
) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    teacher, key = make_teacher(), make_key(store, top_k=top_k, temperature=temperature)
    targets = build_soft_targets(tmp_path / "soft", teacher, store, key, precision="float32")
    data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=targets)
    minibatch = data.minibatch(np.arange(store.num_frames)).to(torch.device("cpu"))
    torch.manual_seed(0)
    logits = (spread / 6 * torch.randn(store.num_frames, PDFS)).clamp(-spread / 2, spread / 2).requires_grad_()
    losses = [DistillationObjective(DistillationConfig(temperature=temperature), of)(logits, minibatch)
              for of in (LiveTeacher(teacher, "t"), CachedTeacher.of(targets))]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    assert 0 < (losses[0] - losses[1]).item() <= targets.divergence_error(spread) + 1e-3
    assert (gradients[0] - gradients[1]).abs().sum().item() <= targets.gradient_error + 1e-3


def test_training_from_a_cache_that_leaves_pdfs_out_follows_the_teacher_within_its_bound(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    teacher = make_teacher()
    targets = build_soft_targets(tmp_path / "soft", teacher, store, make_key(store, top_k=3),
                                 precision="float32")
    settings = TrainingConfig(epochs=4, batch_size=64, precision="float32", threads=1, tensorboard=False,
                              learning_rate=0.01, schedule="constant")
    truth = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1)
    on_the_fly, losses = DistillationObjective(DistillationConfig(), LiveTeacher(teacher, "t")), []
    for name, taught, source in (("live", on_the_fly, None),
                                 ("cached", DistillationObjective(DistillationConfig(), CachedTeacher.of(targets)),
                                  targets)):
        data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=source)
        torch.manual_seed(0)
        student = HighwayDNN(3 * DIM, 12, 3, PDFS)
        train(student, data, taught, settings, tmp_path / name)
        losses.append(cross_validate(student, truth, on_the_fly).loss)  # both by the whole teacher
    assert targets.lost_mass > 0.001
    assert abs(losses[0] - losses[1]) <= targets.divergence_error() + 1e-3


def test_training_from_a_whole_cache_follows_the_teacher_on_the_fly(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    teacher, key = make_teacher(), make_key(store, top_k=PDFS)
    targets = build_soft_targets(tmp_path / "soft", teacher, store, key, precision="float32")
    config, losses = DistillationConfig(), []
    for of_teacher, source in ((LiveTeacher(teacher, "t"), None), (CachedTeacher.of(targets), targets)):
        objective = DistillationObjective(config, of_teacher)
        data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=source)
        torch.manual_seed(0)
        settings = TrainingConfig(epochs=3, batch_size=64, precision="float32", threads=1, tensorboard=False,
                                  learning_rate=0.01)
        result = train(HighwayDNN(3 * DIM, 12, 3, PDFS), data, objective, settings,
                       tmp_path / type(of_teacher).__name__)
        losses.append([record["cv_loss"] for record in result.history])
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=5e-3)


@pytest.mark.parametrize(("change", "message"), [
    ({"teacher": "x" * 64}, "teacher tttttttttttt.*teacher xxxxxxxxxxxx"),
    ({"hmm": "y" * 64}, "hmm aaaaaaaaaaaa.*hmm yyyyyyyyyyyy"),
    ({"features": "z" * 64}, "features .*features zzzzzzzzzzzz"),
    ({"left": 2}, "left 1, but left 2"), ({"temperature": 2.0}, "temperature 1.0.*temperature 2.0"),
    ({"top_k": 4}, "top_k 3.*top_k 4")])
def test_a_stale_cache_is_refused_with_both_names(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    store, _ = write_corpus(tmp_path / "store")
    build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store))
    SoftTargets.open(tmp_path / "soft", **make_key(store).model_dump())
    with pytest.raises(InputError, match=f"stale.*{message}"):
        SoftTargets.open(tmp_path / "soft", **make_key(store, **change).model_dump())


def test_a_cache_of_another_precision_is_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    store, _ = write_corpus(tmp_path / "store")
    made = build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store),
                              precision="bfloat16")
    again = build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store))
    assert again.digest == made.digest and again.precision == "bfloat16"
    with pytest.raises(InputError, match="in bfloat16, but float32 is asked for"):
        build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store),
                           precision="float32")


@pytest.mark.parametrize("top_k", [3, PDFS])
def test_a_teacher_whose_outputs_are_not_finite_is_refused_with_the_utterance(tmp_path: Path, top_k: int) -> None:
    store, _ = write_corpus(tmp_path / "store")
    begin, _ = store.bounds("s2-1")
    teacher, heard = make_teacher(), iter(range(store.num_frames + 1))

    class Damaged(torch.nn.Module):
        weight = next(teacher.parameters())

        def parameters(self, recurse: bool = True) -> Iterator[torch.nn.Parameter]:
            return teacher.parameters()

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            logits = teacher(inputs)
            rows = np.array([next(heard) for _ in range(len(inputs))]) - 1  # the first tells the number of pdfs
            logits[torch.from_numpy((rows >= begin + 3) & (rows < begin + 9))] = torch.nan
            return logits

    with pytest.raises(WorkError, match="of 6 frames is not finite, .* the first of s2-1"):
        build_soft_targets(tmp_path / "soft", Damaged(), store, make_key(store, top_k=top_k))
    assert not (tmp_path / "soft").exists()


def test_what_16_bits_cannot_hold_is_refused_with_the_utterance(tmp_path: Path) -> None:
    store, _ = write_corpus(tmp_path / "store")
    teacher = make_teacher()
    with torch.no_grad():
        for layer in teacher.hidden_layers:  # type: ignore[union-attr]
            for parameter in layer.parameters():
                parameter.mul_(1e4)
        teacher.output_layer.weight.mul_(1e-9)
    with pytest.raises(WorkError, match=f"too large for 16 bits, the first of {store.ids[0]}"):
        build_soft_targets(tmp_path / "soft", teacher, store, make_key(store, hidden=True))


def test_another_cards_format_is_refused(tmp_path: Path) -> None:
    store, _ = write_corpus(tmp_path / "store")
    build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store))
    card = tmp_path / "soft" / "soft_targets.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))
    with pytest.raises(InputError, match="not a card of soft targets"):
        SoftTargets.open(tmp_path / "soft")


@pytest.mark.parametrize(("change", "message"), [
    ({"block": 0}, "not a card of soft targets"), ({"shard": 0}, "not a card of soft targets"),
    ({"num_frames": 0}, "not a card of soft targets"), ({"checksums": []}, "0 checksums, 1 masses and 0 choices for 1"),
    ({"tail_mass": []}, "1 checksums, 0 masses and 0 choices for 1"),
    ({"choices": [[1], [2]]}, "1 checksums, 1 masses and 2 choices for 1")], ids=str)
def test_a_damaged_card_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    store, _ = write_corpus(tmp_path / "store")
    build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store))
    card = tmp_path / "soft" / "soft_targets.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        SoftTargets.open(tmp_path / "soft")


def test_which_teacher_was_the_surest_is_counted_once_a_frame_also_by_a_build_taken_up_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "_BLOCK", 100)
    store, pdf_ids = write_corpus(tmp_path / "store")
    torch.manual_seed(9)
    teachers = [make_teacher(), DNN(3 * DIM, 16, 2, PDFS).eval()]
    torch.nn.init.normal_(teachers[1].output_layer.weight, std=2.2)
    ensemble = TeacherEnsemble(teachers, [(1, 1), (1, 1)], DIM, "surest")
    inputs = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1).minibatch(np.arange(store.num_frames))
    with torch.no_grad():
        posteriors = [teacher(inputs.inputs.float()).softmax(-1) for teacher in teachers]
    entropies = [-(one * one.log()).sum(-1) for one in posteriors]
    share = (entropies[0] <= entropies[1]).float().mean().item()
    assert 0.1 < share < 0.9
    calls: list[int] = []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    handle = ensemble.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        build_soft_targets(tmp_path / "soft", ensemble, store, make_key(store), "float32")
    handle.remove()
    built = build_soft_targets(tmp_path / "soft", ensemble, store, make_key(store), "float32")
    assert built.choice_shares == pytest.approx([share, 1 - share])
    assert SoftTargets.open(tmp_path / "soft").choice_shares == built.choice_shares


def test_of_two_that_build_one_waits_for_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = write_corpus(tmp_path / "store")
    monkeypatch.setattr(soft_targets, "_BLOCK", 100)
    teachers = [make_teacher(), make_teacher()]
    calls = [0, 0]
    for number, teacher in enumerate(teachers):
        def count(*_: object, number: int = number) -> None:
            calls[number] += 1
            time.sleep(0.01)
        teacher.register_forward_hook(count)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda teacher: build_soft_targets(tmp_path / "soft", teacher, store, make_key(store)),
                             teachers))
    assert made[0].digest == made[1].digest and min(calls) == 0 < max(calls)


def test_soft_targets_of_other_frames_or_pdfs_are_refused(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    other, _ = write_corpus(tmp_path / "longer", speakers=7)
    targets = build_soft_targets(tmp_path / "soft", make_teacher(), other, make_key(other))
    with pytest.raises(InputError, match=f"{store.num_frames} frames, soft targets {other.num_frames}"):
        TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=targets)
    objective = DistillationObjective(DistillationConfig(), CachedTeacher.of(targets))
    data = TrainingData(other, np.zeros(other.num_frames, np.int32), left=1, right=1, held_out_speakers=1,
                        targets=targets)
    minibatch = data.minibatch(np.arange(5))
    objective(torch.randn(5, PDFS), minibatch)
    with pytest.raises(InputError, match=f"teacher has {PDFS} pdfs, its student {PDFS + 2}: .* different trees"):
        objective(torch.randn(5, PDFS + 2), minibatch)


@pytest.mark.parametrize(("change", "precision", "message"), [
    ({"left": 2}, "auto", f"does not take the {4 * DIM} values"),
    ({"hidden": True}, "auto", "last hidden layer is asked"),
    ({}, "fp16", "precision is 'fp16', expected one of auto, float32, bfloat16")])
def test_a_teacher_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], precision: Any, message: str
) -> None:
    store, _ = write_corpus(tmp_path / "store")
    foreign = torch.nn.Linear(3 * DIM, PDFS)
    with pytest.raises(InputError, match=message):
        build_soft_targets(tmp_path / "soft", foreign, store, make_key(store, **change), precision)


def test_features_other_than_the_keys_are_not_forwarded(tmp_path: Path) -> None:
    store, _ = write_corpus(tmp_path / "store")
    key = make_key(store, features="z" * 64)
    with pytest.raises(InputError, match="zzzzzzzzzzzz asked for"):
        build_soft_targets(tmp_path / "soft", make_teacher(), store, key)


@pytest.mark.parametrize("name", ["pdf_ids-00000.u2", "log_probs-00000.f2", "log_tail-00000.f2", "log_norm-00000.f4"])
def test_truncated_damaged_and_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    store, _ = write_corpus(tmp_path / "store")
    key = make_key(store)
    build_soft_targets(tmp_path / "soft", make_teacher(), store, key)
    path = tmp_path / "soft" / name
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    with pytest.raises(InputError, match=f"{name}: {len(content) - 2} bytes, expected {len(content)}"):
        SoftTargets.open(tmp_path / "soft", **key.model_dump())
    path.write_bytes(content[:100] + bytes([content[100] ^ 4]) + content[101:])
    with pytest.raises(InputError, match="damaged"):
        SoftTargets.open(tmp_path / "soft", **key.model_dump())
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: missing"):
        SoftTargets.open(tmp_path / "soft", **key.model_dump())


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "_BLOCK", 100)
    store, _ = write_corpus(tmp_path / "store")
    teacher, key = make_teacher(), make_key(store)
    forwarded: list[int] = []

    def stop_at(limit: int) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if sum(forwarded) + len(inputs[0]) > limit:
                raise KeyboardInterrupt
            forwarded.append(len(inputs[0]))
        return hook

    handle = teacher.register_forward_pre_hook(stop_at(1 + 450))  # one frame is forwarded to learn the pdfs
    with pytest.raises(KeyboardInterrupt):
        build_soft_targets(tmp_path / "soft", teacher, store, key, precision="float32")
    handle.remove()
    assert not (tmp_path / "soft").exists()
    forwarded.clear()
    teacher.register_forward_pre_hook(stop_at(10**9))
    resumed = build_soft_targets(tmp_path / "soft", teacher, store, key, precision="float32")
    assert sum(forwarded) == 1 + store.num_frames - 400
    whole = build_soft_targets(tmp_path / "whole", teacher, store, key, precision="float32")
    assert resumed.digest == whole.digest
    assert not (tmp_path / "soft.partial").exists()


def test_a_build_of_several_shards_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "_BLOCK", 100)
    monkeypatch.setattr(soft_targets, "_SHARD", 3)
    store, _ = write_corpus(tmp_path / "store")
    key = make_key(store, hidden=True)
    whole = build_soft_targets(tmp_path / "whole", make_teacher(), store, key, precision="float32")
    for stopped_after in (1, 3, 4, 7):
        kept = 0
        keep = soft_targets._keep

        def stop(*arguments: Any, last: int = stopped_after) -> Any:
            nonlocal kept
            if kept == last:
                raise KeyboardInterrupt
            kept += 1
            return keep(*arguments)  # noqa: B023

        folder = tmp_path / f"stopped-{stopped_after}"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(soft_targets, "_keep", stop)
            build_soft_targets(folder, make_teacher(), store, key, precision="float32")
        assert not folder.exists()
        assert build_soft_targets(folder, make_teacher(), store, key, precision="float32").digest == whole.digest


def test_soft_targets_other_than_the_datas_are_refused(tmp_path: Path) -> None:
    store, pdf_ids = write_corpus(tmp_path / "store")
    of_one, of_other = (build_soft_targets(tmp_path / str(top_k), make_teacher(), store, make_key(store, top_k=top_k))
                        for top_k in (2, 3))
    objective = DistillationObjective(DistillationConfig(), CachedTeacher.of(of_one))
    settings = TrainingConfig(epochs=1, batch_size=64, precision="float32", threads=1, tensorboard=False)
    for targets, found in ((of_other, of_other.digest[:12]), (None, "none")):
        data = TrainingData(store, pdf_ids, left=1, right=1, held_out_speakers=1, targets=targets)
        with pytest.raises(InputError, match=f"learns from soft targets {of_one.digest[:12]}, the data have {found}"):
            train(HighwayDNN(3 * DIM, 12, 3, PDFS), data, objective, settings, tmp_path / "work")


def test_a_build_killed_by_sigkill_leaves_no_cache_and_is_taken_up_again(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_targets, "_BLOCK", 50)
    store, _ = write_corpus(tmp_path / "store")
    code = f"""
import time
from pathlib import Path
from asr_kd.distillation import soft_targets
from tests.distillation.test_soft_targets import make_key, make_teacher
from asr_kd.features.frame_store import FrameStore
soft_targets._BLOCK = 50
store = FrameStore.open(Path({str(tmp_path / 'store')!r}))
teacher = make_teacher()
teacher.register_forward_pre_hook(lambda *_: time.sleep(0.05))
soft_targets.build_soft_targets(Path({str(tmp_path / 'soft')!r}), teacher, store, make_key(store),
                                precision="float32")
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=dict(os.environ))
    card = tmp_path / "soft.partial" / "soft_targets.json"
    deadline = time.monotonic() + 120
    while not card.exists() or len(json.loads(card.read_text())["checksums"]) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "soft").exists()
    key = make_key(store)
    again = build_soft_targets(tmp_path / "soft", make_teacher(), store, key, precision="float32")
    whole = build_soft_targets(tmp_path / "whole", make_teacher(), store, key, precision="float32")
    indices = np.arange(store.num_frames)
    for name, value in whole.gather(indices).items():
        assert torch.equal(value, again.gather(indices)[name])


def test_the_room_for_a_cache_is_kept_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def full_after_the_first(file: int, offset: int, size: int) -> None:
        if kept:
            raise OSError(errno.ENOSPC, "No space left on device")
        kept.append(size)

    store, _ = write_corpus(tmp_path / "store")
    monkeypatch.setattr(os, "posix_fallocate", full_after_the_first)
    with pytest.raises(WorkError, match="cannot be written.*No space left"):
        build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store))
    assert kept == [store.num_frames * 3 * 2] and not (tmp_path / "soft").exists()


@pytest.mark.parametrize(("top_k", "precision"), [(3, "bfloat16"), (2, "float32")])
def test_a_build_goes_on_in_the_precision_that_it_began_in(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top_k: int, precision: str) -> None:
    """And one of another key does not."""
    monkeypatch.setattr(soft_targets, "_BLOCK", 100)
    monkeypatch.setattr(soft_targets, "bfloat16_gains", lambda _: True)
    store, _ = write_corpus(tmp_path / "store")
    teacher, calls = make_teacher(), []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    handle = teacher.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        build_soft_targets(tmp_path / "soft", teacher, store, make_key(store, top_k=3))
    handle.remove()
    monkeypatch.setattr(soft_targets, "bfloat16_gains", lambda _: False)
    made = build_soft_targets(tmp_path / "soft", teacher, store, make_key(store, top_k=top_k))
    assert made.precision == precision


def test_a_full_disk_is_an_error_of_one_line(tmp_path: Path) -> None:
    import resource

    store, _ = write_corpus(tmp_path / "store")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as if the disk had 1,000 bytes left
    try:
        with pytest.raises(WorkError, match="cannot be written.*make room"):
            build_soft_targets(tmp_path / "soft", make_teacher(), store, make_key(store))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "soft").exists()
