"""A map from confidences to probabilities, fitted on one set (dev), kept as JSON, applied to another (test)."""

from pathlib import Path
from typing import Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from asr_kd.core.cards import read_card
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import write_json
from asr_kd.scoring.confidence import WordConfidences

Kind = Literal["identity", "platt", "isotonic"]
KINDS: tuple[Kind, ...] = ("identity", "platt", "isotonic")

_FOLDS = 5
_FLOOR = 1e-6


class Calibration(Config):
    """`platt`: sigmoid(slope · logit(confidence) + intercept). `isotonic`: straight lines between the knots
    (confidences, probabilities), flat beyond them. `identity` changes nothing.

    `words`, `text_filter` and `alignment` say on what it was fitted; `losses` the mean cross entropy (nats a word)
    of each kind on held-out speakers, by which the kind was chosen.
    """

    version: Literal[1] = 1
    kind: Kind
    slope: float = 1.0
    intercept: float = 0.0
    confidences: list[float] = Field(default_factory=list)
    probabilities: list[float] = Field(default_factory=list)
    words: int = Field(0, ge=0)
    text_filter: str = "none-1"
    alignment: Literal["unit", "sclite"] = "unit"
    losses: dict[Kind, float] = Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _check(self) -> "Calibration":
        xs, ys = np.array(self.confidences), np.array(self.probabilities)
        if self.kind == "isotonic" and (
            not len(xs) or len(xs) != len(ys) or (np.diff(xs) <= 0).any() or (np.diff(ys) < 0).any()
        ):
            raise ValueError("expected as many rising confidences as probabilities that do not fall, one at least")
        if len(ys) and (ys.min() < 0 or ys.max() > 1):
            raise ValueError("expected probabilities from 0 to 1")
        if self.slope < 0:
            raise ValueError("slope: expected from 0 (a higher confidence is never less probable)")
        return self

    def __call__(self, confidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the confidences, (words,) float64."""
        if self.kind == "platt":
            return _sigmoid(self.slope * _logit(confidence) + self.intercept)
        if self.kind == "isotonic":
            return np.interp(confidence, self.confidences, self.probabilities)
        return np.asarray(confidence, np.float64)


def fit_calibration(
    words: WordConfidences,
    kinds: tuple[Kind, ...] = KINDS,
    *,
    text_filter: str = "none-1",
    alignment: Literal["unit", "sclite"] = "unit",
) -> Calibration:
    """The map of the kind that has the lowest cross entropy on held-out speakers (five folds), fitted on all words.

    With one speaker the first kind that can be fitted is not tried out: Platt's if it is among `kinds`. InputError:
    all words right or all wrong.
    """
    if len(np.unique(words.correct)) < 2:
        raise InputError("calibration: all words are right or all are wrong; expected both, to tell them apart")
    losses = {kind: _held_out_loss(kind, words) for kind in kinds} if len(set(words.speaker)) > 1 else {}
    chosen = min(losses, key=lambda kind: losses[kind]) if losses else ("platt" if "platt" in kinds else kinds[0])
    fitted = _fit(chosen, words.confidence, words.correct)
    return fitted.model_copy(update={
        "words": len(words.correct), "text_filter": text_filter, "alignment": alignment, "losses": losses
    })


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON, atomically."""
    write_json(Path(path), calibration.model_dump(mode="json"))


def read_calibration(path: Path) -> Calibration:
    """Read a map; InputError names the file and the key that is missing, unknown or wrong."""
    return read_card(path, Calibration, "not a calibration of confidences")


def _held_out_loss(kind: Kind, words: WordConfidences) -> float:
    speakers = np.array(words.speaker)
    names = np.unique(speakers)
    fold = np.searchsorted(names, speakers) % min(_FOLDS, len(names))
    loss = 0.0
    for number in np.unique(fold):
        held = fold == number
        probability = _fit(kind, words.confidence[~held], words.correct[~held])(words.confidence[held])
        clipped = np.clip(probability, _FLOOR, 1 - _FLOOR)
        loss -= float(np.log(np.where(words.correct[held], clipped, 1 - clipped)).sum())
    return loss / len(fold)


def _fit(kind: Kind, confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Calibration:
    if kind == "platt":
        return _fit_platt(confidence, correct)
    if kind == "isotonic":
        return _fit_isotonic(confidence, correct)
    return Calibration(kind="identity")


def _fit_platt(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Calibration:
    """Maximum likelihood with the softened targets of Platt (1999), which keep it finite where words are separable."""
    from scipy.optimize import minimize

    right = int(correct.sum())
    target = np.where(correct, (right + 1) / (right + 2), 1 / (len(correct) - right + 2))
    x = _logit(confidence)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * x + parameters[1]
        error = _sigmoid(z) - target
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([(error * x).mean(), error.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return Calibration(kind="platt", slope=float(found.x[0]), intercept=float(found.x[1]))


def _fit_isotonic(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Calibration:
    """Pool adjacent violators; a knot at both ends of each level; never surer than the number of words allows."""
    from scipy.optimize import isotonic_regression

    xs, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=correct) / counts
    level = isotonic_regression(share, weights=counts).x
    level = np.clip(level, 1 / (len(correct) + 2), 1 - 1 / (len(correct) + 2))
    change = np.diff(level) != 0
    edge = np.concatenate(([True], change)) | np.concatenate((change, [True]))
    return Calibration(kind="isotonic", confidences=xs[edge].tolist(), probabilities=level[edge].tolist())


def _logit(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(confidence, _FLOOR, 1 - _FLOOR)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * x))
