"""Adapters on disk: sizes, application, and what does not fit is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from asr_kd.adaptation.adapter import (
    CARD,
    NUMBERS,
    AdaptedNetworks,
    Adapter,
    AdapterCard,
    AdapterOrigin,
    save_adapter,
    write_speakers,
)
from asr_kd.adaptation.network_scores import NetworkScores
from asr_kd.adaptation.training import movable_network
from asr_kd.core.arrays import write_tensors
from asr_kd.core.cards import write_card
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_file
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.running_prior import RunningPrior
from asr_kd.models.bundle import ModelCard
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.log_likelihoods import log_likelihoods
from asr_kd.scoring.teaching import Teaching
from tests.adaptation.speech import DIM, PDFS, RUNNING, saved_network


def saved_adapter(folder: Path, network: HighwayDNN, card: ModelCard, groups: list[str],
                  refusals: Sequence[str] = ()) -> Path:
    """An adapter whose numbers are the network's own and a half."""
    _, moved = movable_network(network, groups)
    save_adapter(folder, {name: value.detach() + 0.5 for name, value in moved.items()}, card, "the network", groups,
                 AdapterOrigin(name="anna"), refusals=refusals)
    return folder


@pytest.mark.parametrize(("groups", "most"), [(["lhuc"], 8_000), (["gates"], 140_000)])
def test_adapters_of_h128l10_are_small(tmp_path: Path, groups: list[str], most: int) -> None:
    network, card = saved_network(tmp_path / "model", inputs=600, hidden=128, pdfs=1700, layers=10, splice=7)
    folder = saved_adapter(tmp_path / "adapter", network, card, groups)
    assert (folder / NUMBERS).stat().st_size <= most


@pytest.mark.parametrize("groups", [["lhuc"], ["gates"], ["all"], ["biases", "lhuc"]])
def test_applied_and_taken_off_again_outputs_are_the_same_bit_for_bit(tmp_path: Path, groups: list[str]) -> None:
    network, card = saved_network(tmp_path / "model")
    inputs = torch.randn(20, 3 * DIM)
    with torch.no_grad():
        before = network(inputs)
        adapter = Adapter.load(saved_adapter(tmp_path / "adapter", network, card, groups))
        adapter.check(card, tmp_path)
        adapted = adapter.apply(network)(inputs)
        assert not torch.allclose(adapted, before)
        assert torch.equal(network(inputs), before)
        assert torch.equal(adapter.apply(network)(inputs), adapted)


