"""LDA+MLLT and speaker-adaptive training on sampled speech whose speakers differ by a known affine transform."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr_kd.alignment.align import AlignConfig, Alignments, align
from asr_kd.alignment.boundaries import phone_segments
from asr_kd.bootstrap.adapted_alignment import align_adapted
from asr_kd.bootstrap.fmllr import FmllrConfig, compose
from asr_kd.bootstrap.lda_mllt import LdaMlltConfig, train_lda_mllt
from asr_kd.bootstrap.speaker_adaptive import SpeakerAdaptiveConfig, train_sat
from asr_kd.bootstrap.triphone import TriphoneConfig, train_triphone
from asr_kd.core.errors import InputError
from asr_kd.features.affine import apply_affine
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.model import HmmModel
from asr_kd.tied_states.tree_growing import TreeConfig
from tests.hmm.toy import DIM, Sampled, sample_speech

TREE = TreeConfig(num_leaves=60, min_gain=20.0)
LENIENT = AlignConfig(max_dropped=0.3)
SAT = SpeakerAdaptiveConfig(num_passes=10, realign_passes=[2, 4, 6], fmllr_passes=[2, 3, 4, 6], num_gaussians=80,
                            last_split_pass=5, tree=TREE, fmllr=FmllrConfig(silence_weight=0.0, min_frames=100),
                            max_dropped=0.3)


@pytest.fixture(scope="module")
def distortions() -> dict[str, np.ndarray]:
    """Speaker -> affine transform; the utterances of "short" are too few to estimate one."""
    generator = np.random.default_rng(11)
    return {f"spk{i}": np.column_stack([np.eye(DIM) + 0.35 * generator.standard_normal((DIM, DIM)),
                                        3.0 * generator.standard_normal(DIM)]) for i in range(5)} | {
        "short": np.eye(DIM, DIM + 1)}


def spoken_by(speech: Sampled, distortions: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The speech as its speakers would say it, and whose each utterance is; the shortest one is that of "short"."""
    ids = sorted(speech.features, key=lambda u: len(speech.features[u]))
    speakers = {u: f"spk{i % 5}" for i, u in enumerate(ids)} | {ids[0]: "short"}
    return {u: apply_affine(x, distortions[speakers[u]]) for u, x in speech.features.items()}, speakers


def accuracy(model: HmmModel, alignments: Alignments, speech: Sampled) -> float:
    """The share of all frames in their true phone; what did not align is wrong."""
    right = 0
    for utterance, ids in alignments.items():
        segments = phone_segments(ids, model.transitions)
        right += int((np.repeat(segments.phones, segments.frames) == speech.phones[utterance]).sum())
    return right / sum(map(len, speech.phones.values()))


@pytest.fixture(scope="module")
def trained(sampled: Sampled, true_model: HmmModel, distortions: dict[str, np.ndarray]
            ) -> tuple[HmmModel, HmmModel, SpeakerTransforms]:
    """A triphone model of all speakers' speech together, and a speaker-adapted one that begins with it."""
    features, speakers = spoken_by(sampled, distortions)
    alignments, _ = align(true_model, sampled.features, sampled.transcripts)
    together, _ = train_triphone(features, alignments, sampled.transcripts, true_model, TriphoneConfig(
        deltas=False, num_passes=8, realign_passes=[], num_gaussians=120, last_split_pass=5, tree=TREE))
    aligned, _ = align(together, features, sampled.transcripts, LENIENT)
    adapted, transforms, report = train_sat(features, aligned, sampled.transcripts, together, SAT, speakers=speakers)
    assert report.gain_per_frame > 1 and report.num_pdfs == adapted.tree.num_pdfs
    return together, adapted, transforms


def test_adapted_training_hears_through_its_speakers(
        trained: tuple[HmmModel, HmmModel, SpeakerTransforms], true_model: HmmModel, distortions: dict[str, np.ndarray]
) -> None:
    together, adapted, _ = trained
    unseen = sample_speech(true_model, 50, np.random.default_rng(98))
    features, speakers = spoken_by(unseen, distortions)
    plain, _ = align(together, features, unseen.transcripts, LENIENT)
    alignments, transforms, drops = align_adapted(adapted, features, unseen.transcripts, LENIENT, SAT.fmllr,
                                                  speakers=speakers)
    before, after = accuracy(together, plain, unseen), accuracy(adapted, alignments, unseen)
    assert after > 0.97 and 1 - after < 0.5 * (1 - before)
    assert drops.kept == len(alignments)
    assert transforms.fallbacks == ["short"] and transforms.supervision == "transcript"


def test_training_transforms_bring_speakers_together(
        trained: tuple[HmmModel, HmmModel, SpeakerTransforms], distortions: dict[str, np.ndarray]) -> None:
    """Up to one linear transform of all, which nothing determines, the distortions are undone."""
    _, adapted, transforms = trained
    assert transforms.gmm_digest == adapted.gmm_digest and transforms.supervision == "transcript"
    assert transforms.fallbacks == ["short"]
    names = [s for s in distortions if s != "short"]
    together = np.stack([compose(transforms.matrices[s], distortions[s]) for s in names])
    apart = np.stack([distortions[s] for s in names])
    assert together.std(axis=0).mean() < 0.35 * apart.std(axis=0).mean()


