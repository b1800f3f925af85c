from pathlib import Path

import numpy as np
import pytest

from asr_kd.alignment.align import AlignConfig, align
from asr_kd.alignment.alignment_store import AlignmentStore, write_alignments
from asr_kd.alignment.boundaries import phone_segments
from asr_kd.bootstrap.monophone import MonophoneConfig, train_monophone
from asr_kd.bootstrap.triphone import TriphoneConfig, train_triphone
from asr_kd.core.errors import InputError, WorkError
from asr_kd.hmm.model import HmmModel
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.tied_states.tree_growing import TreeConfig
from tests.hmm.toy import Sampled, random_triphone_model, sample_speech

MONO = MonophoneConfig(deltas=False, num_passes=20, num_gaussians=40, last_split_pass=12)
TRI = TriphoneConfig(deltas=False, num_passes=8, realign_passes=[4], num_gaussians=80, last_split_pass=5,
                     tree=TreeConfig(num_leaves=60, min_gain=20.0))


@pytest.fixture(scope="module")
def monophone(sampled: Sampled, lexicon: Lexicon) -> HmmModel:
    return train_monophone(sampled.features, sampled.transcripts, lexicon, MONO, feature_recipe={"kind": "sampled"})


def phone_accuracy(model: HmmModel, speech: Sampled) -> float:
    alignments, _ = align(model, speech.features, speech.transcripts)
    right = []
    for utterance, ids in alignments.items():
        segments = phone_segments(ids, model.transitions)
        right.append(np.repeat(segments.phones, segments.frames) == speech.phones[utterance])
    return float(np.concatenate(right).mean())


def test_monophone_training_finds_the_phones_that_speech_was_sampled_from(
        monophone: HmmModel, true_model: HmmModel) -> None:
    unseen = sample_speech(true_model, 30, np.random.default_rng(99))
    assert phone_accuracy(monophone, unseen) > 0.9
    assert monophone.tree.num_pdfs == true_model.tree.num_pdfs
    assert monophone.feature_recipe == {"kind": "sampled"}


def test_triphone_training_keeps_the_phones_and_grows_a_tree(
        monophone: HmmModel, sampled: Sampled, true_model: HmmModel) -> None:
    alignments, _ = align(monophone, sampled.features, sampled.transcripts, AlignConfig(boost_silence=1.25))
    triphone, report = train_triphone(sampled.features, alignments, sampled.transcripts, monophone, TRI)
    assert triphone.tree.context_width == 3 and triphone.tree.num_pdfs == report.num_pdfs
    assert report.gain_per_frame > 1 and report.clustering_change_per_frame <= 0
    assert report.num_frames == sum(map(len, alignments.values()))
    assert triphone.gmm is not None and triphone.gmm.num_pdfs == triphone.tree.num_pdfs
    unseen = sample_speech(true_model, 30, np.random.default_rng(98))
    assert phone_accuracy(triphone, unseen) > 0.9


def test_training_is_repeatable_whatever_the_workers(sampled: Sampled, lexicon: Lexicon) -> None:
    config = MONO.model_copy(update={"num_passes": 5})
    one = train_monophone(sampled.features, sampled.transcripts, lexicon, config, workers=1)
    two = train_monophone(sampled.features, sampled.transcripts, lexicon, config, workers=2)
    assert one.gmm is not None and two.gmm is not None
    np.testing.assert_array_equal(one.gmm.means, two.gmm.means)


def test_only_the_shortest_utterances_are_used(sampled: Sampled, lexicon: Lexicon) -> None:
    config = MONO.model_copy(update={"num_passes": 3, "num_utterances": 20})
    shortest = sorted(sampled.features, key=lambda u: (len(sampled.features[u]), u))[:20]
    some = train_monophone({u: sampled.features[u] for u in shortest}, sampled.transcripts, lexicon, config)
    every = train_monophone(sampled.features, sampled.transcripts, lexicon, config)
    assert some.gmm is not None and every.gmm is not None
    np.testing.assert_array_equal(some.gmm.means, every.gmm.means)


