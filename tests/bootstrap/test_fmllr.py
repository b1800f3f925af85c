from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from asr_kd.alignment.align import align
from asr_kd.bootstrap.fmllr import (
    FmllrConfig,
    FmllrStatistics,
    alignment_posteriors,
    compose,
    estimate_fmllr,
    silence_pdfs,
)
from asr_kd.core.errors import InputError
from asr_kd.features.affine import apply_affine
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm import DiagonalGmms
from asr_kd.hmm.model import HmmModel
from tests.hmm.test_gmm import random_gmms
from tests.hmm.toy import Sampled

CONFIG = FmllrConfig(min_frames=50, num_iterations=100)


def spoken(gmms: DiagonalGmms, frames: int = 600, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the Gaussians through a random affine transform, and the pdf of each."""
    generator = np.random.default_rng(seed)
    component = generator.integers(gmms.num_gaussians, size=frames)
    x = gmms.means[component] + np.sqrt(gmms.variances[component]) * generator.standard_normal((frames, gmms.dim))
    distortion = np.eye(gmms.dim) + 0.15 * generator.standard_normal((gmms.dim, gmms.dim))
    return (x @ distortion.T + generator.normal(0, 1, gmms.dim)).astype(np.float32), gmms.pdf_of_gaussian[component]


def gaussian_posteriors(gmms: DiagonalGmms, x: np.ndarray, pdfs: np.ndarray) -> np.ndarray:
    component = norm.logpdf(x[:, None].astype(np.float64), gmms.means, np.sqrt(gmms.variances)).sum(-1)
    component += np.log(gmms.weights)
    component[gmms.pdf_of_gaussian != pdfs[:, None]] = -np.inf
    component = np.exp(component - component.max(axis=1, keepdims=True))
    return component / component.sum(axis=1, keepdims=True)


def statistics_of(gmms: DiagonalGmms, x: np.ndarray, pdfs: np.ndarray) -> FmllrStatistics:
    statistics = FmllrStatistics(gmms)
    statistics.add(x, np.arange(len(x)), pdfs, np.ones(len(x)), gmms)
    return statistics


def test_statistics_equal_plain_sums() -> None:
    gmms = random_gmms(dim=4)
    x, pdfs = spoken(gmms)
    posteriors = gaussian_posteriors(gmms, x, pdfs)
    extended = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
    linear = (posteriors @ (gmms.means / gmms.variances)).T @ extended
    quadratic = np.einsum("td,ti,tj->dij", posteriors @ (1 / gmms.variances), extended, extended)
    found = statistics_of(gmms, x, pdfs)
    np.testing.assert_allclose(found.matrices()[0], linear, rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(found.matrices()[1], quadratic, rtol=1e-4, atol=0.05)
    assert found.frames == len(x)


@pytest.mark.parametrize("seed", range(4))
def test_the_transform_is_the_numerical_optimum(seed: int) -> None:
    gmms = random_gmms(seed, dim=3)
    statistics = statistics_of(gmms, *spoken(gmms, seed=seed))
    matrix, facts = statistics.solve(CONFIG)
    found = minimize(lambda w: -statistics.objective(w.reshape(3, 4)), np.eye(3, 4).ravel(), method="BFGS",
                     options={"gtol": 1e-3})
    assert statistics.objective(matrix) >= -found.fun - 1e-6 * abs(found.fun)
    np.testing.assert_allclose(matrix, found.x.reshape(3, 4), atol=2e-3)
    assert not facts.fallback
    assert facts.gain == pytest.approx((statistics.objective(matrix) - statistics.objective(np.eye(3, 4))) / 600)


def test_the_gain_is_that_of_the_expected_log_likelihood() -> None:
    gmms = random_gmms(dim=4)
    x, pdfs = spoken(gmms)
    posteriors = gaussian_posteriors(gmms, x, pdfs)
    matrix, facts = statistics_of(gmms, x, pdfs).solve(CONFIG)

    def expected(features: np.ndarray, log_det: float) -> float:
        scores = norm.logpdf(features[:, None], gmms.means, np.sqrt(gmms.variances)).sum(-1)
        return float((posteriors * scores).sum(axis=1).mean() + log_det)

    transformed = x @ matrix[:, :-1].T + matrix[:, -1]
    gain = expected(transformed, np.linalg.slogdet(matrix[:, :-1])[1]) - expected(x.astype(np.float64), 0.0)
    assert facts.gain == pytest.approx(gain, rel=1e-3)


def test_a_prior_keeps_the_transform_near_the_identity_where_frames_are_few() -> None:
    gmms = random_gmms(dim=4)
    statistics = statistics_of(gmms, *spoken(gmms))
    distances = []
    for prior in (0.0, 100.0, 1000.0, 1e7):
        matrix, facts = statistics.solve(with_prior(prior))
        assert not facts.fallback
        distances.append(float(np.abs(matrix - np.eye(4, 5)).max()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3 < distances[0]
    assert np.array_equal(statistics.solve(with_prior(0.0))[0], statistics.solve(CONFIG)[0])


def with_prior(prior: float) -> FmllrConfig:
    return CONFIG.model_copy(update={"prior_frames": prior})


def test_composing_is_applying_one_after_the_other() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((9, 4)).astype(np.float32)
    first, second = generator.standard_normal((2, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(apply_affine(x, compose(second, first)), apply_affine(apply_affine(x, first), second),
                               atol=1e-4)
    np.testing.assert_array_equal(compose(second, None), second)


@pytest.fixture(scope="module")
def speakers(sampled: Sampled) -> dict[str, str]:
    """Most utterances are of two speakers, the shortest one is all that the third has said."""
    ids = sorted(sampled.features, key=lambda u: len(sampled.features[u]))
    return {ids[0]: "short", **{u: f"spk{i % 2}" for i, u in enumerate(ids[1:])}}


@pytest.fixture(scope="module")
def distorted(sampled: Sampled, speakers: dict[str, str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    dim = next(iter(sampled.features.values())).shape[1]
    made = {s: np.column_stack([np.eye(dim) + 0.15 * generator.standard_normal((dim, dim)),
                                generator.normal(0, 2, dim)]) for s in sorted(set(speakers.values()))}
    return {u: apply_affine(x, made[speakers[u]]) for u, x in sampled.features.items()}, made


def estimated(model: HmmModel, sampled: Sampled, features: dict[str, np.ndarray], speakers: dict[str, str],
              initial: SpeakerTransforms | None = None) -> SpeakerTransforms:
    alignments, _ = align(model, sampled.features, sampled.transcripts)
    return estimate_fmllr(model, features, alignment_posteriors(alignments, model), sorted(features),
                          FmllrConfig(min_frames=100), initial=initial, supervision="transcript", speakers=speakers)


def test_transforms_undo_what_was_done_to_speakers(
        true_model: HmmModel, sampled: Sampled, speakers: dict[str, str],
        distorted: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    features, made = distorted
    transforms = estimated(true_model, sampled, features, speakers)
    assert transforms.supervision == "transcript" and transforms.gmm_digest == true_model.gmm_digest
    for speaker in ("spk0", "spk1"):
        np.testing.assert_allclose(compose(transforms.matrices[speaker], made[speaker]),
                                   np.eye(*made[speaker].shape), atol=0.15)
        assert transforms.facts[speaker].gain > 1


def test_a_speaker_of_half_a_second_keeps_the_identity_and_is_counted(
        true_model: HmmModel, sampled: Sampled, speakers: dict[str, str],
        distorted: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    transforms = estimated(true_model, sampled, distorted[0], speakers)
    assert transforms.fallbacks == ["short"]
    np.testing.assert_array_equal(transforms.matrices["short"], np.eye(6, 7))
    assert 0 < transforms.facts["short"].frames < 100 and transforms.facts["short"].gain == 0
    assert transforms.summary["fallbacks"] == 1 and transforms.summary["speakers"] == 3


def test_a_second_estimation_goes_on_from_the_first(
        true_model: HmmModel, sampled: Sampled, speakers: dict[str, str],
        distorted: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    once = estimated(true_model, sampled, distorted[0], speakers)
    twice = estimated(true_model, sampled, distorted[0], speakers, initial=once)
    for speaker in once.matrices:
        np.testing.assert_allclose(twice.matrices[speaker], once.matrices[speaker], atol=0.05)
    assert twice.facts["spk0"].gain < 0.05 * once.facts["spk0"].gain
    np.testing.assert_array_equal(twice.matrices["short"], once.matrices["short"])


def test_silence_is_weighted_down(true_model: HmmModel, sampled: Sampled) -> None:
    alignments, _ = align(true_model, sampled.features, sampled.transcripts)
    silence = silence_pdfs(true_model)
    assert 0 < silence.sum() < len(silence)
    posteriors = alignment_posteriors(alignments, true_model)
    counts = np.zeros(2)
    for utterance in alignments:
        counts += np.bincount(silence[posteriors(utterance)[1]].astype(int), minlength=2)
    one = dict.fromkeys(sampled.features, "one")
    for weight in (0.0, 0.01, 1.0):
        found = estimate_fmllr(true_model, sampled.features, posteriors, sorted(alignments),
                               FmllrConfig(silence_weight=weight), supervision="first-pass", speakers=one)
        assert found.facts["one"].frames == pytest.approx(counts[0] + weight * counts[1], rel=1e-4)


def test_workers_do_not_change_the_transforms(
        true_model: HmmModel, sampled: Sampled, speakers: dict[str, str],
        distorted: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    alignments, _ = align(true_model, sampled.features, sampled.transcripts)
    posteriors = alignment_posteriors(alignments, true_model)
    one, two = (estimate_fmllr(true_model, distorted[0], posteriors, sorted(alignments), supervision="first-pass",
                               speakers=speakers, workers=n) for n in (1, 3))
    for speaker in one.matrices:
        np.testing.assert_array_equal(one.matrices[speaker], two.matrices[speaker])


def test_what_does_not_belong_together_is_refused(true_model: HmmModel, sampled: Sampled) -> None:
    utterance = next(iter(sampled.features))
    one = dict.fromkeys(sampled.features, "one")

    def run(model: HmmModel = true_model, pdf: int = 0, **more: object) -> None:
        estimate_fmllr(model, sampled.features, lambda u: (np.array([0]), np.array([pdf]), np.ones(1)), [utterance],
                       supervision="transcript", **{"speakers": one, **more})  # type: ignore[arg-type]

    with pytest.raises(InputError, match="without speakers"):
        run(speakers=None)
    with pytest.raises(InputError, match="pdfs 10000"):
        run(pdf=10000)
    with pytest.raises(InputError, match="pair off"):
        run(posterior_gmm=random_gmms())
    with pytest.raises(InputError, match="no Gaussians"):
        run(replace(true_model, gmm=None))


def test_a_prior_of_no_frames_changes_nothing() -> None:
    gmms = random_gmms(dim=3)
    statistics = statistics_of(gmms, *spoken(gmms))
    without, facts = statistics.solve(CONFIG)
    matrix, facts_with = statistics.solve(CONFIG.model_copy(update={"prior_frames": 0.0}))
    np.testing.assert_array_equal(matrix, without)
    assert facts_with == facts
    # The least prior there is changes next to nothing.
    nearly, _ = statistics.solve(CONFIG.model_copy(update={"prior_frames": 1e-6}))
    np.testing.assert_allclose(nearly, without, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_transform_comes_nearer_to_the_identity_the_more_frames_the_prior_has(seed: int) -> None:
    gmms, identity = random_gmms(seed, dim=3), np.eye(3, 4)
    statistics = statistics_of(gmms, *spoken(gmms, seed=seed))
    priors = (0.0, 60.0, 600.0, 6e3, 6e4, 6e5, 6e8)
    solved = [statistics.solve(CONFIG.model_copy(update={"prior_frames": prior})) for prior in priors]
    distances = [np.linalg.norm(matrix - identity) for matrix, _ in solved]
    assert distances == sorted(distances, reverse=True) and len(set(distances)) == len(distances)
    np.testing.assert_allclose(solved[-1][0], identity, atol=1e-4)
    gains = [facts.gain for _, facts in solved]
    assert not any(facts.fallback for _, facts in solved)
    assert gains == sorted(gains, reverse=True) and gains[-1] >= 0


def test_a_prior_pulls_few_frames_further_than_many() -> None:
    gmms, config = random_gmms(dim=3), FmllrConfig(min_frames=10, num_iterations=100, prior_frames=200)
    x, pdfs = spoken(gmms, frames=2000)
    pulls = []
    for frames in (100, 2000):
        statistics = statistics_of(gmms, x[:frames], pdfs[:frames])
        free, _ = statistics.solve(config.model_copy(update={"prior_frames": 0.0}))
        held, _ = statistics.solve(config)
        pulls.append(np.linalg.norm(held - free) / np.linalg.norm(free - np.eye(3, 4)))
    assert pulls[0] > 2 * pulls[1]


def test_the_transform_with_a_prior_is_the_optimum_of_the_frames_and_the_priors_together() -> None:
    gmms, prior = random_gmms(dim=3), 150.0
    statistics = statistics_of(gmms, *spoken(gmms))
    linear, quadratic = statistics.matrices()
    frames, identity = statistics.frames, np.eye(3, 4)
    # By statistics of the prior in proportion to the speaker's own the identity is stationary: the gradient vanishes.
    prior_quadratic = prior / frames * quadratic
    prior_linear = np.stack([prior_quadratic[d] @ identity[d] - prior * identity[d] for d in range(3)])

    def loss(values: np.ndarray) -> float:
        matrix = values.reshape(3, 4)
        _, log_det = np.linalg.slogdet(matrix[:, :3])
        both = quadratic + prior_quadratic
        return -float((frames + prior) * log_det + (matrix * (linear + prior_linear)).sum()
                      - 0.5 * np.einsum("di,dij,dj->", matrix, both, matrix))

    optimum = minimize(loss, identity.ravel(), method="BFGS", options={"gtol": 1e-3})
    matrix, _ = statistics.solve(CONFIG.model_copy(update={"prior_frames": prior}))
    np.testing.assert_allclose(matrix, optimum.x.reshape(3, 4), atol=2e-3)
    free, _ = statistics.solve(CONFIG)
    assert np.abs(matrix - free).max() > 0.01
