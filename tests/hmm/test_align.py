import re
from dataclasses import replace

import numpy as np
import pytest

from asr_kd.core.errors import InputError, WorkError
from asr_kd.hmm.align import (
    MISSING,
    NO_PATH,
    NO_TRANSCRIPT,
    NOT_FINITE,
    TOO_SHORT,
    AlignConfig,
    align,
    align_log_likelihoods,
)
from asr_kd.hmm.boundaries import phone_segments
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


def test_drops_are_counted_by_reason_and_named(true_model: HmmModel, sampled: Sampled) -> None:
    a, b, c, d = list(sampled.features)[:4]
    features = {a: sampled.features[a], b: sampled.features[b][:4], c: sampled.features[c] * np.nan,
                "silent": sampled.features[d]}
    transcripts = {u: sampled.transcripts[u] for u in (a, b, c, d)}
    alignments, drops = align(true_model, features, transcripts, ALL_DROPPED)
    assert set(alignments) == {a}
    assert drops.by_reason == {TOO_SHORT: 1, NOT_FINITE: 1, MISSING: 1, NO_TRANSCRIPT: 1}
    assert drops.total == drops.kept + 4 == 5


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
