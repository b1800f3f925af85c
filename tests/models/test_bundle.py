"""Bundles: what goes in comes out, what does not belong together is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files
from asr_kd.models.bundle import ModelCard, alignment_priors, bundle_bytes, load_bundle, save_bundle
from asr_kd.models.dnn import DNN
from asr_kd.models.highway import HighwayDNN
from asr_kd.models.log_likelihoods import log_likelihoods

RECIPE = {"kind": "fbank", "num_mel_bins": 4}


def saved(folder: Path, **changes: Any) -> tuple[HighwayDNN, ModelCard]:
    torch.manual_seed(0)
    model = HighwayDNN(12, 8, 3, 5)
    arguments: dict[str, Any] = {
        "feature_recipe": RECIPE, "splice_left": 1, "splice_right": 1, "hmm_digest": "a" * 64,
        "lexicon_digest": "b" * 64, "priors": np.array([0.1, 0.2, 0.3, 0.2, 0.2]), "provenance": {"seed": 1}}
    return model, save_bundle(folder, model, **{**arguments, **changes})


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    model, card = saved(tmp_path / "model")
    assert [path.name for path in list_files(tmp_path / "model")] == ["model.json", "model.safetensors"]
    loaded, loaded_card = load_bundle(tmp_path / "model", hmm_digest="a" * 64, lexicon_digest="b" * 64,
                                      feature_recipe=RECIPE)
    assert loaded_card == card and not loaded.training
    inputs = torch.randn(6, 12)
    assert torch.equal(loaded(inputs), model.eval()(inputs))
    assert json.loads((tmp_path / "model/model.json").read_text())["architecture"]["hidden_dim"] == 8


def test_bytes_of_a_bundle_are_those_of_the_model_without_the_log_of_its_training(tmp_path: Path) -> None:
    model, _ = saved(tmp_path / "short", provenance={"seed": 1})
    saved(tmp_path / "long", provenance={"seed": 1, "result": {"curve": [{"loss": 0.1}] * 1000}})
    size = bundle_bytes(tmp_path / "short")
    assert bundle_bytes(tmp_path / "long") == size
    weights = (tmp_path / "short/model.safetensors").stat().st_size
    assert 4 * sum(p.numel() for p in model.parameters()) < weights < size < weights + 2000


def test_batch_normalisation_statistics_are_kept(tmp_path: Path) -> None:
    model = DNN(12, 8, 2, 5, batch_norm=True, dropout=0.2).train()
    model(torch.randn(64, 12) * 3 + 1)
    save_bundle(tmp_path / "m", model, feature_recipe={}, splice_left=1, splice_right=1, hmm_digest="a",
                lexicon_digest="b", priors=np.full(5, 0.2))
    inputs = torch.randn(6, 12)
    assert torch.equal(load_bundle(tmp_path / "m")[0](inputs), model.eval()(inputs))


@pytest.mark.parametrize(("use", "message"), [
    ({"hmm_digest": "c" * 64}, "tree .*aaaaaaaaaaaa.*cccccccccccc"),
    ({"lexicon_digest": "d" * 64}, "lexicon bbbbbbbbbbbb.*dddddddddddd"),
    ({"feature_recipe": {"kind": "fbank", "num_mel_bins": 80}}, "num_mel_bins: 4 against 80"),
])
def test_a_mismatched_use_is_refused_with_both_names(tmp_path: Path, use: dict[str, Any], message: str) -> None:
    saved(tmp_path / "m")
    with pytest.raises(InputError, match=message):
        load_bundle(tmp_path / "m", **use)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(InputError, match="no such file"):
        load_bundle(folder)
    saved(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_bundle(folder)
    weights.write_bytes(whole)
    card = json.loads((folder / "model.json").read_text())
    card["architecture"]["hidden_dim"] = 16
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"model\.json: architecture .* 1349 parameters, expected 421"):
        load_bundle(folder)
    (folder / "model.json").write_text(json.dumps({**card, "surprise": 1}))
    with pytest.raises(InputError, match="model.json: surprise"):
        load_bundle(folder)


@pytest.mark.parametrize(("changes", "message"), [
    ({"splice_left": 3}, "not a multiple of the 5"),
    ({"priors": np.full(4, 0.25)}, "5 pdfs, the priors 4"),
    ({"priors": np.array([0.0, 0.25, 0.25, 0.25, 0.25])}, "above 0"),
])
def test_parts_that_do_not_fit_are_not_written(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        saved(tmp_path / "m", **changes)
    assert not (tmp_path / "m").exists()


def test_priors_are_alignment_counts_plus_one() -> None:
    priors = alignment_priors(np.array([0, 0, 2, -1, -1, 0]), 4)
    np.testing.assert_allclose(priors, np.array([4, 1, 2, 1]) / 8)
    with pytest.raises(InputError, match="pdf-id 4.*4 pdfs"):
        alignment_priors(np.array([4]), 4)


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_log_likelihoods_are_log_softmax_minus_log_prior_of_spliced_frames(tmp_path: Path, frames: int) -> None:
    model, card = saved(tmp_path / "m")
    features = np.random.default_rng(0).standard_normal((frames, 4)).astype(np.float32)
    padded = np.concatenate([features[:1], features, features[-1:]])
    expected = []
    for t in range(frames):
        spliced = torch.from_numpy(padded[t:t + 3].reshape(1, -1))
        expected.append(torch.log_softmax(model(spliced), -1)[0].detach().numpy() - np.log(card.priors))
    scores = log_likelihoods(model.eval(), card, features, chunk=4)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.stack(expected), atol=1e-5)
    bfloat16 = log_likelihoods(model, card, features, precision="bfloat16")
    np.testing.assert_allclose(bfloat16, scores, atol=0.1)


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    model, card = saved(tmp_path / "m")
    with pytest.raises(InputError, match=r"\(3, 5\).*\(frames, 4\)"):
        log_likelihoods(model, card, np.zeros((3, 5), np.float32))
