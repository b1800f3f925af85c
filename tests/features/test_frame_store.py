import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError, WorkError
from asr_kd.data.manifest import Source
from asr_kd.features import frame_store
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.stages.model_inputs import Audio

RECIPE = {"kind": "fbank", "num_mel_bins": 4}


def matrices(count: int = 5, dim: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {f"utt{i}": random.standard_normal((3 + 2 * i, dim)).astype(np.float32) for i in range(count)}


def write_store(folder: Path, dtype: str = "float32", recipe: dict[str, object] = RECIPE) -> dict[str, np.ndarray]:
    made = matrices()
    with FrameStoreWriter(folder, 4, dtype, recipe) as writer:
        for i, (utterance_id, matrix) in enumerate(made.items()):
            writer.add(utterance_id, f"spk{i // 2}", matrix)
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 2e-3), ("uint8", 0.032)])
def test_what_was_written_is_read(tmp_path: Path, dtype: str, tolerance: float) -> None:
    made = write_store(tmp_path / "store", dtype)
    store = FrameStore.open(tmp_path / "store")
    assert store.ids == list(made) and len(store) == 5 and "utt3" in store and "utt9" not in store
    assert store.speakers == {"utt0": "spk0", "utt1": "spk0", "utt2": "spk1", "utt3": "spk1", "utt4": "spk2"}
    assert (store.dim, store.dtype, store.num_frames, store.recipe) == (4, dtype, 35, RECIPE)
    assert store.offsets.tolist() == [0, 3, 8, 15, 24, 35]
    for utterance_id, matrix in made.items():
        assert store[utterance_id].dtype == np.float32
        assert np.abs(store[utterance_id] - matrix).max() <= tolerance
        begin, end = store.bounds(utterance_id)
        values = store.frames[begin:end].astype(np.float32) * np.float32(store.scale) + np.float32(store.offset)
        np.testing.assert_array_equal(values, store[utterance_id])


def test_copies_at_another_speed_are_known_by_a_field_and_not_by_their_names(tmp_path: Path) -> None:
    with FrameStoreWriter(tmp_path / "store", 4, "float32", RECIPE) as writer:
        for speaker in ("anna", "anna_sp1", "anna_sp0.9"):
            writer.add(f"{speaker}-u", speaker, np.ones((9, 4), np.float32))
        source = Source("anna_sp1-u", "anna_sp1")
        writer.add("anna_sp1-u_sp1.1", "anna_sp1_sp1.1", np.ones((8, 4), np.float32), source, 1.1)
    store = FrameStore.open(tmp_path / "store")
    assert store.sources == {"anna_sp1-u_sp1.1": Source("anna_sp1-u", "anna_sp1")}
    assert store.speeds == {"anna_sp1-u_sp1.1": 1.1}
    assert [store.source_speaker(name) for name in store.ids] == ["anna", "anna_sp1", "anna_sp0.9", "anna_sp1"]


def test_copies_in_older_stores_are_known_where_nothing_else_can_be_meant(tmp_path: Path) -> None:
    rows = [("u", "anna", 90), ("u_sp0.9", "anna_sp0.9", 100), ("u_sp1.1", "anna_sp1.1", 90), ("v", "bert_sp0.9", 9),
            ("v_sp0.9", "bert", 10), ("w_sp0.9", "carl_sp0.9", 10)]
    with FrameStoreWriter(tmp_path / "store", 4, "float32", RECIPE) as writer:
        for name, speaker, frames in rows:
            writer.add(name, speaker, np.ones((frames, 4), np.float32))
    index = json.loads((tmp_path / "store/index.json").read_bytes())
    del index["copies"]
    older = json.dumps(index).encode()
    (tmp_path / "store/index.json").write_bytes(older)
    header = bytearray((tmp_path / "store/frames.bin").read_bytes())
    size = struct.calcsize("<8sI8sIQffI32s")
    header[size - 32 : size] = hashlib.sha256(older).digest()
    header[size : size + 4] = struct.pack("<I", zlib.crc32(header[:size]))
    (tmp_path / "store/frames.bin").write_bytes(header)
    store = FrameStore.open(tmp_path / "store")
    assert store.sources == {"u_sp0.9": Source("u", "anna")} and store.speeds == {"u_sp0.9": 0.9}


