from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.features.affine import apply_affine
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.features.front_end import FrontEnd
from asr_kd.features.speaker_transforms import SpeakerFacts, SpeakerTransforms
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.gmm_scores import gmm_inputs, gmm_scorer
from asr_kd.hmm.model import HmmModel

BASE = 4


@pytest.fixture
def adapted(true_model: HmmModel) -> HmmModel:
    gmm = true_model.gmm
    assert gmm is not None
    front_end = FrontEnd(0, 1, 1, np.random.default_rng(0).standard_normal((gmm.dim, 3 * BASE)))
    return replace(true_model, front_end=front_end, speaker_independent_gmm=DiagonalGmms(
        gmm.offsets, gmm.weights, gmm.means + 1, gmm.variances))


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    generator = np.random.default_rng(1)
    with FrameStoreWriter(tmp_path / "store", BASE, "float32", {"kind": "test"}) as writer:
        for utterance, speaker in (("u1", "a"), ("u2", "b")):
            writer.add(utterance, speaker, generator.standard_normal((7, BASE)).astype(np.float32))
    return FrameStore.open(tmp_path / "store")


def transforms_of(model: HmmModel, speakers: tuple[str, ...] = ("a", "b")) -> SpeakerTransforms:
    generator = np.random.default_rng(2)
    assert model.gmm is not None
    dim = model.gmm.dim
    return SpeakerTransforms({s: generator.standard_normal((dim, dim + 1)).astype(np.float32) for s in speakers},
                             {s: SpeakerFacts(1.0, False, 0.0) for s in speakers}, "first-pass", model.gmm_digest)


def test_inputs_are_the_front_end_then_the_speakers_transform(adapted: HmmModel, store: FrameStore) -> None:
    transforms = transforms_of(adapted)
    plain = adapted.front_end(store["u2"])
    np.testing.assert_array_equal(gmm_inputs(adapted, store)("u2"), plain)
    np.testing.assert_array_equal(gmm_inputs(adapted, store, transforms)("u2"),
                                  apply_affine(plain, transforms.matrices["b"]))
    mapping = {u: store[u] for u in store.ids}
    np.testing.assert_array_equal(gmm_inputs(adapted, mapping, transforms, store.speakers)("u2"),
                                  gmm_inputs(adapted, store, transforms)("u2"))


def test_adapted_gaussians_score_adapted_features_and_the_others_plain_ones(
        adapted: HmmModel, store: FrameStore) -> None:
    transforms = transforms_of(adapted)
    assert adapted.gmm is not None and adapted.speaker_independent_gmm is not None
    with_transforms, without = gmm_scorer(adapted, store, transforms), gmm_scorer(adapted, store)
    np.testing.assert_array_equal(with_transforms("u1"), adapted.gmm.log_likelihoods(
        gmm_inputs(adapted, store, transforms)("u1")))
    np.testing.assert_array_equal(without("u1"), adapted.speaker_independent_gmm.log_likelihoods(
        adapted.front_end(store["u1"])))
    np.testing.assert_array_equal(without("u1", np.array([3, 0])), without("u1")[:, [3, 0]])
    plain = replace(adapted, speaker_independent_gmm=None)
    np.testing.assert_array_equal(gmm_scorer(plain, store)("u1"), adapted.gmm.log_likelihoods(
        adapted.front_end(store["u1"])))


def test_what_does_not_belong_together_is_refused(adapted: HmmModel, store: FrameStore, true_model: HmmModel) -> None:
    mapping = {u: store[u] for u in store.ids}
    with pytest.raises(InputError, match="without speakers"):
        gmm_inputs(adapted, mapping, transforms_of(adapted))
    with pytest.raises(InputError, match=f"{true_model.gmm_digest[:8]}.*{adapted.gmm_digest[:8]}"):
        gmm_scorer(adapted, store, transforms_of(true_model))
    with pytest.raises(InputError, match="speaker b"):
        gmm_inputs(adapted, store, transforms_of(adapted, ("a",)))("u2")
    with pytest.raises(InputError, match="u1: features of shape"):
        gmm_inputs(true_model, store)("u1")
    with pytest.raises(InputError, match="u1: a transform of shape"):
        gmm_inputs(adapted, {"u1": np.zeros((5, 3), np.float32)})("u1")
    with pytest.raises(InputError, match="no Gaussians"):
        gmm_inputs(replace(adapted, gmm=None), store)
    with pytest.raises(KeyError):
        gmm_inputs(adapted, store)("u3")
