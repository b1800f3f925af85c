"""N-best lists, words with times and confidences, and oracle errors of a decoded toy split."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.data.ctm import read_ctm
from asr_kd.decoding.graph import LEXICON, DecodingGraph, with_lexicon_of, write_lexicon
from asr_kd.decoding.lm_rescoring import rescore_lm_split
from asr_kd.decoding.outputs import (
    n_best_split,
    oracle_split,
    timed_words,
    write_n_best,
    write_timed_words,
)
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import HYPOTHESES, decode_split, rescore_split
from asr_kd.graph.fst import Fst
from asr_kd.graph.hclg import build_graph
from asr_kd.lattices.store import LatticeStore
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lm.arpa import read_arpa
from tests.graph.toy import ARPA, Toy

IDS = [f"utt{i}" for i in range(8)]
CONFIG = SearchConfig(acoustic_scale=0.1, beam=60.0)


def scores_of(toy: Toy, utterance_id: str) -> np.ndarray:
    rng = np.random.default_rng(int(utterance_id[3:]))
    return rng.normal(-30, 20, (30, toy.hmm.tree.num_pdfs)).astype(np.float32)


@pytest.fixture
def decoded(toy: Toy, tmp_path: Path) -> Path:
    build_graph(toy.hmm, toy.model, tmp_path / "graph")
    graph = DecodingGraph.load(tmp_path / "graph", toy.hmm.digest)
    decode_split(graph, IDS, lambda i: scores_of(toy, i), CONFIG, tmp_path / "decoded", hmm=toy.hmm)
    return tmp_path / "decoded"


def rows_of(decoded: Path) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in (decoded / HYPOTHESES).read_text().splitlines()]
    return {row["id"]: row for row in rows}


def words_of(decoded: Path) -> dict[str, list[str]]:
    return rescore_split(decoded, [10.0], [0.0])[10.0, 0.0]


def test_hypotheses_and_ctm_have_the_same_times(decoded: Path, toy: Toy, tmp_path: Path) -> None:
    count = write_timed_words(tmp_path / "words.ctm", timed_words(decoded, toy.hmm, 10.0))
    entries = read_ctm(tmp_path / "words.ctm")
    assert len(entries) == count > 10
    for utterance_id, row in rows_of(decoded).items():
        found = [entry for entry in entries if entry.utterance == utterance_id]
        assert [entry.word for entry in found] == row["words"]
        assert [[round(100 * entry.start), round(100 * entry.duration)] for entry in found] == row["word_times"]
        assert all(0 < entry.confidence <= 1 for entry in found if entry.confidence is not None)
        assert all(entry.confidence is not None for entry in found)


def test_a_result_cut_off_within_a_word_has_no_exact_times(toy: Toy, tmp_path: Path) -> None:
    transitions, lexicon = toy.hmm.transitions, toy.hmm.lexicon
    first, _ = toy.hmm.phones.in_word(["y", "x"])
    tid = int(np.flatnonzero((transitions.phones == first) & (transitions.hmm_states == 0))[0])
    # D, said with y and x, stands on y's first arc; the utterance ends behind it.
    fst = Fst.from_lists(0, {2: 0.0}, [(0, tid, lexicon.word_id["D"], 0.0, 1), (1, tid, 0, 0.0, 2)])
    graph = DecodingGraph.from_fst(fst, transitions.pdf_ids, lexicon.words, toy.hmm.tree.num_pdfs, toy.hmm.digest)
    scores = np.zeros((1, toy.hmm.tree.num_pdfs), np.float32)
    decode_split(graph, ["u"], lambda _: scores, CONFIG, tmp_path / "decoded", hmm=toy.hmm)
    row = rows_of(tmp_path / "decoded")["u"]
    assert row["partial"] and row["words"] == ["D"] and row["word_times"] is None
    ((word,),) = timed_words(tmp_path / "decoded", toy.hmm, 10.0)
    assert (word.word, word.start, word.duration) == ("D", 0.0, 0.01)
    ((hypothesis,),) = (row["hypotheses"] for row in n_best_split(tmp_path / "decoded", 3, 10.0, hmm=toy.hmm))
    assert hypothesis["word_times"] is None


def test_n_best_lists_begin_with_the_best_words(decoded: Path, toy: Toy, tmp_path: Path) -> None:
    assert write_n_best(tmp_path / "n_best.jsonl", n_best_split(decoded, 5, 10.0, hmm=toy.hmm)) == len(IDS)
    best = words_of(decoded)
    for line in (tmp_path / "n_best.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["hypotheses"][0]["words"] == best[row["id"]]
        costs = [one["cost"] for one in row["hypotheses"]]
        assert costs == sorted(costs) and len(costs) <= 5
        assert all(one["cost"] == pytest.approx(one["graph_cost"] + one["acoustic_cost"] / 10, abs=1e-3)
                   for one in row["hypotheses"])


def test_oracle_errors_are_none_for_words_of_the_lattice_and_deletions_for_what_is_absent(decoded: Path) -> None:
    best = words_of(decoded)
    found = oracle_split(decoded, {**best, "absent": ["A", "B"], "utt0": [*best["utt0"], "unheard"]})
    assert found["absent"].deletions == found["absent"].errors == 2
    assert found["utt0"].errors == 1
    assert all(found[i].errors == 0 for i in IDS[1:])


def test_another_model_is_refused_with_both_names(decoded: Path, toy: Toy) -> None:
    model = toy.hmm.with_lexicon(toy.hmm.lexicon)
    store = json.loads((decoded / "lattices.json").read_text())
    store["description"]["hmm"] = "treeB"
    (decoded / "lattices.json").write_text(json.dumps(store))
    with pytest.raises(InputError, match=f"decoded with HMM treeB, but the model is {model.digest}"):
        list(timed_words(decoded, model, 10.0))


def test_words_of_a_graph_with_another_lexicon_have_their_times(decoded: Path, toy: Toy, tmp_path: Path) -> None:
    lexicon = toy.hmm.lexicon
    entries = [(lexicon.words[p.word], p.phones, p.probability) for p in lexicon.pronunciations]
    fewer = toy.hmm.with_lexicon(Lexicon(lexicon.phones, [e for e in entries if e[0] != "A"]))
    build_graph(fewer, toy.model, tmp_path / "graph")
    write_lexicon(tmp_path / "graph", fewer.lexicon)
    graph = DecodingGraph.load(tmp_path / "graph", toy.hmm.digest)
    model = with_lexicon_of(tmp_path / "graph", toy.hmm, graph.words)
    assert model.lexicon.digest == fewer.lexicon.digest != lexicon.digest
    decode_split(graph, IDS, lambda i: scores_of(toy, i), CONFIG, tmp_path / "fewer", frame_shift=0.02, hmm=model)
    rows = rows_of(tmp_path / "fewer")
    times = {i: [[round(50 * w.start), round(50 * w.duration)] for w in words]
             for i, words in zip(rows, timed_words(tmp_path / "fewer", toy.hmm, 10.0), strict=True)}
    assert times == {i: row["word_times"] for i, row in rows.items()} and any(times.values())

    rescore_lm_split(tmp_path / "fewer", toy.model, toy.model, tmp_path / "rescored")
    assert len(list(timed_words(tmp_path / "rescored", toy.hmm, 10.0))) == len(IDS)
    (tmp_path / "graph" / LEXICON).unlink()
    with pytest.raises(InputError, match="made with another lexicon"):
        with_lexicon_of(tmp_path / "graph", toy.hmm, graph.words)


def test_lattices_of_states_have_no_n_best(toy: Toy, tmp_path: Path) -> None:
    build_graph(toy.hmm, toy.model, tmp_path / "graph")
    graph = DecodingGraph.load(tmp_path / "graph", toy.hmm.digest)
    config = CONFIG.model_copy(update={"lattices": "states"})
    decode_split(graph, IDS[:2], lambda i: scores_of(toy, i), config, tmp_path / "decoded")
    with pytest.raises(InputError, match="lattices of states"):
        n_best_split(tmp_path / "decoded", 3, 10.0)


def test_a_split_rescored_with_another_model_equals_one_decoded_with_it(
    decoded: Path, toy: Toy, tmp_path: Path,
) -> None:
    path = tmp_path / "other.arpa"
    path.write_text(ARPA.replace("-0.6 A", "-2.6 A").replace("-0.1 <s> A B", "-1.9 <s> A B"))
    other = read_arpa(path)
    summary = rescore_lm_split(decoded, toy.model, other, tmp_path / "rescored")
    assert summary["utterances"] == len(IDS) and summary["emptied"] == []
    assert LatticeStore.open(tmp_path / "rescored").description["lm"] == other.digest

    build_graph(toy.hmm, other, tmp_path / "other_graph")
    graph = DecodingGraph.load(tmp_path / "other_graph", toy.hmm.digest)
    decode_split(graph, IDS, lambda i: scores_of(toy, i), CONFIG, tmp_path / "redecoded")
    found = {row["id"]: row for row in n_best_split(tmp_path / "rescored", 1, 10.0)}
    wanted = {row["id"]: row for row in n_best_split(tmp_path / "redecoded", 1, 10.0)}
    changed = 0
    for utterance_id in IDS:
        mine, its = found[utterance_id]["hypotheses"][0], wanted[utterance_id]["hypotheses"][0]
        assert mine["cost"] == pytest.approx(its["cost"], abs=0.02)  # determinisation of the graph rounds costs
        changed += its["words"] != rescore_split(decoded, [10.0], [0.0])[10.0, 0.0][utterance_id]
    assert changed > 0


def test_rescoring_refuses_another_old_model(decoded: Path, toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "other.arpa"
    path.write_text(ARPA.replace("-0.6 A", "-2.6 A"))
    with pytest.raises(InputError, match="decoded with the language model"):
        rescore_lm_split(decoded, read_arpa(path), toy.model, tmp_path / "rescored")