def test_the_same_features_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_store(tmp_path / name)
    for file in ("frames.bin", "index.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_digest_names_the_recipe_and_not_the_audio_or_the_precision(tmp_path: Path) -> None:
    write_store(tmp_path / "a", "float32")
    write_store(tmp_path / "b", "float16")
    write_store(tmp_path / "c", "float32", {**RECIPE, "low_freq": 30})
    with FrameStoreWriter(tmp_path / "d", 4, "float32", RECIPE) as writer:
        writer.add("other", "spk", np.ones((2, 4), np.float32))
    digests = [FrameStore.open(tmp_path / name).digest for name in "abcd"]
    assert digests[0] == digests[1] == digests[3] != digests[2]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "nothing there": (lambda store, other: shutil.rmtree(store), "no feature store"),
    "frames missing": (lambda store, other: (store / "frames.bin").unlink(), "frames.bin is missing"),
    "index missing": (lambda store, other: (store / "index.json").unlink(), "index.json: damaged.*missing"),
    "empty file": (lambda store, other: (store / "frames.bin").write_bytes(b""), "wrong magic"),
    "another file": (lambda store, other: (store / "frames.bin").write_bytes(b"RIFF" * 100), "wrong magic"),
    "half a header": (lambda store, other: os.truncate(store / "frames.bin", 60), "60 bytes, its header"),
    "frames cut off": (lambda store, other: os.truncate(store / "frames.bin", 500), "500 bytes, expected 688"),
    "frames too long": (lambda store, other: os.truncate(store / "frames.bin", 700), "700 bytes, expected 688"),
    "header: version": (lambda store, other: flip(store / "frames.bin", 8), "version 17, expected 1"),
    "header: dimension": (lambda store, other: flip(store / "frames.bin", 20), "checksum of its header"),
    "header: count": (lambda store, other: flip(store / "frames.bin", 25), "checksum of its header"),
    "index: one bit": (lambda store, other: flip(store / "index.json", 80), "does not belong to frames.bin"),
    "index: cut": (lambda store, other: os.truncate(store / "index.json", 80), "does not belong to frames.bin"),
    "index of another store": (
        lambda store, other: shutil.copy(other / "index.json", store / "index.json"), "does not belong to frames.bin"
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_store_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    write_store(tmp_path / "store")
    write_store(tmp_path / "other", recipe={**RECIPE, "low_freq": 30})
    damage, message = DAMAGE[name]
    damage(tmp_path / "store", tmp_path / "other")
    with pytest.raises(InputError, match=message) as caught:
        FrameStore.open(tmp_path / "store")
    assert str(tmp_path / "store") in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_frame_is_found_by_verify_and_so_where_a_store_is_given(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    recipe = FrameStore.open(tmp_path / "store").recipe
    audio = Audio(tmp_path, "dev", tmp_path / "store")
    assert len(audio.store(recipe, "the GMMs", tmp_path))
    flip(tmp_path / "store" / "frames.bin", 300)
    with pytest.raises(InputError, match="checksum of its frames"):
        FrameStore.open(tmp_path / "store").verify()
    with pytest.raises(InputError, match="checksum of its frames"):
        audio.store(recipe, "the GMMs", tmp_path)


def test_unknown_ids_are_refused_by_name(tmp_path: Path) -> None:
    write_store(tmp_path / "store")
    with pytest.raises(InputError, match="no features of utterance nobody"):
        FrameStore.open(tmp_path / "store")["nobody"]


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        (np.ones((2, 5), np.float32), WorkError, r"features \(2, 5\), expected \(frames, 4\)"),
        (np.ones((0, 4), np.float32), WorkError, "expected"),
        (np.full((2, 4), np.nan, np.float32), WorkError, "not finite"),
        (np.full((2, 4), 1e6, np.float32), WorkError, "beyond the range of float16"),
    ],
)
def test_features_that_cannot_be_stored_are_refused_and_nothing_is_left(
    tmp_path: Path, matrix: np.ndarray, error: type[Exception], message: str
) -> None:
    with (
        pytest.raises(error, match=f"utterance bad: .*{message}|{message}"),
        FrameStoreWriter(tmp_path / "store", 4, "float16", RECIPE) as writer,
    ):
        writer.add("good", "spk", np.ones((2, 4), np.float32))
        writer.add("bad", "spk", matrix)
    assert list(tmp_path.iterdir()) == []


def test_an_id_given_twice_and_a_store_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="utterance a occurs twice"), FrameStoreWriter(
        tmp_path / "store", 4, "float16", RECIPE
    ) as writer:
        writer.add("a", "spk", np.ones((2, 4), np.float32))
        writer.add("a", "spk", np.ones((2, 4), np.float32))
    with pytest.raises(WorkError, match="no utterance"), FrameStoreWriter(tmp_path / "store", 4, "float16", RECIPE):
        pass
    with pytest.raises(InputError, match="store_dtype 'int3'"):
        FrameStoreWriter(tmp_path / "store", 4, "int3", RECIPE)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_leaves_the_store_that_was_there(tmp_path: Path) -> None:
    made = write_store(tmp_path / "store")
    with pytest.raises(RuntimeError), FrameStoreWriter(tmp_path / "store", 4, "float32", RECIPE) as writer:
        writer.add("new", "spk", np.ones((2, 4), np.float32))
        raise RuntimeError("stopped")
    assert FrameStore.open(tmp_path / "store").ids == list(made)


def write_sparse_store(folder: Path, frames_each: int, utterances: int, dim: int = 40) -> None:
    """A store of zeros that takes no room on disk."""
    folder.mkdir()
    rows = [(f"speaker{i // 20:05d}-utterance{i:07d}", f"speaker{i // 20:05d}", frames_each) for i in range(utterances)]
    index = frame_store._index_bytes(RECIPE, None, rows)
    (folder / "index.json").write_bytes(index)
    count = frames_each * utterances
    with open(folder / "frames.bin", "wb") as file:
        file.write(frame_store._header_bytes("float16", dim, count, 1.0, 0.0, 0, index))
        file.truncate(128 + count * dim * 2)


def test_ten_million_frames_are_opened_without_being_read(tmp_path: Path) -> None:
    write_sparse_store(tmp_path / "store", 400, 25_000)

    def bytes_read() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    before = bytes_read()
    store = FrameStore.open(tmp_path / "store")
    assert bytes_read() - before < 4 * (tmp_path / "store" / "index.json").stat().st_size
    assert store.num_frames == 10_000_000 and len(store) == 25_000
    assert store.bounds(store.ids[-1]) == (9_999_600, 10_000_000)
    assert not store[store.ids[12_345]].any()
