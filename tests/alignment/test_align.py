import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr_kd.alignment import viterbi
from asr_kd.alignment.align import (
    MISSING,
    NO_PATH,
    NO_SCORES,
    NO_TRANSCRIPT,
    NOT_FINITE,
    TOO_SHORT,
    AlignConfig,
    UtteranceAlignment,
    align,
    align_log_likelihoods,
    align_to_folder,
    build_graphs,
    gmm_score_source,
    utterance_ids,
)
from asr_kd.alignment.boundaries import phone_segments
from asr_kd.alignment.viterbi import FrameScores
from asr_kd.core.errors import InputError, WorkError
from asr_kd.hmm.model import HmmModel
from tests.hmm.toy import Sampled

ALL_DROPPED = AlignConfig(max_dropped=1.0)


def phones_of(alignment: np.ndarray, model: HmmModel) -> np.ndarray:
    segments = phone_segments(alignment, model.transitions)
    return np.repeat(segments.phones, segments.frames)


def test_alignment_recovers_the_sampled_phones(true_model: HmmModel, sampled: Sampled) -> None:
    alignments, drops = align(true_model, sampled.features, sampled.transcripts)
    assert drops.kept == len(sampled.features) == len(alignments)
    right = np.concatenate([phones_of(alignments[u], true_model) == sampled.phones[u] for u in alignments])
    assert right.mean() > 0.99


def test_log_likelihoods_from_elsewhere_give_the_same_alignment(true_model: HmmModel, sampled: Sampled) -> None:
    assert true_model.gmm is not None
    by_gmm, _ = align(true_model, sampled.features, sampled.transcripts)
    matrices = {u: true_model.gmm.log_likelihoods(x) for u, x in sampled.features.items()}
    without_gmm = replace(true_model, gmm=None)
    by_matrix, drops = align_log_likelihoods(without_gmm, matrices.__getitem__, sampled.transcripts)
    assert drops.kept == len(by_gmm)
    for utterance, ids in by_gmm.items():
        np.testing.assert_array_equal(ids, by_matrix[utterance])
    with pytest.raises(InputError, match="no Gaussians"):
        align(without_gmm, sampled.features, sampled.transcripts)


