"""Decoding a split: what is written, counted and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError, WorkError
from asr_kd.core.files import hash_file, write_json
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import HYPOTHESES, decode_split, open_decoded, rescore_split
from asr_kd.graph.fst import Fst
from asr_kd.graph.hclg import write_words
from asr_kd.lattices.store import DATA, LatticeStore
from tests.decoding.random_graph import NUM_PDFS, TRANSITION_PDFS, WORDS, graph_of, random_fst

IDS = [f"utt{i:02d}" for i in range(30)]
# Every third arc of these graphs has a word: a wide beam holds very many word sequences.
CONFIG = SearchConfig(acoustic_scale=0.1, word_beam=1.0)


def log_likelihoods_of(utterance_id: str) -> np.ndarray:
    rng = np.random.default_rng(int(utterance_id[3:]))
    return rng.normal(-5, 3, (int(rng.integers(5, 30)), NUM_PDFS)).astype(np.float32)


def test_summary_hypotheses_and_lattices_agree(tmp_path: Path) -> None:
    summary = decode_split(graph_of(random_fst(3)), IDS, log_likelihoods_of, CONFIG, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / HYPOTHESES).read_text().splitlines()]
    assert [row["id"] for row in rows] == IDS == LatticeStore.open(tmp_path).ids
    assert summary["utterances"]["kept"] == 30 and summary["utterances"]["dropped"] == {}
    assert summary["frames"] == sum(len(log_likelihoods_of(i)) for i in IDS) == sum(row["frames"] for row in rows)
    assert summary["partial"] == [row["id"] for row in rows if row["partial"]]
    assert summary["search_cpu_seconds"] > 0 and summary["determinization_cpu_seconds"] > 0
    assert summary["lattices"]["bytes"] == (tmp_path / DATA).stat().st_size
    assert summary["lattices"]["kind"] == LatticeStore.open(tmp_path).kind == "words"
    assert summary["lattices"]["shrunk_beams"] == {}
    assert summary["lattices"]["arcs_per_frame"] < summary["lattices"]["arcs_per_frame_of_search"]
    own = rescore_split(tmp_path, [10.0], [0.0])[10.0, 0.0]
    assert own == {row["id"]: row["words"] for row in rows}
    assert any(own.values())


def test_lattices_of_states_are_kept_by_option_and_give_the_same_words(tmp_path: Path) -> None:
    graph = graph_of(random_fst(3))
    whole = CONFIG.model_copy(update={"lattices": "states"})
    for name, config in (("words", CONFIG), ("states", whole)):
        decode_split(graph, IDS, log_likelihoods_of, config, tmp_path / name)
    assert LatticeStore.open(tmp_path / "states").kind == "states"
    assert rescore_split(tmp_path / "states", [10.0], [0.0]) == rescore_split(tmp_path / "words", [10.0], [0.0])


def test_words_that_are_not_those_of_the_lattices_are_refused(tmp_path: Path) -> None:
    decode_split(graph_of(random_fst(3)), IDS[:2], log_likelihoods_of, CONFIG, tmp_path)
    assert open_decoded(tmp_path)[1] == WORDS
    write_json(tmp_path / "words.json", WORDS[:2])
    with pytest.raises(InputError, match="not the words of the lattices"):
        rescore_split(tmp_path, [10.0], [0.0])


def test_the_number_of_workers_does_not_change_the_lattices(tmp_path: Path) -> None:
    graph = graph_of(random_fst(3))
    for workers in (1, 3):
        decode_split(graph, IDS, log_likelihoods_of, CONFIG, tmp_path / str(workers), workers)
    assert (tmp_path / "1" / DATA).read_bytes() == (tmp_path / "3" / DATA).read_bytes()


def broken(utterance_id: str) -> np.ndarray:
    scores = log_likelihoods_of(utterance_id)
    if utterance_id == "utt07":
        scores[2, 1] = np.nan
    if utterance_id == "utt11":
        raise WorkError("no features")
    return scores


def test_utterances_without_usable_scores_are_dropped_by_reason(tmp_path: Path) -> None:
    summary = decode_split(graph_of(random_fst(3)), IDS, broken, CONFIG, tmp_path, max_dropped=0.1)
    assert summary["utterances"]["dropped"] == {"log-likelihoods out of range": 1, "no log-likelihoods": 1}
    assert summary["utterances"]["kept"] == 28
    assert "utt07" not in (tmp_path / HYPOTHESES).read_text() and "utt11" not in LatticeStore.open(tmp_path)


def test_too_many_drops_fail(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="2 of 30 utterances dropped"):
        decode_split(graph_of(random_fst(3)), IDS, broken, CONFIG, tmp_path)


def test_a_matrix_of_another_model_stops_the_work_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pdfs"):
        decode_split(graph_of(random_fst(3)), IDS, lambda i: log_likelihoods_of(i)[:, :3], CONFIG, tmp_path)
    with pytest.raises(InputError):
        rescore_split(tmp_path, [10.0], [0.0])


def write_graph(folder: Path) -> Fst:
    fst = random_fst(3)
    folder.mkdir()
    fst.write(folder / "HCLG.fst")
    write_words(folder / "words.txt", WORDS[:-1])
    np.save(folder / "transition_pdfs.npy", TRANSITION_PDFS)
    write_json(folder / "graph.json", {"hmm": "treeA", "num_pdfs": NUM_PDFS,
                                        "fst": hash_file(folder / "HCLG.fst")})
    return fst


def test_a_graph_folder_gives_the_same_search(tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    fst = write_graph(folder)
    loaded = DecodingGraph.load(folder, "treeA")
    direct = graph_of(fst)
    np.testing.assert_array_equal(loaded.arc_ints, direct.arc_ints)
    assert loaded.words == WORDS and loaded.num_pdfs == NUM_PDFS


def test_a_graph_of_another_tree_is_refused_with_both_names(tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    write_graph(folder)
    with pytest.raises(InputError, match="built with HMM treeA, but the model is treeB"):
        DecodingGraph.load(folder, "treeB")


@pytest.mark.parametrize("name", ["HCLG.fst", "words.txt", "transition_pdfs.npy", "graph.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_graph_folder_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "graph"
    write_graph(folder)
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:10])
    with pytest.raises(InputError, match=str(folder)):
        DecodingGraph.load(folder, "treeA")


def test_a_graph_that_is_not_the_described_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    write_graph(folder)
    random_fst(4).write(folder / "HCLG.fst")
    with pytest.raises(InputError, match="not the file that graph.json describes"):
        DecodingGraph.load(folder, "treeA")
