import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.core.arrays import read_tensors, write_tensors
from asr_kd.core.errors import InputError
from asr_kd.features.front_end import FrontEnd
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon
from tests.hmm.toy import random_triphone_model


@pytest.fixture
def folder(true_model: HmmModel, tmp_path: Path) -> Path:
    true_model.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_is_the_same_again(true_model: HmmModel, folder: Path) -> None:
    again = HmmModel.load(folder)
    assert again.digest == true_model.digest and again.lexicon.digest == true_model.lexicon.digest
    assert again.phones == true_model.phones and again.topology == true_model.topology
    assert again.lexicon.pronunciations == true_model.lexicon.pronunciations
    assert again.feature_recipe == true_model.feature_recipe
    np.testing.assert_array_equal(again.transitions.log_probs, true_model.transitions.log_probs)
    x = np.random.default_rng(0).normal(0, 3, (9, true_model.gmm.dim)).astype(np.float32)  # type: ignore[union-attr]
    np.testing.assert_array_equal(again.gmm.log_likelihoods(x),  # type: ignore[union-attr]
                                  true_model.gmm.log_likelihoods(x))  # type: ignore[union-attr]


def test_saving_twice_gives_the_same_bytes(true_model: HmmModel, folder: Path, tmp_path: Path) -> None:
    true_model.save(tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_digest_tells_trees_apart_and_ignores_probabilities(true_model: HmmModel) -> None:
    other = random_triphone_model(true_model, 1)
    assert len({true_model.digest, other.digest, random_triphone_model(true_model, 2).digest}) == 3
    counts = np.full(true_model.transitions.num_transition_ids + 1, 50)
    moved = HmmModel(true_model.lexicon, true_model.topology, true_model.tree,
                     true_model.transitions.reestimated(counts))
    assert moved.digest == true_model.digest


def test_an_edited_model_is_refused(folder: Path) -> None:
    path = folder / "model.json"
    value = json.loads(path.read_text())
    value["tree"]["pdfs"][0], value["tree"]["pdfs"][1] = value["tree"]["pdfs"][1], value["tree"]["pdfs"][0]
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="digest differ"):
        HmmModel.load(folder)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_or_cut_file_is_refused_by_name(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        HmmModel.load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        HmmModel.load(folder)


def test_numbers_of_another_model_are_refused(true_model: HmmModel, folder: Path, tmp_path: Path) -> None:
    random_triphone_model(true_model, 1).save(tmp_path / "other")
    (folder / "model.safetensors").write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    with pytest.raises(InputError, match="model.safetensors: not the numbers"):
        HmmModel.load(folder)


def test_a_lexicon_over_other_phones_is_refused(true_model: HmmModel) -> None:
    with pytest.raises(InputError, match="phones"):
        true_model.with_lexicon(Lexicon.from_entries([("d", ("D",), 1.0)]))
    same_phones = [("cab", ("C", "A1", "B"), 1.0), ("a", ("A0",), 1.0)]
    assert "cab" in true_model.with_lexicon(Lexicon.from_entries(same_phones)).lexicon.word_id


def test_alignments_come_back_as_written(true_model: HmmModel, tmp_path: Path) -> None:
    alignments = {"u2": np.array([1, 2, 3], np.int32), "u1": np.array([4], np.int32)}
    write_alignments(tmp_path / "ali", alignments, true_model, {"total": 3, "kept": 2})
    store = AlignmentStore.open(tmp_path / "ali", true_model)
    assert store.ids == list(store) == ["u1", "u2"] and store.drops == {"total": 3, "kept": 2}
    for utterance, ids in alignments.items():
        np.testing.assert_array_equal(store[utterance], ids)
        np.testing.assert_array_equal(store.pdf_ids(true_model)[utterance], true_model.transitions.pdf_ids[ids])
    with pytest.raises(KeyError):
        store["u3"]


def test_alignments_of_another_tree_are_refused_with_both_names(true_model: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u": np.array([1], np.int32)}, true_model)
    other = random_triphone_model(true_model, 1)
    with pytest.raises(InputError, match=f"{true_model.digest[:8]}.*{other.digest[:8]}"):
        AlignmentStore.open(tmp_path / "ali", other)
    with pytest.raises(InputError, match=true_model.digest[:8]):
        AlignmentStore.open(tmp_path / "ali").pdf_ids(other)


def test_damaged_alignments_are_refused(true_model: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u": np.arange(1, 50, dtype=np.int32)}, true_model)
    path = tmp_path / "ali/transition_ids.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="transition_ids.npy"):
        AlignmentStore.open(tmp_path / "ali")
    path.write_bytes(content[:20])
    with pytest.raises(InputError, match="transition_ids.npy"):
        AlignmentStore.open(tmp_path / "ali")


def test_features_of_another_length_are_refused(true_model: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u": np.array([1, 1], np.int32)}, true_model)
    store = AlignmentStore.open(tmp_path / "ali")
    store.check_lengths({"u": 2, "v": 7})
    with pytest.raises(InputError, match="u: 2 frames.*3 frames"):
        store.check_lengths({"u": 3})


def test_ids_beyond_the_model_are_not_written(true_model: HmmModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not of the model"):
        write_alignments(tmp_path / "ali", {"u": np.array([10**6])}, true_model)
    assert not (tmp_path / "ali").exists()


def with_front_end(model: HmmModel, seed: int = 0, adapted: bool = True) -> HmmModel:
    """The model behind a random front end; adapted: with a second set of Gaussians."""
    generator = np.random.default_rng(seed)
    assert model.gmm is not None
    moved = DiagonalGmms(model.gmm.offsets, model.gmm.weights, model.gmm.means + 1, model.gmm.variances)
    return replace(model, front_end=FrontEnd(0, 1, 1, generator.standard_normal((model.gmm.dim, 12))),
                   speaker_independent_gmm=moved if adapted else None)


def test_front_end_and_both_sets_of_gaussians_come_back(true_model: HmmModel, tmp_path: Path) -> None:
    model = with_front_end(true_model)
    model.save(tmp_path / "m")
    again = HmmModel.load(tmp_path / "m")
    assert again.is_speaker_adapted and again.gmm_digest == model.gmm_digest and again.digest == true_model.digest
    x = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    np.testing.assert_array_equal(again.front_end(x), model.front_end(x))
    assert again.speaker_independent_gmm is not None and model.speaker_independent_gmm is not None
    np.testing.assert_array_equal(again.speaker_independent_gmm.means, model.speaker_independent_gmm.means)


def test_gmm_digest_tells_what_scores_frames_and_nothing_else(true_model: HmmModel) -> None:
    gmm = true_model.gmm
    assert gmm is not None
    counts = np.full(true_model.transitions.num_transition_ids + 1, 50)
    different = [
        true_model, replace(true_model, gmm=None), with_front_end(true_model, adapted=False),
        replace(true_model, gmm=DiagonalGmms(gmm.offsets, gmm.weights, gmm.means, gmm.variances * 2)),
        replace(true_model, transitions=true_model.transitions.reestimated(counts)),
        replace(true_model, feature_recipe={"kind": "other"})]
    assert len({model.gmm_digest for model in different}) == len(different)
    assert replace(true_model, speaker_independent_gmm=gmm).gmm_digest == true_model.gmm_digest
    other_words = true_model.with_lexicon(Lexicon.from_entries([("cab", ("C", "A1", "B"), 1.0), ("a", ("A0",), 1.0)]))
    assert other_words.gmm_digest == true_model.gmm_digest


def test_a_model_of_an_older_format_says_so_in_one_line(folder: Path) -> None:
    path = folder / "model.json"
    value = json.loads(path.read_text())
    value["format"] = 1
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"model.json: a model of format 1, expected one of format 2; train it again$"):
        HmmModel.load(folder)
    path.write_text("[]")
    with pytest.raises(InputError, match="no model, expected one of format 2"):
        HmmModel.load(folder)


def test_exchanged_gaussians_are_refused(true_model: HmmModel, folder: Path, tmp_path: Path) -> None:
    gmm = true_model.gmm
    assert gmm is not None
    replace(true_model, gmm=DiagonalGmms(gmm.offsets, gmm.weights, gmm.means + 1, gmm.variances)).save(tmp_path / "o")
    (folder / "model.safetensors").write_bytes((tmp_path / "o/model.safetensors").read_bytes())
    with pytest.raises(InputError, match="model.safetensors: not the numbers that model.json describes"):
        HmmModel.load(folder)


def test_altered_gaussians_of_unadapted_speech_are_refused(true_model: HmmModel, tmp_path: Path) -> None:
    with_front_end(true_model).save(tmp_path / "m")
    numbers = tmp_path / "m/model.safetensors"
    arrays = read_tensors(numbers)
    arrays["speaker_independent_gmm.means"][0] += 1
    write_tensors(numbers, arrays)
    with pytest.raises(InputError, match="model.safetensors: not the numbers"):
        HmmModel.load(tmp_path / "m")


@pytest.mark.parametrize("key", ["transitions", "feature_recipe", "num_transition_ids", "lexicon", "front_end"])
def test_any_edit_of_the_description_is_refused(folder: Path, key: str) -> None:
    path = folder / "model.json"
    value = json.loads(path.read_text())
    value[key] = {"tuples": value[key]["tuples"][:-1]} if key == "transitions" else 7
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="model.json"):
        HmmModel.load(folder)


def test_a_model_of_before_the_new_digests_is_read(true_model: HmmModel, folder: Path) -> None:
    path = folder / "model.json"
    value = json.loads(path.read_text())
    del value["content"], value["numbers_sha256"]
    path.write_text(json.dumps(value))
    assert HmmModel.load(folder).gmm_digest == true_model.gmm_digest


def _spoilt_tree(value: dict, arrays: dict) -> None:
    for name in ("keys", "yes", "no", "questions"):
        value["tree"][name][0] = 0


def _spoilt_topology(value: dict, arrays: dict) -> None:
    value["topology"]["entries"][0][0]["arcs"][0][0] = 99


def _spoilt_transitions(value: dict, arrays: dict) -> None:
    value["transitions"]["tuples"][0][2] = 10**6


def _spoilt_offsets(value: dict, arrays: dict) -> None:
    arrays["gmm.offsets"][1] = -7


def _spoilt_variances(value: dict, arrays: dict) -> None:
    arrays["gmm.variances"][0] = 0.0


def _spoilt_probabilities(value: dict, arrays: dict) -> None:
    arrays["transition_log_probs"][1] = np.nan


@pytest.mark.parametrize("spoil", [_spoilt_tree, _spoilt_topology, _spoilt_transitions, _spoilt_offsets,
                                   _spoilt_variances, _spoilt_probabilities])
def test_a_model_whose_numbers_are_out_of_range_is_refused_even_with_right_digests(
    folder: Path, spoil: Callable[[dict, dict], None]
) -> None:
    path = folder / "model.json"
    value, arrays = json.loads(path.read_text()), read_tensors(folder / "model.safetensors")
    spoil(value, arrays)
    del value["content"], value["numbers_sha256"]
    path.write_text(json.dumps(value))
    write_tensors(folder / "model.safetensors", arrays)
    with pytest.raises(InputError, match="damaged model"):
        HmmModel.load(folder)
