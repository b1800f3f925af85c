"""fMLLR: for each speaker the affine transform of features that fits them best to a model's Gaussians."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numba import njit
from pydantic import Field

from asr_kd.bootstrap.outer_products import symmetric, upper_products, upper_size
from asr_kd.core.config import AddedLater, Config
from asr_kd.core.errors import InputError
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads, one_blas_thread
from asr_kd.features.speaker_transforms import SpeakerFacts, SpeakerTransforms, Supervision
from asr_kd.hmm.gmm import DiagonalGmms, padded, sum_products
from asr_kd.hmm.gmm_scores import FeatureSource, gmm_for, gmm_inputs, speakers_of
from asr_kd.hmm.model import HmmModel

logger = get_logger(__name__)

# (frames, pdf-ids, weights) of one utterance: int (n,), int (n,), float (n,); a frame may occur with several pdfs.
PdfPosteriors = tuple[np.ndarray, np.ndarray, np.ndarray]

_BLOCK = 512


class FmllrConfig(Config):
    """Kaldi's `gmm-est-fmllr` settings.

    `silence_weight` multiplies the posteriors of silence phones' pdfs; a speaker whose posteriors then sum to less
    than `min_frames` keeps the identity (or the initial transform). `prior_frames`: so many frames more, as spread as
    the speaker's own, for which the identity is right: the fewer frames there are, the nearer to it the transform stays
    (ours; the maximum a posteriori estimate with a prior of as many observations).
    """

    silence_weight: float = Field(default=0.01, ge=0)
    min_frames: float = Field(default=500.0, ge=0)
    num_iterations: int = Field(default=40, gt=0)
    prior_frames: Annotated[float, AddedLater()] = Field(default=0.0, ge=0)


def estimate_fmllr(
    model: HmmModel,
    features: FeatureSource,
    posteriors: Callable[[str], PdfPosteriors],
    utterances: Sequence[str],
    config: FmllrConfig | None = None,
    *,
    initial: SpeakerTransforms | None = None,
    supervision: Supervision,
    posterior_gmm: DiagonalGmms | None = None,
    speakers: Mapping[str, str] | None = None,
    workers: int | None = None,
) -> SpeakerTransforms:
    """One transform for each speaker of `utterances`, towards `model.gmm`.

    `posteriors(utterance)`: which pdfs its frames belong to, from an alignment or a lattice. Each pdf's posterior is
    shared out to its Gaussians by `posterior_gmm`, which must have as many in each pdf as `model.gmm`; without it by
    the speaker-independent Gaussians on plain features (Kaldi's `gmm-post-to-gpost final.alimdl`) or, where `initial`
    transforms are given, by `model.gmm` on the features that those give. Estimation starts from `initial` then, and
    the result is both in one. An utterance that `posteriors` raises KeyError for is left out. InputError where
    speakers, dimensions or Gaussians do not belong together. Source: Gales (1998), section 3.3.
    """
    config = config or FmllrConfig()
    posterior_gmm = gmm_for(model, initial) if posterior_gmm is None else posterior_gmm
    target = model.gmm
    assert target is not None
    if not np.array_equal(target.offsets, posterior_gmm.offsets):
        raise InputError(f"Gaussian posteriors of {posterior_gmm.num_gaussians} Gaussians do not fit the "
                         f"{target.num_gaussians} of {model.name}: they must pair off")
    result = SpeakerTransforms(*fit_speakers(
        target, posterior_gmm, gmm_inputs(model, features, initial, speakers), posteriors, utterances,
        speakers_of(features, speakers), None if initial is None else initial.matrices, silence_pdfs(model), config,
        workers), supervision, model.gmm_digest)
    logger.info("fMLLR: %s", result.summary)
    return result


@one_blas_thread()
def fit_speakers(
    target: DiagonalGmms, posterior_gmm: DiagonalGmms, inputs: Callable[[str], np.ndarray],
    posteriors: Callable[[str], PdfPosteriors], utterances: Iterable[str], speaker_of: Mapping[str, str],
    initial: Mapping[str, np.ndarray] | None, silence: np.ndarray, config: FmllrConfig, workers: int | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, SpeakerFacts]]:
    """Speaker -> transform `(dim, dim + 1)` and facts: what `estimate_fmllr` does, for Gaussians of no model yet.

    `inputs(utterance)` is what `initial` transforms (speaker -> matrix) have made of it already; `silence` `(pdfs,)`.
    """
    of_speaker: dict[str, list[str]] = {}
    for utterance in utterances:
        of_speaker.setdefault(speaker_of[utterance], []).append(utterance)

    def one_speaker(speaker: str) -> tuple[np.ndarray, SpeakerFacts]:
        statistics = FmllrStatistics(target)
        for utterance in of_speaker[speaker]:
            try:
                frames, pdfs, weights = posteriors(utterance)
            except KeyError:
                continue
            matrix = inputs(utterance)
            if len(frames) == 0:
                continue
            for values, count, what in ((frames, len(matrix), "frames"), (pdfs, target.num_pdfs, "pdfs")):
                if not 0 <= np.min(values) <= np.max(values) < count:
                    raise InputError(f"{utterance}: posteriors of {what} {np.min(values)}..{np.max(values)}, there are "
                                     f"{count}")
            weights = np.where(silence[pdfs], config.silence_weight, 1.0) * weights
            statistics.add(matrix, frames, pdfs, weights, posterior_gmm)
        matrix, facts = statistics.solve(config)
        return compose(matrix, None if initial is None else initial[speaker]), facts

    names = sorted(of_speaker)
    found = dict(zip(names, map_threads(one_speaker, names, workers, "fMLLR", "spk"), strict=True))
    return {s: matrix for s, (matrix, _) in found.items()}, {s: facts for s, (_, facts) in found.items()}


def alignment_posteriors(alignments: Mapping[str, np.ndarray], model: HmmModel) -> Callable[[str], PdfPosteriors]:
    """Every frame's pdf in an alignment (utterance -> transition-ids of `model`) with weight one."""
    pdf_ids = model.transitions.pdf_ids

    def posteriors(utterance: str) -> PdfPosteriors:
        pdfs = pdf_ids[alignments[utterance]]
        return np.arange(len(pdfs)), pdfs, np.ones(len(pdfs), dtype=np.float32)

    return posteriors


def silence_pdfs(model: HmmModel) -> np.ndarray:
    """Return True for each pdf of a silence phone, `(pdfs,)`."""
    result = np.zeros(model.tree.num_pdfs, dtype=bool)
    transitions = model.transitions
    result[transitions.pdf_ids[1:][np.isin(transitions.phones[1:], sorted(model.phones.silence))]] = True
    return result


def compose(second: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """The affine transform `(dim, dim + 1)` float32 that applies `first`, then `second`."""
    if first is None:
        return second.astype(np.float32)
    result = second[:, :-1].astype(np.float64) @ first.astype(np.float64)
    result[:, -1] += second[:, -1]
    return result.astype(np.float32)


@dataclass
class FmllrStatistics:
    """Statistics of a speaker's frames for the rows of the transform, for Gaussians `target`.

    With x the frame and 1 appended, and sums over frames and Gaussians by posterior: `linear` (dim, dim + 1) sums
    mean / variance · x; `quadratic` (dim, …) sums 1 / variance · x xᵀ, upper triangle row by row.
    """

    target: DiagonalGmms
    frames: float = 0.0
    linear: np.ndarray = field(init=False)
    quadratic: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        width = self.target.dim + 1
        self.linear = np.zeros((self.target.dim, padded(width)))
        self.quadratic = np.zeros((self.target.dim, padded(upper_size(width))))

    def add(self, matrix: np.ndarray, frames: np.ndarray, pdfs: np.ndarray, weights: np.ndarray,
            posterior_gmm: DiagonalGmms) -> None:
        """One utterance `matrix` (frames, dim); `posterior_gmm` shares the pdfs' weights out to Gaussians."""
        target = self.target
        frames = np.asarray(frames, dtype=np.int64)
        scored = np.ascontiguousarray(matrix, dtype=np.float32)
        inverse = np.zeros((target.dim, len(matrix)), dtype=np.float32)
        pulled = np.zeros((target.dim, len(matrix)), dtype=np.float32)
        quadratic, constants = posterior_gmm.coefficients
        precisions, weighted_means = target.natural_parameters
        _sum_over_gaussians(scored, frames, np.asarray(pdfs, dtype=np.int64),
                            np.asarray(weights, dtype=np.float32), posterior_gmm.offsets, quadratic, constants,
                            precisions, weighted_means, inverse, pulled)
        self.frames += float(np.sum(weights, dtype=np.float64))
        width = target.dim + 1
        for begin in range(0, len(matrix), _BLOCK):
            part = matrix[begin : begin + _BLOCK]
            extended = np.zeros((padded(width), len(part)), dtype=np.float32)
            extended[: target.dim] = part.T
            extended[target.dim] = 1.0
            products = upper_products(extended[:width])
            columns = slice(begin, begin + len(part))
            sum_products(np.ascontiguousarray(pulled[:, columns]), extended, self.linear)
            sum_products(np.ascontiguousarray(inverse[:, columns]), products, self.quadratic)

    def solve(self, config: FmllrConfig) -> tuple[np.ndarray, SpeakerFacts]:
        """The transform `(dim, dim + 1)` float64 and its facts; the identity where the statistics carry none."""
        dim = self.target.dim
        identity = np.eye(dim, dim + 1)
        fallback = identity, SpeakerFacts(self.frames, True, 0.0)
        if self.frames < config.min_frames or self.frames == 0:
            return fallback
        linear, quadratic = self.matrices()
        frames = self.frames + config.prior_frames
        if config.prior_frames:
            linear, quadratic = self._with_prior(linear, quadratic, config.prior_frames)
        try:
            inverses = np.linalg.inv(quadratic)
        except np.linalg.LinAlgError:
            return fallback
        matrix = identity.copy()
        for _ in range(config.num_iterations):
            _update_rows(matrix, np.linalg.inv(matrix[:, :dim]), inverses, np.ascontiguousarray(linear), frames)
        gain = self.objective(matrix) - self.objective(identity)
        if not (np.isfinite(matrix).all() and gain >= 0):
            return fallback
        return matrix, SpeakerFacts(self.frames, False, float(gain / self.frames))

    def _with_prior(self, linear: np.ndarray, quadratic: np.ndarray, prior: float) -> tuple[np.ndarray, np.ndarray]:
        """Statistics with so many frames more by which the identity is stationary.

        The gradient of the auxiliary function by row d of the transform at the identity is frames · e_d + linear_d -
        quadratic_d e_d. It vanishes for frames whose quadratic statistics are in proportion to the speaker's own and
        whose linear ones are quadratic_d e_d - frames · e_d.
        """
        share = prior / self.frames
        rows = np.arange(self.target.dim)
        added = share * quadratic[rows, :, rows]
        added[rows, rows] -= prior
        return linear + added, quadratic * (1 + share)

    def objective(self, matrix: np.ndarray) -> float:
        """The auxiliary function of a transform `(dim, dim + 1)`, up to a constant; Gales (1998), equation 33."""
        linear, quadratic = self.matrices()
        _, log_det = np.linalg.slogdet(matrix[:, :-1])
        return float(self.frames * log_det + (matrix * linear).sum()
                     - 0.5 * np.einsum("di,dij,dj->", matrix, quadratic, matrix))

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """The sums as `(dim, dim + 1)` and symmetric `(dim, dim + 1, dim + 1)`."""
        width = self.target.dim + 1
        return self.linear[:, :width], symmetric(self.quadratic, width)


@njit(nogil=True, cache=True, fastmath={"nsz", "arcp", "contract", "reassoc"})
def _sum_over_gaussians(matrix, frames, pdfs, weights, offsets, quadratic, constants, precisions, weighted_means,  # type: ignore[no-untyped-def]
                        inverse, pulled):
    """Add to `inverse` and `pulled` (dim, frames) the posterior sums of 1 / variance and mean / variance."""
    dim = matrix.shape[1]
    scores = np.empty(np.max(np.diff(offsets)), dtype=np.float32)
    sums = np.empty(2 * dim, dtype=np.float32)
    for n in range(len(frames)):
        if weights[n] == 0.0:
            continue
        x = matrix[frames[n]]
        begin, end = offsets[pdfs[n]], offsets[pdfs[n] + 1]
        best = np.float32(-np.inf)
        for g in range(begin, end):
            score = constants[g]
            row = quadratic[g]
            for d in range(dim):
                score += (row[d] + row[dim + d] * x[d]) * x[d]
            scores[g - begin] = score
            best = max(best, score)
        total = np.float32(0.0)
        for g in range(end - begin):
            scores[g] = np.exp(scores[g] - best)
            total += scores[g]
        sums[:] = 0.0
        for g in range(begin, end):
            share = weights[n] * scores[g - begin] / total
            for d in range(dim):
                sums[d] += share * precisions[g, d]
                sums[dim + d] += share * weighted_means[g, d]
        for d in range(dim):
            inverse[d, frames[n]] += sums[d]
            pulled[d, frames[n]] += sums[dim + d]


@njit(nogil=True, cache=True)
def _update_rows(matrix, inverse, inverses, linear, frames):  # type: ignore[no-untyped-def]
    """Each row of `matrix` (dim, dim + 1) in turn to its optimum, the others fixed.

    `inverse` is that of the square part, kept up to date; `inverses` (dim, dim + 1, dim + 1) those of the quadratic
    statistics. Gales (1998), equations 36 to 39.
    """
    dim = matrix.shape[0]
    cofactors = np.zeros(dim + 1)
    for d in range(dim):
        cofactors[:dim] = inverse[:, d]
        turned = inverses[d] @ cofactors
        best = inverses[d] @ linear[d]
        a = cofactors @ turned
        b = cofactors @ best
        root = np.sqrt(b * b + 4.0 * a * frames)
        step, value = 0.0, -np.inf
        for candidate in ((-b + root) / (2.0 * a), (-b - root) / (2.0 * a)):
            found = frames * np.log(abs(candidate * a + b)) - 0.5 * candidate * candidate * a
            if found > value:
                step, value = candidate, found
        change = best + step * turned - matrix[d]
        matrix[d] += change
        moved = change[:dim] @ inverse
        column = inverse[:, d].copy()
        denominator = 1.0 + change[:dim] @ column
        for i in range(dim):
            for j in range(dim):
                inverse[i, j] -= column[i] * moved[j] / denominator