def test_gaussians_for_plain_features_pair_off_with_the_adapted_ones(
        trained: tuple[HmmModel, HmmModel, SpeakerTransforms], tmp_path: Path) -> None:
    _, adapted, transforms = trained
    independent = adapted.speaker_independent_gmm
    assert adapted.is_speaker_adapted and adapted.gmm is not None and independent is not None
    np.testing.assert_array_equal(independent.offsets, adapted.gmm.offsets)
    # Speakers differ, so without transforms the same speech is spread wider.
    assert independent.variances.mean() > 1.5 * adapted.gmm.variances.mean()
    adapted.save(tmp_path / "sat")
    transforms.save(tmp_path / "transforms")
    again = HmmModel.load(tmp_path / "sat")
    assert again.gmm_digest == adapted.gmm_digest and again.is_speaker_adapted
    found = SpeakerTransforms.load(tmp_path / "transforms", again.gmm_digest)
    assert found.matrices.keys() == transforms.matrices.keys()


def test_transforms_of_another_model_are_refused(
        trained: tuple[HmmModel, HmmModel, SpeakerTransforms], sampled: Sampled, distortions: dict[str, np.ndarray]
) -> None:
    together, adapted, transforms = trained
    features, speakers = spoken_by(sampled, distortions)
    with pytest.raises(InputError, match=f"{transforms.gmm_digest[:8]}.*{together.gmm_digest[:8]}"):
        align(together, features, sampled.transcripts, transforms=transforms, speakers=speakers)
    with pytest.raises(InputError, match="without speakers"):
        train_sat(features, {u: np.ones(len(x), np.int32) for u, x in features.items()}, sampled.transcripts,
                  adapted, SAT)


def test_workers_do_not_change_adapted_training(sampled: Sampled, true_model: HmmModel) -> None:
    ids = sorted(sampled.features)[:25]
    features = {u: sampled.features[u] for u in ids}
    speakers = {u: f"s{i % 3}" for i, u in enumerate(ids)}
    alignments, _ = align(true_model, features, {u: sampled.transcripts[u] for u in ids})
    config = SAT.model_copy(update={"num_passes": 4, "realign_passes": [2], "fmllr_passes": [2]})
    one, two = (train_sat(features, alignments, sampled.transcripts, true_model, config, workers=n, speakers=speakers)
                for n in (1, 3))
    assert one[0].gmm_digest == two[0].gmm_digest


def test_lda_and_mllt_keep_what_tells_phones_apart(sampled: Sampled, true_model: HmmModel) -> None:
    """Six values that matter hidden in ten, four of them loud noise, all mixed."""
    generator = np.random.default_rng(4)
    mixing = generator.standard_normal((10, 10))

    def hide(speech: Sampled) -> dict[str, np.ndarray]:
        return {u: np.column_stack([x, 20 * generator.standard_normal((len(x), 4))]).astype(np.float32)
                @ mixing.T.astype(np.float32) for u, x in speech.features.items()}

    alignments, _ = align(true_model, sampled.features, sampled.transcripts)
    config = LdaMlltConfig(left=0, right=0, dim=6, num_passes=8, realign_passes=[4], mllt_passes=[2, 3],
                           num_gaussians=80, last_split_pass=5, tree=TREE)
    model, report = train_lda_mllt(hide(sampled), alignments, sampled.transcripts, true_model, config)
    assert model.front_end.transform is not None and model.front_end.transform.shape == (6, 10)
    assert model.front_end(np.zeros((2, 10))).shape == (2, 6) and report.gain_per_frame > 1
    unseen = sample_speech(true_model, 30, np.random.default_rng(97))
    found, _ = align(model, hide(unseen), unseen.transcripts)
    assert accuracy(model, found, unseen) > 0.95


def test_splicing_is_part_of_the_front_end(sampled: Sampled, true_model: HmmModel) -> None:
    alignments, _ = align(true_model, sampled.features, sampled.transcripts)
    config = LdaMlltConfig(left=1, right=2, dim=8, num_passes=4, realign_passes=[2], mllt_passes=[2], num_gaussians=60,
                           last_split_pass=2, tree=TREE)
    model, _ = train_lda_mllt(sampled.features, alignments, sampled.transcripts, true_model, config)
    assert (model.front_end.left, model.front_end.right) == (1, 2)
    assert model.front_end.transform is not None and model.front_end.transform.shape == (8, 24)
    with pytest.raises(InputError, match="LDA to 500"):
        train_lda_mllt(sampled.features, alignments, sampled.transcripts, true_model,
                       config.model_copy(update={"dim": 500}))


def test_a_model_without_gaussians_has_nothing_to_adapt_to(sampled: Sampled, true_model: HmmModel) -> None:
    ones = {u: np.ones(len(x), np.int32) for u, x in sampled.features.items()}
    with pytest.raises(InputError, match="no Gaussians"):
        train_sat(sampled.features, ones, sampled.transcripts, replace(true_model, gmm=None), SAT,
                  speakers=dict.fromkeys(ones, "one"))
