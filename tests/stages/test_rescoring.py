"""What `asr-kd rescore` writes of a decoded toy split and what it refuses; the weights that the score stage chooses."""

import json
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.files import list_files, write_json
from asr_kd.core.stages import StageContext
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import decode_split, rescore_split
from asr_kd.graph.hclg import build_graph
from asr_kd.kaldi_lattices.archive import read_word_lattices
from asr_kd.scoring import api
from asr_kd.scoring.system_counts import read_counts_folder
from asr_kd.scoring.transcripts import read_transcripts, write_transcripts, write_utt2spk
from asr_kd.scoring.wer import total_errors
from asr_kd.stages.rescoring import rescore_lattices
from asr_kd.stages.scoring import ScoreConfig, score_systems
from tests.graph.conftest import arpa_path, toy
from tests.graph.toy import Toy

__all__ = ["arpa_path", "toy"]

SPLITS = {"dev": [f"d{i}" for i in range(8)], "test": [f"t{i}" for i in range(4)]}
SPOKEN = ["A", "B", "D", "A"]


@pytest.fixture
def decoded(toy: Toy, tmp_path: Path) -> Path:
    """A decode stage's folder of two splits."""
    build_graph(toy.hmm, toy.model, tmp_path / "graph")
    graph = DecodingGraph.load(tmp_path / "graph", toy.hmm.digest)

    def scores_of(utterance_id: str) -> np.ndarray:
        rng = np.random.default_rng(ord(utterance_id[0]) + int(utterance_id[1:]))
        return rng.normal(-30, 20, (30, toy.hmm.tree.num_pdfs)).astype(np.float32)

    for split, ids in SPLITS.items():
        decode_split(graph, ids, scores_of, SearchConfig(acoustic_scale=0.1, beam=60.0), tmp_path / "decoded" / split,
                     hmm=toy.hmm)
    write_json(tmp_path / "decoded/system.json", {
        "params": 1, "bytes": 1, "train_minutes": None, "frame_accuracy": None,
        "real_time_factor": {"dev": 0.1, "test": 0.2}})
    return tmp_path / "decoded"


def test_everything_that_can_be_asked_for_is_written(decoded: Path, toy: Toy, arpa_path: Path, tmp_path: Path) -> None:
    toy.hmm.save(tmp_path / "hmm")
    texts = rescore_split(decoded / "dev", [9.0], [0.5])[9.0, 0.5]
    write_transcripts(tmp_path / "ref.txt", {**texts, "never_decoded": ["A"]})
    summary = rescore_lattices(decoded / "dev", tmp_path / "out", 9.0, 0.5, old_lm=arpa_path, new_lm=arpa_path,
                               references=tmp_path / "ref.txt", model=tmp_path / "hmm", n_best=2, kaldi=True)
    assert read_transcripts(tmp_path / "out/text").words == texts
    assert summary["oracle"]["deletions"] == 1 == sum(summary["oracle"][kind] for kind in (
        "insertions", "deletions", "substitutions"))
    assert summary["timed_words"] == sum(map(len, texts.values()))
    rows = [json.loads(line) for line in (tmp_path / "out/n_best.jsonl").read_text().splitlines()]
    assert [row["hypotheses"][0]["words"] for row in rows] == [texts[row["id"]] for row in rows]
    assert all(len(one["word_times"]) == len(one["words"]) for row in rows for one in row["hypotheses"])
    assert [key for key, _ in read_word_lattices(tmp_path / "out/lattices.scp")] == SPLITS["dev"]
    # The new lattices can be rescored again, into the folder that another rescoring wrote, not into their own.
    again = rescore_lattices(tmp_path / "out", tmp_path / "again", 9.0, 0.5, model=tmp_path / "hmm")
    assert again["timed_words"] == summary["timed_words"]
    assert rescore_lattices(decoded / "dev", tmp_path / "again", 9.0)["utterances"] == 8
    with pytest.raises(InputError, match="would be lost"):
        rescore_lattices(tmp_path / "out", tmp_path / "out", 9.0)
    assert (tmp_path / "out/lattices.bin").is_file()


