import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.features.adapted import AdaptedFeaturesConfig, write_adapted_features
from asr_kd.features.affine import apply_affine
from asr_kd.features.deltas import add_deltas
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.front_end import FrontEnd
from asr_kd.features.speaker_transforms import SpeakerFacts, SpeakerTransforms, Supervision


def spliced(matrix: np.ndarray, left: int, right: int) -> np.ndarray:
    rows = np.clip(np.arange(len(matrix))[:, None] + np.arange(-left, right + 1), 0, len(matrix) - 1)
    return matrix[rows].reshape(len(matrix), -1)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), st.booleans(), st.integers(0, 99))
def test_a_transform_of_windows_is_that_of_spliced_frames(
        frames: int, dim: int, left: int, right: int, offset: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((frames, dim)).astype(np.float32)
    transform = generator.standard_normal((3, (left + 1 + right) * dim + offset))
    width = transform.shape[1] - offset
    expected = spliced(matrix, left, right) @ transform[:, :width].T + (transform[:, width] if offset else 0)
    np.testing.assert_allclose(apply_affine(matrix, transform, left, right), expected, atol=1e-4)
    front_end = FrontEnd(0, left, right, transform)
    np.testing.assert_allclose(front_end(matrix), expected, atol=1e-4)
    assert front_end(matrix[:0]).shape == (0, 3)


def test_identity_and_deltas() -> None:
    matrix = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    np.testing.assert_array_equal(FrontEnd.identity()(matrix), matrix)
    np.testing.assert_array_equal(FrontEnd.deltas()(matrix), add_deltas(matrix))


def test_a_transform_behind_the_front_end_is_applied_to_its_output() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((7, 3)).astype(np.float32)
    front_end = FrontEnd(0, 1, 1, generator.standard_normal((4, 9)))
    second = generator.standard_normal((4, 4))
    np.testing.assert_allclose(front_end.followed_by(second)(matrix), front_end(matrix) @ second.T, atol=1e-4)
    with pytest.raises(ValueError, match="none to compose"):
        FrontEnd.deltas().followed_by(second)


def test_a_front_end_described_as_json_is_the_same_again() -> None:
    front_end = FrontEnd(1, 2, 1, np.random.default_rng(0).standard_normal((2, 8)))
    again = FrontEnd.from_json(json.loads(json.dumps(front_end.as_json())), front_end.transform)
    assert again.digest == front_end.digest
    assert front_end.transform is not None
    assert FrontEnd(1, 2, 1, front_end.transform + 1).digest != front_end.digest
    assert len({FrontEnd.identity().digest, FrontEnd.deltas().digest, FrontEnd.deltas(1).digest}) == 3
    with pytest.raises(ValueError, match="shape"):
        FrontEnd.from_json(front_end.as_json(), None)


@pytest.mark.parametrize("settings", [{"left": 1}, {"delta_order": -1}, {"transform": np.full((2, 2), np.nan)},
                                      {"transform": np.zeros(3)}])
def test_front_ends_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        FrontEnd(**settings)  # type: ignore[arg-type]


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="windows of 6 values"):
        FrontEnd(0, 1, 0, np.zeros((2, 4)))(np.zeros((5, 3), np.float32))
    with pytest.raises(ValueError, match="shape"):
        FrontEnd.identity()(np.zeros(5, np.float32))


def transforms(supervision: Supervision = "first-pass") -> SpeakerTransforms:
    generator = np.random.default_rng(0)
    speakers = ("b/é", "a", "c d")
    return SpeakerTransforms({s: generator.standard_normal((3, 4)).astype(np.float32) for s in speakers},
                             {s: SpeakerFacts(100.0 * i, i == 0, 0.5 * i) for i, s in enumerate(speakers)},
                             supervision, "0123456789abcdef")


def test_saved_transforms_are_the_same_again(tmp_path: Path) -> None:
    first = transforms()
    first.save(tmp_path / "t")
    again = SpeakerTransforms.load(tmp_path / "t", first.gmm_digest)
    assert (again.supervision, again.gmm_digest, again.facts) == (first.supervision, first.gmm_digest, first.facts)
    assert again.matrices.keys() == first.matrices.keys() and again.fallbacks == ["b/é"]
    x = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    for speaker, matrix in first.matrices.items():
        np.testing.assert_array_equal(again.matrices[speaker], matrix)
        np.testing.assert_allclose(again.apply(x, speaker), x @ matrix[:, :3].T + matrix[:, 3], atol=1e-5)
    assert first.summary == {"speakers": 3, "fallbacks": 1, "frames": 300.0,
                             "gain_per_frame": pytest.approx((0.5 * 100 + 1.0 * 200) / 300)}


def test_transforms_of_other_gaussians_are_refused_with_both_names(tmp_path: Path) -> None:
    transforms().save(tmp_path / "t")
    with pytest.raises(InputError, match="01234567.*fedcba98"):
        SpeakerTransforms.load(tmp_path / "t", "fedcba9876543210")


def test_an_unknown_speaker_and_another_dimension_are_refused() -> None:
    with pytest.raises(InputError, match="speaker nobody"):
        transforms().apply(np.zeros((2, 3), np.float32), "nobody")
    with pytest.raises(InputError, match=r"\(frames, 3\)"):
        transforms().apply(np.zeros((2, 4), np.float32), "a")
    with pytest.raises(ValueError, match="same speakers"):
        SpeakerTransforms({"a": np.eye(2, 3)}, {}, "transcript", "")
    with pytest.raises(ValueError, match="speaker a"):
        SpeakerTransforms({"a": np.eye(2, 2)}, {"a": SpeakerFacts(1, False, 0)}, "transcript", "")


@pytest.mark.parametrize("name", ["transforms.json", "transforms.safetensors"])
def test_damaged_transforms_are_refused_by_name(tmp_path: Path, name: str) -> None:
    transforms().save(tmp_path / "t")
    path = tmp_path / "t" / name
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(InputError, match="t"):
        SpeakerTransforms.load(tmp_path / "t")
    path.unlink()
    with pytest.raises(InputError, match=name):
        SpeakerTransforms.load(tmp_path / "t")


def test_edited_numbers_are_refused(tmp_path: Path) -> None:
    transforms().save(tmp_path / "t")
    path = tmp_path / "t/transforms.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="digest differ"):
        SpeakerTransforms.load(tmp_path / "t")


def test_adapted_values_are_normalised_over_all_of_a_speaker_wherever_the_utterances_stand(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    matrices = {f"u{i}": generator.normal(i, 1, (20, 3)).astype(np.float32) for i in range(4)}
    with FrameStoreWriter(tmp_path / "store", 3, "float32", {"kind": "mfcc", "frame_shift": 10.0}) as writer:
        for i, (utterance, matrix) in enumerate(matrices.items()):
            writer.add(utterance, "ab"[i % 2], matrix)
    config = AdaptedFeaturesConfig(store_dtype="float32")
    store = write_adapted_features(FrameStore.open(tmp_path / "store"), matrices.__getitem__, "g", "first-pass",
                                   tmp_path / "adapted", config)
    assert store.ids == ["u0", "u2", "u1", "u3"]
    for pair in (("u0", "u2"), ("u1", "u3")):
        of_speaker = np.concatenate([store[u] for u in pair])
        np.testing.assert_allclose(of_speaker.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(of_speaker.std(0), 1, atol=1e-5)
