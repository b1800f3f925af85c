import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.alignment.alignment_store import AlignmentStore, AlignmentWriter, write_alignments
from asr_kd.core.errors import InputError
from asr_kd.hmm.model import HmmModel


@settings(deadline=None, max_examples=30)
@given(lengths=st.dictionaries(st.text("abé /", min_size=1, max_size=4), st.integers(0, 40), max_size=6),
       seed=st.integers(0, 99))
def test_what_was_written_utterance_by_utterance_is_read_back(
    true_model: HmmModel, tmp_path_factory: pytest.TempPathFactory, lengths: dict[str, int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    generator = np.random.default_rng(seed)
    wanted = {u: generator.integers(1, true_model.transitions.num_transition_ids + 1, n).astype(np.int32)
              for u, n in sorted(lengths.items())}
    with AlignmentWriter(folder / "ali", true_model) as writer:
        for utterance, ids in wanted.items():
            writer.add(utterance, ids)
        writer.drops = {"kept": len(wanted)}
    store = AlignmentStore.open(folder / "ali", true_model)
    assert store.ids == list(wanted) and store.drops == {"kept": len(wanted)}
    for utterance, ids in wanted.items():
        np.testing.assert_array_equal(store[utterance], ids)
    # All at once gives the same bytes.
    write_alignments(folder / "again", wanted, true_model, {"kept": len(wanted)})
    for name in ("alignments.json", "transition_ids.npy"):
        assert (folder / "ali" / name).read_bytes() == (folder / "again" / name).read_bytes()


def test_an_interrupted_writer_leaves_what_was_there(true_model: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u": np.ones(3, np.int32)}, true_model)
    with pytest.raises(KeyboardInterrupt), AlignmentWriter(tmp_path / "ali", true_model) as writer:
        writer.add("v", np.ones(5, np.int32))
        raise KeyboardInterrupt
    assert AlignmentStore.open(tmp_path / "ali").ids == ["u"]
    assert [path.name for path in tmp_path.iterdir()] == ["ali"]


@pytest.mark.parametrize(("utterance", "ids", "message"), [
    ("v", [0, 1], r"v: transition-ids 0\.\.1 are not of the model"),
    ("v", [10**6], "v: transition-ids 1000000"),
    ("u", [1], "utterance u is aligned twice")])
def test_what_cannot_be_of_the_model_is_refused(true_model: HmmModel, tmp_path: Path, utterance: str, ids: list[int],
                                                message: str) -> None:
    with pytest.raises(InputError, match=message), AlignmentWriter(tmp_path / "ali", true_model) as writer:
        writer.add("u", np.ones(3, np.int32))
        writer.add(utterance, np.array(ids, dtype=np.int32))
    assert not list(tmp_path.iterdir())


def test_numbers_that_were_touched_are_refused(true_model: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u": np.ones(30, np.int32)}, true_model)
    path = tmp_path / "ali/transition_ids.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="not the 30 frames"):
        AlignmentStore.open(tmp_path / "ali")
    np.save(path, np.ones(30, np.float32))
    with pytest.raises(InputError, match="not the 30 frames"):
        AlignmentStore.open(tmp_path / "ali")


@pytest.mark.parametrize("change", [
    {"utterances": ["u"]}, {"utterances": {"u": "30"}}, {"content": None, "drops": ...}, {"utterances": ...},
    {"content": ...}, {"model_digest": ...}])
def test_an_index_that_is_not_one_is_refused(true_model: HmmModel, tmp_path: Path, change: dict[str, Any]) -> None:
    write_alignments(tmp_path / "ali", {"u": np.ones(30, np.int32)}, true_model)
    path = tmp_path / "ali/alignments.json"
    description = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in description.items() if value is not ...}))
    with pytest.raises(InputError, match="alignments.json: damaged"):
        AlignmentStore.open(tmp_path / "ali", true_model)


def test_alignments_are_mapped_not_loaded(true_model: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"u": np.ones(30, np.int32)}, true_model)
    ids = AlignmentStore.open(tmp_path / "ali")["u"]
    assert not ids.flags.owndata and not ids.flags.writeable