def test_what_does_not_belong_together_is_refused_and_nothing_is_left(
    decoded: Path, toy: Toy, arpa_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.arpa"
    other.write_text(arpa_path.read_text().replace("-0.6 A", "-2.6 A"))
    write_transcripts(tmp_path / "ref.txt", {"t0": ["A"]})
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("years of work")
    before = list_files(tmp_path)
    for message, output, options in (
        ("takes two", "out", {"old_lm": arpa_path}),
        ("decoded with the language model", "out", {"old_lm": other, "new_lm": arpa_path}),
        ("LM weight", "out", {"lm_weight": float("nan")}),
        ("LM weight", "out", {"lm_weight": 0.0}),
        ("insertion penalty", "out", {"insertion_penalty": float("inf")}),
        ("not in the reference", "out", {"references": tmp_path / "ref.txt"}),
        ("no such file", "out", {"references": tmp_path / "nowhere"}),
        ("is no rescoring", "full", {}),
        ("is no folder", "ref.txt/out", {}),
    ):
        with pytest.raises(InputError, match=message):
            rescore_lattices(decoded / "dev", tmp_path / output, **options)
    assert list_files(tmp_path) == before


def write_references(folder: Path) -> None:
    for split, ids in SPLITS.items():
        of_split = folder / "references" / split
        write_transcripts(of_split / "text", {i: SPOKEN for i in ids})
        write_utt2spk(of_split / "utt2spk", {i: f"s{int(i[1:]) % 2}" for i in ids})


@pytest.mark.parametrize(("of_input", "written"), [(7, 7), (None, 1)])
def test_counts_bear_the_seed_of_what_was_decoded_whatever_the_run_has(
    decoded: Path, tmp_path: Path, of_input: int | None, written: int
) -> None:
    """NAME@7 is seed 7 in a run with seed 3; what depends on no seed is the same in all runs."""
    write_references(tmp_path / "prepare")
    write_json(tmp_path / "prepare/vocabulary.json", {
        "closed": False, "source": "train", "splits": {"dev": {"words": 32, "oov_words": 4, "oov_rate": 12.5}}})
    config = build_config(ScoreConfig, Settings({"lm_weights": [10.0], "systems": {"toy": {}}}, {}))
    context = StageContext("score", 3, None, tmp_path / "work", "run", "asr-kd run", "abc", {"toy": of_input})
    score_systems({"manifests": tmp_path / "prepare", "toy": decoded}, config, tmp_path / "score", context)
    counts = {one.split: one for one in read_counts_folder(tmp_path / "score/counts")}
    assert {one.seed for one in counts.values()} == {written}
    assert {one.revision for one in counts.values()} == {"abc"}
    assert [(counts[split].oov_rate, counts[split].closed_vocabulary) for split in ("dev", "test")] == [
        (12.5, False), (None, False)]


def test_weights_are_those_of_fewest_errors_on_dev_and_the_references_can_be_scored_against(
    decoded: Path, tmp_path: Path
) -> None:
    write_references(tmp_path / "prepare")
    weights, penalties = [2.0, 10.0, 40.0], [0.0, 8.0]
    config = build_config(ScoreConfig, Settings({
        "lm_weights": weights, "insertion_penalties": penalties, "systems": {"toy": {}}}, {}))
    output = tmp_path / "score"
    context = StageContext(name="score", seed=1, work=tmp_path / "work", corpus=None, command="", run_name="run")
    summary = score_systems({"manifests": tmp_path / "prepare", "toy": decoded}, config, output, context)["toy"]
    chosen = summary["lm_weight"], summary["insertion_penalty"]

    references = {i: SPOKEN for i in SPLITS["dev"]}
    errors = {pair: total_errors(references, words)
              for pair, words in rescore_split(decoded / "dev", weights, penalties).items()}
    assert errors[chosen] == min(errors.values()) < max(errors.values())
    for split in SPLITS:
        words = read_transcripts(output / f"hypotheses/toy.1.{split}.txt").words
        assert words == rescore_split(decoded / split, [chosen[0]], [chosen[1]])[chosen]
        scored = api.score(output / "references" / split / "text", [output / f"hypotheses/toy.1.{split}.txt"])
        assert round(scored.system.total.wer, 2) == summary[split]["wer"] and scored.unit == "speaker"
