"""The reserve beside a network: it comes back as it was written, and what does not belong to it is refused."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from asr_kd.adaptation.recognition import Recognised, Recogniser, Recognition
from asr_kd.adaptation.reserve import CANARY, CARD, REPLAY, Reserve, choose_utterances, write_reserve
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.models.bundle import ModelCard
from asr_kd.scoring.wer import ErrorCounts
from tests.adaptation.speech import DIM, saved_network

RECIPE = {"kind": "fbank"}


def graph(digest: str = "graph") -> DecodingGraph:
    """A graph of nothing: a reserve knows its digest alone."""
    nothing = np.zeros(0, np.int32)
    return DecodingGraph("graph", 0, nothing, nothing, nothing, nothing, nothing, nothing, [], 6, "hmm", digest, "lm")


def recogniser(digest: str = "graph") -> Recogniser:
    return Recogniser(graph(digest), SearchConfig(beam=9.0), 7.5, 0.5)


def store_of(folder: Path, frames: dict[str, int], speakers: int = 2) -> FrameStore:
    """Utterances of so many frames, of speakers s0, s1, ... by turns."""
    generator = np.random.default_rng(0)
    with FrameStoreWriter(folder, DIM, "float16", RECIPE) as writer:
        for number, (name, count) in enumerate(frames.items()):
            features = generator.normal(size=(count, DIM)).astype(np.float16)
            writer.add(name, f"s{number % speakers}", features.astype(np.float32))
    return FrameStore.open(folder)


@dataclass(frozen=True)
class Written:
    """A reserve in a folder, with the network that it belongs to and the store that it was made from."""

    folder: Path
    network: ModelCard
    store: FrameStore
    recognition: Recognition


@pytest.fixture
def written(tmp_path: Path) -> Written:
    _, network = saved_network(tmp_path / "model")
    store = store_of(tmp_path / "store", {"a": 5, "b": 7, "c": 4, "d": 6})
    recognition = Recognition({
        "a": Recognised(["one", "two"], ErrorCounts(3, 1, 1, 0), 0.75, -6.5, 5),
        "b": Recognised([], ErrorCounts(1, 0, 1, 0), 0.0, 0.0, 7)})
    folder = tmp_path / "reserve"
    write_reserve(folder, store, ["a", "b"], ["c", "d"], {"a": ["one", "too", "three"], "b": ["yes"], "c": ["no"]},
                  recognition, {"a": 0.5, "b": 1.5}, network, recogniser())
    return Written(folder, network, store, recognition)


def test_a_reserve_comes_back_as_it_was_written(written: Written) -> None:
    reserve = Reserve.open(written.folder, written.network, Path("model"))
    assert [one.id for one in reserve.canary] == ["a", "b"]
    assert [list(one.transcript or []) for one in reserve.canary] == [["one", "too", "three"], ["yes"]]
    for utterance in reserve.canary:
        np.testing.assert_array_equal(utterance.features, written.store[utterance.id])
    for features, name in zip(reserve.replay, ["c", "d"], strict=True):
        np.testing.assert_array_equal(features, written.store[name])
    assert {name: score.misfit for name, score in reserve.card.scores.items()} == {"a": 0.5, "b": 1.5}


def test_the_recognition_is_given_back_for_the_graph_that_it_was_made_with(written: Written) -> None:
    reserve = Reserve.open(written.folder, written.network, Path("model"))
    assert reserve.recognition(graph()) == written.recognition
    assert reserve.recognition(graph("another")) is None


def test_the_canary_is_recognised_with_the_given_graph_and_the_reserves_search_and_weights(written: Written) -> None:
    reserve = Reserve.open(written.folder, written.network, Path("model"))
    given = Recogniser(graph("another"), SearchConfig(beam=5.0), 3.0, 0.0)
    used = reserve.recogniser(given)
    assert used.graph is given.graph
    assert (used.search, used.lm_weight, used.insertion_penalty) == (SearchConfig(beam=9.0), 7.5, 0.5)


def test_a_reserve_of_another_network_is_refused_with_both_names(written: Written, tmp_path: Path) -> None:
    _, other = saved_network(tmp_path / "other", seed=1)
    with pytest.raises(InputError) as error:
        Reserve.open(written.folder, other, tmp_path / "other")
    for named in (written.folder, written.network.digest[:12], tmp_path / "other", other.digest[:12]):
        assert str(named) in str(error.value)


def test_a_reserve_of_other_features_is_refused(written: Written) -> None:
    other = written.network.model_copy(update={"feature_recipe": {"kind": "mfcc"}})
    with pytest.raises(InputError, match="other features than model hears"):
        Reserve.open(written.folder, other, Path("model"))


@pytest.mark.parametrize("change", [
    {"lm_weight": 1.0}, {"transcripts": {"a": "one", "b": "yes"}}, {"graph": "another"}, {"digest": "0"}], ids=str)
def test_an_edited_card_is_refused(written: Written, change: dict[str, object]) -> None:
    path = written.folder / CARD
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match="edited by hand"):
        Reserve.open(written.folder, written.network, Path("model"))


def test_a_card_without_its_parts_is_refused_with_the_part_that_is_missing(written: Written) -> None:
    (written.folder / CARD).write_text("{}")
    with pytest.raises(InputError, match=r"reserve\.json: network: "):
        Reserve.open(written.folder, written.network, Path("model"))


@pytest.mark.parametrize("part", [CANARY, REPLAY])
def test_damaged_frames_are_refused(written: Written, part: str) -> None:
    path = written.folder / part / "frames.bin"
    whole = path.read_bytes()
    for damaged in (whole[:-2], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="frames.bin"):
            Reserve.open(written.folder, written.network, Path("model"))
    path.unlink()
    with pytest.raises(InputError, match="frames.bin"):
        Reserve.open(written.folder, written.network, Path("model"))


def test_a_canary_of_other_utterances_than_the_card_tells_of_is_refused(written: Written) -> None:
    path = written.folder / CARD
    card = json.loads(path.read_text())
    del card["scores"]["b"], card["digest"]
    path.write_text(json.dumps({**card, "digest": hash_json(card)}))
    with pytest.raises(InputError, match="not the utterances of"):
        Reserve.open(written.folder, written.network, Path("model"))


def test_the_digest_is_of_the_card_and_of_both_stores(written: Written, tmp_path: Path) -> None:
    def digest(canary: list[str], replay: list[str], misfit: float) -> str:
        of_canary = {name: replace(written.recognition.utterances["a"]) for name in canary}
        write_reserve(tmp_path / "other", written.store, canary, replay, {name: ["yes"] for name in canary},
                      Recognition(of_canary), dict.fromkeys(canary, misfit), written.network, recogniser())
        return Reserve.open(tmp_path / "other", written.network, Path("model")).digest

    digests = [digest(["a"], ["c"], 0.5), digest(["a"], ["d"], 0.5), digest(["b"], ["c"], 0.5),
               digest(["a"], ["c"], 0.6)]
    assert len(set(digests)) == 4 and digest(["a"], ["c"], 0.5) == digests[0]


@pytest.mark.parametrize(("canary", "replay", "what"), [([], ["c"], "canary"), (["a"], [], "replay")])
def test_a_reserve_without_a_canary_or_replay_is_refused(
        written: Written, tmp_path: Path, canary: list[str], replay: list[str], what: str) -> None:
    with pytest.raises(InputError, match=f"no utterances for the {what}"):
        write_reserve(tmp_path / "empty", written.store, canary, replay, {"a": ["yes"]}, written.recognition,
                      {"a": 0.5, "b": 0.5}, written.network, recogniser())
    assert not (tmp_path / "empty" / CARD).exists()


def test_chosen_utterances_are_about_equally_many_of_each_speaker_and_fit(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", {f"u{number:02d}": 10 for number in range(30)}, speakers=3)
    chosen = choose_utterances(store, store.ids, max_frames=125)
    assert len(chosen) == 12 and chosen == sorted(set(chosen)) and set(chosen) <= set(store.ids)
    assert [sum(store.speakers[name] == f"s{speaker}" for name in chosen) for speaker in range(3)] == [4, 4, 4]
    assert chosen == choose_utterances(store, reversed(store.ids), max_frames=125)
    assert set(choose_utterances(store, store.ids, max_frames=65)) < set(chosen)
    assert choose_utterances(store, store.ids, max_frames=10_000) == sorted(store.ids)


def test_chosen_utterances_fit_the_bytes_of_a_shipped_store(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", {f"u{number:02d}": 10 for number in range(30)})
    chosen = choose_utterances(store, store.ids, 10_000, max_bytes=100_000 + 55 * 2 * DIM)
    assert len(chosen) == 5
    assert choose_utterances(store, store.ids, 10_000, max_bytes=100_000) == []
    assert choose_utterances(store, [], 10_000) == []


def test_an_utterance_that_is_too_long_gives_way_to_shorter_ones(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", {"long": 100, "short": 5, "middle": 20}, speakers=1)
    assert choose_utterances(store, store.ids, max_frames=25) == ["middle", "short"]