def test_another_network_is_refused_with_both_names(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    other, other_card = saved_network(tmp_path / "other", seed=1)
    folder = saved_adapter(tmp_path / "adapter", network, card, ["gates"])
    with pytest.raises(InputError) as error:
        AdaptedNetworks.open(folder, other, other_card, tmp_path / "other")
    for named in ("the network", card.digest[:12], str(tmp_path / "other"), other_card.digest[:12]):
        assert named in str(error.value)


def test_truncated_and_edited_adapters_are_refused(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    folder = saved_adapter(tmp_path / "adapter", network, card, ["gates"])
    numbers, described = folder / NUMBERS, folder / "adapter.json"
    whole, text = numbers.read_bytes(), described.read_text()
    for content in (whole[:-4], whole[:-1] + b"\x01", b""):
        numbers.write_bytes(content)
        with pytest.raises(InputError, match=r"adapter\.safetensors"):
            Adapter.load(folder)
    numbers.write_bytes(whole)
    described.write_text(json.dumps({**json.loads(text), "active": False}))
    with pytest.raises(InputError, match="edited by hand"):
        Adapter.load(folder)
    described.write_text("{}")
    with pytest.raises(InputError, match=r"adapter\.json: network"):
        Adapter.load(folder)
    numbers.unlink()
    described.write_text(text)
    with pytest.raises(InputError, match="no such file"):
        Adapter.load(folder)


def test_speakers_without_an_active_adapter_hear_the_network_as_it_is_and_are_counted(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    saved_adapter(tmp_path / "all" / "1", network, card, ["gates"])
    saved_adapter(tmp_path / "all" / "2", network, card, ["lhuc"], refusals=["too little"])
    write_speakers(tmp_path / "all", {"anna": "1", "bert": "2"})
    adapted = AdaptedNetworks.open(tmp_path / "all", network, card, tmp_path)
    assert adapted.of("anna") is adapted.of("anna")
    assert adapted.of("anna").network is not network
    assert adapted.of("bert").network is network and adapted.of("carl").network is network
    assert adapted.used == {"adapted": 3, "unadapted": 1, "refused": 1}
    refused_too = AdaptedNetworks.open(tmp_path / "all", network, card, tmp_path, refused_too=True)
    assert refused_too.of("bert").network is not network


def test_a_refused_adapter_alone_is_used_only_when_asked_for(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    folder = saved_adapter(tmp_path / "adapter", network, card, ["gates"], refusals=["too little"])
    with pytest.raises(InputError, match=r"refused \(too little\)"):
        AdaptedNetworks.open(folder, network, card, tmp_path)
    assert AdaptedNetworks.open(folder, network, card, tmp_path, refused_too=True).of("anybody").network is not network


@pytest.mark.parametrize("name", ["../adapter", "..", ".", "/adapter", "", "a/b", 3])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: object) -> None:
    network, card = saved_network(tmp_path / "model")
    write_speakers(tmp_path, {"anna": name})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="adapters.json"):
        AdaptedNetworks.open(tmp_path, network, card, tmp_path)


def test_a_folder_without_adapters_is_refused(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    with pytest.raises(InputError, match="no adapter"):
        AdaptedNetworks.open(tmp_path, network, card, tmp_path)


@pytest.mark.parametrize("content", [
    "{", "[]", '{"format": 1, "speakers": {}}', '{"format": 2, "speakers": {"anna": "1"}}'])
def test_a_damaged_list_of_speakers_is_refused(tmp_path: Path, content: str) -> None:
    network, card = saved_network(tmp_path / "model")
    saved_adapter(tmp_path / "all" / "1", network, card, ["gates"])
    (tmp_path / "all" / "adapters.json").write_text(content)
    with pytest.raises(InputError, match=r"adapters\.json"):
        AdaptedNetworks.open(tmp_path / "all", network, card, tmp_path)


def test_an_adapter_of_another_network_in_a_folder_of_many_is_refused(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    other, other_card = saved_network(tmp_path / "other", seed=1)
    saved_adapter(tmp_path / "all" / "1", network, card, ["gates"])
    saved_adapter(tmp_path / "all" / "2", other, other_card, ["gates"])
    write_speakers(tmp_path / "all", {"anna": "1", "bert": "2"})
    with pytest.raises(InputError, match=f"2: this adapter belongs to .*{other_card.digest[:12]}.*{card.digest[:12]}"):
        AdaptedNetworks.open(tmp_path / "all", network, card, tmp_path)


@pytest.mark.parametrize(("groups", "message"), [
    (["gates"], r"_gate\.weight \(8, 8\) does not fit the network, which has \(9, 9\)"),
    (["lhuc"], r"amplitudes \(8,\) does not fit the network, which has \(9,\)"),
    (["hidden_layers.1.*"], r"hidden_layers\.1\.\w+ .* which has no such parameter")])
def test_numbers_that_do_not_fit_the_network_are_refused(tmp_path: Path, groups: list[str], message: str) -> None:
    network, card = saved_network(tmp_path / "model")
    adapter = Adapter.load(saved_adapter(tmp_path / "adapter", network, card, groups))
    with pytest.raises(InputError, match=message):
        adapter.apply(HighwayDNN(3 * DIM, 9, 2, PDFS))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    _, card = saved_network(tmp_path / "model")
    save_adapter(tmp_path / "adapter", {"carry_gate.weight": torch.full((8, 8), torch.nan)}, card, "the network",
                 ["gates"], AdapterOrigin(name="anna"))
    with pytest.raises(InputError, match=r"adapter\.safetensors: holds values that are not finite"):
        Adapter.load(tmp_path / "adapter")


def test_each_utterance_is_scored_by_its_speakers_network_and_counted(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    adapter = Adapter.load(saved_adapter(tmp_path / "all" / "1", network, card, ["lhuc"]))
    saved_adapter(tmp_path / "all" / "2", network, card, ["gates"], refusals=["too little"])
    write_speakers(tmp_path / "all", {"anna": "1", "bert": "2"})
    with FrameStoreWriter(tmp_path / "frames", DIM, "float32", {"kind": "fbank"}) as writer:
        for number, speaker in enumerate(["anna", "bert", "carl", "anna"]):
            frames = np.random.default_rng(number).normal(size=(5, DIM)).astype(np.float32)
            writer.add(f"u{number}", speaker, frames)
    store = FrameStore.open(tmp_path / "frames")
    scores = NetworkScores.open(tmp_path / "model", adapters=tmp_path / "all")
    expected = {"u0": adapter.apply(network), "u1": network, "u2": network, "u3": adapter.apply(network)}
    for utterance, scoring in expected.items():
        assert np.array_equal(scores.of(store)(utterance), log_likelihoods(scoring, card, store[utterance]))
    assert not np.array_equal(scores.of(store)("u0"), log_likelihoods(network, card, store["u0"]))
    described = scores.describe()
    assert described["network"] == card.digest
    assert described["adapted"]["utterances"] == {"adapted": 3, "unadapted": 1, "refused": 1}
    assert "adapted" not in NetworkScores.open(tmp_path / "model").describe()


def test_one_network_for_everybody_is_that_of_a_single_adapter_alone(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model")
    folder = saved_adapter(tmp_path / "all" / "1", network, card, ["gates"])
    write_speakers(tmp_path / "all", {"anna": "1"})
    single = AdaptedNetworks.open(folder, network, card, tmp_path)
    assert single.only_network() is single.of("anna").network is single.of("bert").network is not network
    with pytest.raises(InputError, match="a folder of adapters"):
        AdaptedNetworks.open(tmp_path / "all", network, card, tmp_path).only_network()


def saved_with_prior(folder: Path, network: HighwayDNN, card: ModelCard) -> RunningPrior:
    """An adapter of a network that hears features with running normalisation, and the prior in it."""
    prior = RunningPrior(np.full(DIM, 2.0, np.float32), np.full(DIM, 0.5, np.float32), 600)
    _, moved = movable_network(network, ["lhuc"])
    save_adapter(folder, dict(moved), card, "the network", ["lhuc"], AdapterOrigin(name="anna"), prior=prior)
    return prior


def test_running_normalisation_begins_with_the_adapters_prior_and_nobody_elses_does(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model", recipe=RUNNING)
    prior = saved_with_prior(tmp_path / "all" / "1", network, card)
    write_speakers(tmp_path / "all", {"anna": "1"})
    loaded = Adapter.load(tmp_path / "all" / "1")
    assert loaded.prior is not None and loaded.prior.frames == 600
    assert np.array_equal(loaded.prior.mean, prior.mean) and np.array_equal(loaded.prior.variance, prior.variance)
    assert loaded.card.numbers == sum(value.numel() for value in loaded.tensors.values()) + 2 * DIM
    with FrameStoreWriter(tmp_path / "frames", DIM, "float32", RUNNING) as writer:
        for speaker in ("anna", "bert"):
            writer.add(speaker, speaker, np.random.default_rng(0).normal(size=(30, DIM)).astype(np.float32))
    store = FrameStore.open(tmp_path / "frames")
    before = store["anna"].copy()
    scores = NetworkScores.open(tmp_path / "model", adapters=tmp_path / "all").of(store)
    plain = log_likelihoods(network, card, store["anna"])
    begun = log_likelihoods(network, card, prior.renormalise(store["anna"], RUNNING))
    np.testing.assert_allclose(scores("anna"), begun, atol=1e-5)  # the scales are one: the prior alone makes it differ
    assert not np.allclose(scores("anna"), plain, atol=1e-2)
    assert np.array_equal(scores("bert"), plain) and np.array_equal(store["anna"], before)


def test_a_prior_is_refused_where_features_cannot_begin_with_it_and_where_it_is_missing(tmp_path: Path) -> None:
    network, card = saved_network(tmp_path / "model", recipe=RUNNING)
    saved_with_prior(tmp_path / "adapter", network, card)
    with pytest.raises(InputError, match="running_prior=null"):
        AdaptedNetworks.open(tmp_path / "adapter", network, card, tmp_path).only_network()
    _, moved = movable_network(network, ["lhuc"])
    write_tensors(tmp_path / "adapter" / NUMBERS, {name: value.detach() for name, value in moved.items()})
    value = json.loads((tmp_path / "adapter" / CARD).read_text())
    value["tensors_sha256"] = hash_file(tmp_path / "adapter" / NUMBERS)
    write_card(tmp_path / "adapter" / CARD, AdapterCard.model_validate({**value, "digest": ""}).sealed())
    with pytest.raises(InputError, match=r"has no running_prior\.mean"):
        Adapter.load(tmp_path / "adapter")


@pytest.mark.parametrize(("teaching", "refused"), [("transcripts", True), ("teacher", False)])
def test_utterances_whose_transcripts_were_learnt_are_not_scored(
        tmp_path: Path, teaching: Teaching, refused: bool) -> None:
    network, card = saved_network(tmp_path / "model")
    _, moved = movable_network(network, ["gates"])
    save_adapter(tmp_path / "adapter", dict(moved), card, "the network", ["gates"],
                 AdapterOrigin(name="anna", teaching=teaching, utterances=["u1", "u2"]))
    adapted = AdaptedNetworks.open(tmp_path / "adapter", network, card, tmp_path)
    adapted.refuse_learnt(["u3", "u4"])
    if refused:
        with pytest.raises(InputError, match="transcript of u2, which is to be scored"):
            adapted.refuse_learnt(["u2", "u3"])
    else:
        adapted.refuse_learnt(["u2", "u3"])
