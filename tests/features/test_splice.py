from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.splice import SplicedFrames, SplicedFramesOnDevice, splice


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), left=st.integers(0, 8), right=st.integers(0, 8),
    half=st.booleans(), seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_gathered_frames_are_the_spliced_ones(
    lengths: list[int], left: int, right: int, half: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    frames = random.standard_normal((sum(lengths), 3)).astype(np.float16 if half else np.float32)
    ends = np.cumsum(lengths)
    begins = ends - lengths
    expected = np.concatenate([
        splice(frames[begin:end].astype(np.float32), left, right) for begin, end in zip(begins, ends, strict=True)
    ])
    order = random.permutation(len(frames))
    spliced = SplicedFrames(frames, begins, ends, left, right)
    assert spliced.dim == expected.shape[1]
    np.testing.assert_array_equal(spliced.gather(order).numpy(), expected[order])
    np.testing.assert_array_equal(spliced.gather(torch.from_numpy(order)).numpy(), expected[order])


def test_splicing_repeats_the_edge_frames() -> None:
    matrix = np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_array_equal(splice(matrix, 2, 1), [[1, 1, 1, 2], [1, 1, 2, 3], [1, 2, 3, 3]])
    assert splice(np.zeros((0, 4)), 7, 7).shape == (0, 60)


def make_store(folder: Path, dtype: str) -> FrameStore:
    random = np.random.default_rng(0)
    with FrameStoreWriter(folder, 5, dtype, {}) as writer:
        for i in range(4):
            writer.add(f"u{i}", "s", random.standard_normal((6 + i, 5)).astype(np.float32))
    return FrameStore.open(folder)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_a_store_of_any_type_is_gathered_to_its_values(tmp_path: Path, dtype: str) -> None:
    store = make_store(tmp_path / "store", dtype)
    expected = torch.from_numpy(np.concatenate([splice(store[i], 2, 3) for i in store.ids]))
    for wanted in (torch.float32, torch.bfloat16):
        gathered = SplicedFrames.of(store, 2, 3, dtype=wanted).gather(np.arange(store.num_frames))
        assert gathered.dtype == wanted
        # bfloat16 of 8 bit: scaled after rounding, and again.
        torch.testing.assert_close(gathered.float(), expected, rtol=1e-2, atol=0.1 if dtype == "uint8" else 1e-2)
    exact = SplicedFrames.of(store, 2, 3).gather(np.arange(store.num_frames))
    torch.testing.assert_close(exact, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
@pytest.mark.parametrize("ids", [None, ["u2", "u0"]])
def test_frames_held_on_a_device_are_the_same(tmp_path: Path, dtype: str, ids: list[str] | None) -> None:
    store = make_store(tmp_path / "store", dtype)
    spliced = SplicedFrames.of(store, 3, 2, ids=ids)
    rows = np.concatenate([np.arange(*store.bounds(name)) for name in ids or store.ids])
    held = SplicedFramesOnDevice(spliced, torch.device("cpu"))
    assert torch.equal(held.gather(torch.from_numpy(rows)), spliced.gather(rows))


def test_only_chosen_utterances_can_be_gathered(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", "float32")
    chosen = SplicedFrames.of(store, 1, 1, ids=["u2", "u0"])
    inside = np.concatenate([np.arange(*store.bounds(i)) for i in ("u0", "u2")])
    expected = np.concatenate([splice(store[i], 1, 1) for i in ("u0", "u2")])
    np.testing.assert_array_equal(chosen.gather(inside).numpy(), expected)
    for outside in (store.bounds("u1")[0], store.bounds("u3")[0], store.num_frames, -1):
        with pytest.raises(IndexError, match=f"frame {outside} is in no utterance"):
            chosen.gather(np.array([0, outside]))
    with pytest.raises(InputError, match="nobody"):
        SplicedFrames.of(store, 1, 1, ids=["nobody"])


def test_bounds_that_overlap_or_exceed_the_frames_are_refused() -> None:
    frames = np.zeros((10, 2), np.float32)
    for begins, ends in [([0, 4], [5, 10]), ([0], [11]), ([3], [3]), ([5, 0], [10, 5])]:
        with pytest.raises(ValueError, match="utterance"):
            SplicedFrames(frames, np.array(begins), np.array(ends), 1, 1)