def test_workers_do_not_change_the_alignment(true_model: HmmModel, sampled: Sampled) -> None:
    one, _ = align(true_model, sampled.features, sampled.transcripts, workers=1)
    two, _ = align(true_model, sampled.features, sampled.transcripts, workers=2)
    assert list(one) == list(two) and all(np.array_equal(one[u], two[u]) for u in one)


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_frames_scored_at_once_do_not_change_the_alignment(true_model: HmmModel, sampled: Sampled, chunk: int,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = align(true_model, sampled.features, sampled.transcripts)
    monkeypatch.setattr(viterbi, "_CHUNK", chunk)
    found, _ = align(true_model, sampled.features, sampled.transcripts)
    assert all(np.array_equal(expected[u], found[u]) for u in expected)


def test_alignments_written_as_they_come_are_those_made_at_once(true_model: HmmModel, sampled: Sampled, tmp_path: Path
                                                                ) -> None:
    expected, _ = align(true_model, sampled.features, sampled.transcripts)
    config = AlignConfig()
    told: list[UtteranceAlignment] = []
    store, drops = align_to_folder(tmp_path / "ali", true_model, gmm_score_source(true_model, sampled.features, config),
                                   utterance_ids(sampled.features), sampled.transcripts, config, say=told.append)
    assert store.ids == sorted(expected) == [one.utterance for one in told] and store.drops == drops.as_dict()
    assert all(np.array_equal(expected[u], store[u]) for u in expected)
    # The score is that of the path: Gaussians and graph, per frame, unscaled.
    assert true_model.gmm is not None
    for one in told:
        assert one.transition_ids is not None
        pdfs = true_model.transitions.pdf_ids[one.transition_ids]
        frames = np.arange(len(pdfs))
        acoustic = true_model.gmm.log_likelihoods(sampled.features[one.utterance])[frames, pdfs].sum()
        graph = true_model.transitions.scaled_log_probs(1.0, 0.1)[one.transition_ids].sum()
        rest = one.log_likelihood * len(pdfs) - acoustic - graph / config.acoustic_scale
        assert -20 * len(sampled.transcripts[one.utterance]) < rest < 0.1  # pronunciations and silences


def test_a_failed_alignment_leaves_no_folder(true_model: HmmModel, sampled: Sampled, tmp_path: Path) -> None:
    features = {u: x[:3] for u, x in sampled.features.items()}
    config = AlignConfig()
    with pytest.raises(WorkError, match=TOO_SHORT):
        align_to_folder(tmp_path / "ali", true_model, gmm_score_source(true_model, features, config), list(features),
                        sampled.transcripts, config)
    assert not list(tmp_path.iterdir())


def test_few_utterances_are_in_memory_at_a_time(true_model: HmmModel, sampled: Sampled, tmp_path: Path) -> None:
    features = {f"{u}-{copy}": x for u, x in sampled.features.items() for copy in range(3)}
    transcripts = {f"{u}-{copy}": words for u, words in sampled.transcripts.items() for copy in range(3)}
    config, begun, done, most = AlignConfig(), 0, 0, 0
    scores = gmm_score_source(true_model, features, config)

    def source(utterance: str) -> FrameScores:
        nonlocal begun, most
        begun += 1
        most = max(most, begun - done)
        return scores(utterance)

    def note(_: UtteranceAlignment) -> None:
        nonlocal done
        done += 1

    align_to_folder(tmp_path / "ali", true_model, source, list(features), transcripts, config, 2, note)
    assert begun == done == 180 and most <= 2 * 8 + 1


def test_graphs_are_built_when_they_are_used(true_model: HmmModel, sampled: Sampled) -> None:
    graphs = build_graphs(true_model, sampled.transcripts)
    utterance = next(iter(graphs))
    first, second = graphs[utterance], graphs[utterance]
    assert first is not second and np.array_equal(first.transition_ids, second.transition_ids)
    assert list(graphs) == sorted(sampled.transcripts)


def test_drops_are_counted_by_reason_and_named(true_model: HmmModel, sampled: Sampled) -> None:
    a, b, c, d = list(sampled.features)[:4]
    features = {a: sampled.features[a], b: sampled.features[b][:4], c: sampled.features[c] * np.nan,
                "silent": sampled.features[d]}
    transcripts = {u: sampled.transcripts[u] for u in (a, b, c, d)}
    alignments, drops = align(true_model, features, transcripts, ALL_DROPPED)
    assert set(alignments) == {a}
    assert drops.by_reason == {TOO_SHORT: 1, NOT_FINITE: 1, MISSING: 1, NO_TRANSCRIPT: 1}
    assert drops.total == drops.kept + 4 == 5
    details = {item["id"]: item["detail"] for items in drops.as_dict()["items"].values()  # type: ignore[attr-defined]
               for item in items}
    assert re.fullmatch(r"4 frames, at least \d+ needed", details[b])
    assert details[c] == "in the frames from 0 on"


def test_log_likelihoods_that_are_no_numbers_are_named_with_pdf_and_frame(true_model: HmmModel) -> None:
    scores = {u: np.zeros((12, true_model.tree.num_pdfs), dtype=np.float32) for u in ("bad", "good")}
    scores["bad"][7, 2] = np.nan
    alignments, drops = align_log_likelihoods(true_model, scores.__getitem__, {u: ["c"] for u in scores}, ALL_DROPPED)
    assert set(alignments) == {"good"}
    assert drops.as_dict()["items"] == {NOT_FINITE: [{"id": "bad", "detail": "nan for pdf 2 in frame 7"}]}


def test_scores_that_cannot_be_made_are_counted(true_model: HmmModel) -> None:
    def scores(utterance: str) -> np.ndarray:
        if utterance == "bad":
            raise WorkError("the frames of bad cannot be read")
        return np.zeros((12, true_model.tree.num_pdfs), dtype=np.float32)

    _, drops = align_log_likelihoods(true_model, scores, {u: ["c"] for u in ("bad", "good")}, ALL_DROPPED)
    assert drops.as_dict()["items"] == {NO_SCORES: [{"id": "bad", "detail": "the frames of bad cannot be read"}]}


def test_a_path_outside_the_retry_beam_is_dropped_and_the_retry_beam_saves_it(true_model: HmmModel) -> None:
    assert true_model.gmm is not None
    transcripts = {"hard": ["c"], "easy": ["c"]}
    first = true_model.tree.pdf_id((true_model.phones.ids["C_S"],), 0)
    scores = {u: np.zeros((12, true_model.tree.num_pdfs), dtype=np.float32) for u in transcripts}
    scores["hard"][:, first] = 200.0  # 20 a frame once scaled: staying in the first state looks best until the end
    narrow = AlignConfig(beam=5.0, retry_beam=8.0, max_dropped=0.5)
    alignments, drops = align_log_likelihoods(true_model, scores.__getitem__, transcripts, narrow)
    (dropped,) = drops.as_dict()["items"][NO_PATH]  # type: ignore[index]
    assert dropped["id"] == "hard" and set(alignments) == {"easy"}
    assert re.search(r"log-likelihood 199\.\d+ a frame .* beam 8; the last frame reaches \d\d % ", dropped["detail"])
    wide = AlignConfig(beam=5.0, retry_beam=400.0)
    alignments, drops = align_log_likelihoods(true_model, scores.__getitem__, transcripts, wide)
    assert drops.kept == 2 and len(alignments["hard"]) == 12


def test_too_many_drops_fail_with_the_main_reason(true_model: HmmModel, sampled: Sampled) -> None:
    features = {u: x[:3] for u, x in sampled.features.items()}
    with pytest.raises(WorkError, match=TOO_SHORT):
        align(true_model, features, sampled.transcripts)


def test_unknown_words_are_refused_or_mapped(true_model: HmmModel, sampled: Sampled) -> None:
    utterance = next(iter(sampled.features))
    features = {utterance: sampled.features[utterance]}
    transcripts = {utterance: [*sampled.transcripts[utterance], "new"]}
    with pytest.raises(InputError, match="'new'"):
        align(true_model, features, transcripts)
    alignments, _ = align(true_model, features, transcripts, AlignConfig(map_unknown=True, retry_beam=1e6))
    assert true_model.phones.ids["SPN_S"] in phones_of(alignments[utterance], true_model)


def test_boosting_silence_makes_more_silence(true_model: HmmModel) -> None:
    rng = np.random.default_rng(0)
    scores = {"u": rng.normal(0, 8, (60, true_model.tree.num_pdfs)).astype(np.float32)}
    counts = []
    for boost in (1e-3, 1.0, 1e3):
        ids, _ = align_log_likelihoods(true_model, scores.__getitem__, {"u": ["ab", "c"]},
                                       AlignConfig(boost_silence=boost, retry_beam=1e4))
        counts.append(int((phones_of(ids["u"], true_model) == true_model.phones.optional_silence).sum()))
    assert counts[0] < counts[1] < counts[2]


def test_scores_and_features_of_another_size_are_refused(true_model: HmmModel, sampled: Sampled) -> None:
    utterance = next(iter(sampled.features))
    with pytest.raises(InputError, match="shape"):
        align(true_model, {utterance: np.zeros((50, 4), np.float32)}, {utterance: ["ab"]})
    with pytest.raises(InputError, match=f"{utterance}.*shape"):
        align_log_likelihoods(true_model, lambda _: np.zeros((50, 4), np.float32), {utterance: ["ab"]})