def test_wrong_input_is_refused(sampled: Sampled, lexicon: Lexicon, monophone: HmmModel) -> None:
    utterance = next(iter(sampled.features))
    features = {utterance: sampled.features[utterance]}
    with pytest.raises(InputError, match="no utterance has both"):
        train_monophone(features, {"other": ["ab"]}, lexicon, MONO)
    with pytest.raises(InputError, match="'new'"):
        train_monophone(features, {utterance: ["new"]}, lexicon, MONO)
    with pytest.raises(InputError, match=f"{utterance}: features that are not finite"):
        train_monophone({utterance: features[utterance] * np.nan}, sampled.transcripts, lexicon, MONO)
    with pytest.raises(InputError, match=f"{utterance}: 3 frames aligned"):
        train_triphone(features, {utterance: np.ones(3, np.int32)}, sampled.transcripts, monophone, TRI)
    with pytest.raises(InputError, match="an alignment"):
        train_triphone(features, {}, sampled.transcripts, monophone, TRI)


def test_alignments_of_another_model_are_refused(sampled: Sampled, monophone: HmmModel, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", {"utt000": np.ones(3, np.int32)}, random_triphone_model(monophone, 1))
    with pytest.raises(InputError, match=f"aligned with the model .*{monophone.digest[:8]}"):
        train_triphone(sampled.features, AlignmentStore.open(tmp_path / "ali"), sampled.transcripts, monophone, TRI)


def test_real_speech_trains_and_aligns(shared: Path) -> None:
    """157 utterances of real speech: Kaldi's numbers of pdfs and transition-ids, hardly an utterance lost."""
    from asr_kd.data.audio import read_audio
    from asr_kd.features.config import FeatureConfig
    from asr_kd.features.spectral import FeatureExtractor

    corpus = shared / "corpora/speechocean762"
    extractor = FeatureExtractor(FeatureConfig(kind="mfcc", num_mel_bins=23, num_ceps=13, use_energy=False))
    transcripts = {line.split()[0]: line.split()[1:] for line in (corpus / "train/text").read_text().splitlines()}
    paths = dict(line.split() for line in (corpus / "train/wav.scp").read_text().splitlines())
    features = {}
    for utterance in sorted(paths)[::16]:
        cepstra = extractor(read_audio(corpus / paths[utterance])[0])
        features[utterance] = cepstra - cepstra.mean(axis=0)
    transcripts = {u: transcripts[u] for u in features}
    lexicon = Lexicon.read(corpus / "lexicon/lexicon.txt")
    model = train_monophone(features, transcripts, lexicon, MonophoneConfig(num_gaussians=300, num_passes=20))
    assert (model.tree.num_pdfs, model.transitions.num_transition_ids) == (127, 1788)
    alignments, drops = align(model, features, transcripts, AlignConfig(max_dropped=0.1))
    assert drops.kept + sum(drops.by_reason.values()) == len(features) and drops.kept == len(alignments)
    assert all(len(alignments[u]) == len(features[u]) for u in alignments)
    triphone, report = train_triphone(features, alignments, transcripts, model, TriphoneConfig(
        num_passes=4, realign_passes=[2], num_gaussians=300, last_split_pass=2, tree=TreeConfig(num_leaves=150)))
    seen = {p for ids in alignments.values() for p in phone_segments(ids, model.transitions).phones.tolist()}
    unseen = [group for group in model.phones.root_groups if not seen & set(group)]
    assert triphone.tree.num_pdfs == report.num_pdfs == report.num_seen_pdfs + len(unseen)
    assert report.leaves_split == 150 and report.gain_per_frame > 1


def test_utterances_that_do_not_align_are_capped_in_the_last_realignment(sampled: Sampled, lexicon: Lexicon) -> None:
    """Every third utterance has another one's words: too many words for its frames, so no alignment in any pass."""
    wrong = dict(sampled.transcripts)
    for utterance in sorted(wrong)[::3]:
        wrong[utterance] = ["abc"] * (len(sampled.features[utterance]) // 9 + 1)
    config = MONO.model_copy(update={"num_passes": 4, "realign_passes": [1, 2]})
    with pytest.raises(WorkError, match="20 of 60 utterances dropped.*fewer frames"):
        train_monophone(sampled.features, wrong, lexicon, config)
    allowed = config.model_copy(update={"max_dropped": 0.4})
    assert train_monophone(sampled.features, wrong, lexicon, allowed).gmm is not None
    nothing = {u: ["abc"] * 1000 for u in sampled.features}
    with pytest.raises(WorkError, match="60 of 60"):
        train_monophone(sampled.features, nothing, lexicon, allowed)
