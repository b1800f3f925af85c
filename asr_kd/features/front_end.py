"""From the features of a frame store to the inputs of Gaussians: derivatives, splicing, one global transform."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.features.affine import apply_affine
from asr_kd.features.deltas import add_deltas


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """The steps that every speaker's frames go through, in the order of the fields.

    `delta_order` derivatives are appended; `left` frames back to `right` ahead are joined to one vector (edge frames
    repeated); `transform` float32 `(out, width)` or `(out, width + 1)`, an offset in the last column, is applied.
    """

    delta_order: int = 0
    left: int = 0
    right: int = 0
    transform: np.ndarray | None = None

    def __post_init__(self) -> None:
        if min(self.delta_order, self.left, self.right) < 0:
            raise ValueError("derivatives and neighbours are counted from zero")
        if self.transform is None and self.left + self.right:
            raise ValueError("a front end that splices needs a transform")
        if self.transform is not None:
            if self.transform.ndim != 2 or not np.isfinite(self.transform).all():
                raise ValueError(f"a transform of shape {self.transform.shape} must be a finite matrix")
            object.__setattr__(self, "transform", np.ascontiguousarray(self.transform, dtype=np.float32))

    @staticmethod
    def identity() -> "FrontEnd":
        """The features as they are."""
        return FrontEnd()

    @staticmethod
    def deltas(order: int = 2) -> "FrontEnd":
        """The features and their derivatives."""
        return FrontEnd(delta_order=order)

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """`(frames, dim)` to `(frames, out)` float32. ValueError where `dim` is not the transform's."""
        if matrix.ndim != 2:
            raise ValueError(f"features of shape {matrix.shape}, expected (frames, dim)")
        if self.delta_order:
            matrix = add_deltas(matrix, self.delta_order)
        if self.transform is None:
            return matrix.astype(np.float32, copy=False)
        return apply_affine(matrix, self.transform, self.left, self.right)

    def followed_by(self, transform: np.ndarray) -> "FrontEnd":
        """The front end with one more linear transform `(out, out)` behind its own (as MLLT is behind LDA)."""
        if self.transform is None:
            raise ValueError("a front end without a transform has none to compose with")
        composed = transform.astype(np.float64) @ self.transform.astype(np.float64)
        return replace(self, transform=composed.astype(np.float32))

    @property
    def digest(self) -> str:
        """Names what is done, numbers included."""
        numbers = None if self.transform is None else hash_bytes(self.transform.tobytes())
        return hash_json({**self.as_json(), "numbers": numbers})

    def as_json(self) -> dict[str, Any]:
        """All but the transform's numbers as JSON values."""
        shape = None if self.transform is None else list(self.transform.shape)
        return {"delta_order": self.delta_order, "left": self.left, "right": self.right, "transform_shape": shape}

    @staticmethod
    def from_json(value: dict[str, Any], transform: np.ndarray | None) -> "FrontEnd":
        """The front end that `as_json` described; ValueError where the transform has another shape."""
        if (None if transform is None else list(transform.shape)) != value["transform_shape"]:
            raise ValueError(f"the front end has a transform of shape {value['transform_shape']}, "
                             f"found {None if transform is None else list(transform.shape)}")
        return FrontEnd(value["delta_order"], value["left"], value["right"], transform)
