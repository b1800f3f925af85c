"""Affine transforms of features, one for each speaker (fMLLR), and where they come from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from asr_kd.core.arrays import read_tensors, write_tensors
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_bytes, hash_json, read_json, write_json
from asr_kd.core.own_folders import FolderKind
from asr_kd.core.reading import parsing
from asr_kd.features.affine import apply_affine

Supervision = Literal["transcript", "first-pass"]

_FORMAT = 1
_JSON, _NUMBERS = "transforms.json", "transforms.safetensors"
_TRANSFORMS = FolderKind("folder of speaker transforms", (_JSON, _NUMBERS))


@dataclass(frozen=True)
class SpeakerFacts:
    """The origin of a speaker's transform.

    `frames`: sum of posteriors; `fallback`: they were too few, the transform is the identity (or the initial one);
    `gain`: growth of the log-likelihood, Jacobian included, per frame.
    """

    frames: float
    fallback: bool
    gain: float


@dataclass(frozen=True, eq=False)
class SpeakerTransforms:
    """Speaker -> float32 `(dim, dim + 1)`: the last column is added to the product of the others with a frame.

    `supervision` says whether a transcript or our own first pass told what was spoken; `gmm_digest` names the
    Gaussians that the transforms fit speakers to.
    """

    matrices: Mapping[str, np.ndarray]
    facts: Mapping[str, SpeakerFacts]
    supervision: Supervision
    gmm_digest: str

    def __post_init__(self) -> None:
        if self.matrices.keys() != self.facts.keys():
            raise ValueError("transforms and facts are not of the same speakers")
        for speaker, matrix in self.matrices.items():
            if matrix.shape != (self.dim, self.dim + 1) or not np.isfinite(matrix).all():
                raise ValueError(f"speaker {speaker}: a transform of shape {matrix.shape}, expected a finite "
                                 f"{(self.dim, self.dim + 1)}")

    @property
    def dim(self) -> int:
        return len(next(iter(self.matrices.values()))) if self.matrices else 0

    @property
    def fallbacks(self) -> list[str]:
        """The speakers that had too few frames for a transform of their own, sorted."""
        return sorted(s for s, facts in self.facts.items() if facts.fallback)

    @property
    def summary(self) -> dict[str, float]:
        """Speakers, how many fell back, frames, and the mean gain per frame of the others."""
        own = [f for f in self.facts.values() if not f.fallback]
        frames = sum(f.frames for f in own)
        return {"speakers": len(self.facts), "fallbacks": len(self.fallbacks),
                "frames": sum(f.frames for f in self.facts.values()),
                "gain_per_frame": sum(f.gain * f.frames for f in own) / frames if frames else 0.0}

    def apply(self, matrix: np.ndarray, speaker: str) -> np.ndarray:
        """The front end's `(frames, dim)` of one speaker, transformed; float32.

        InputError where the speaker has no transform, or the dimension is another one.
        """
        if speaker not in self.matrices:
            raise InputError(f"no transform of speaker {speaker} among those of {len(self.matrices)} speakers; "
                             "estimate transforms of these utterances' speakers")
        if matrix.ndim != 2 or matrix.shape[1] != self.dim:
            raise InputError(f"speaker {speaker}: features of shape {matrix.shape}, the transforms are for "
                             f"(frames, {self.dim})")
        return apply_affine(matrix, self.matrices[speaker])

    def check_gmm(self, gmm_digest: str, name: str = "these transforms") -> None:
        """InputError where the transforms were estimated for other Gaussians."""
        if gmm_digest != self.gmm_digest:
            raise InputError(f"{name}: estimated for the Gaussians {self.gmm_digest[:8]}, not for "
                             f"{gmm_digest[:8]}; estimate them again with this model")

    def save(self, folder: Path) -> None:
        """Write `transforms.json` and `transforms.safetensors` to a folder that is whole or absent."""
        speakers = sorted(self.matrices)
        shape = (len(speakers), self.dim, self.dim + 1)
        stacked = np.array([self.matrices[s] for s in speakers], dtype=np.float32).reshape(shape)
        with atomic_folder(Path(folder), _TRANSFORMS) as temporary:
            description = {
                "format": _FORMAT, "supervision": self.supervision, "gmm_digest": self.gmm_digest,
                "content": hash_bytes(stacked.tobytes()),
                "speakers": [{"speaker": s, **asdict(self.facts[s])} for s in speakers]}
            write_json(temporary / _JSON, {**description, "digest": hash_json(description)})
            write_tensors(temporary / _NUMBERS, {"transforms": stacked})

    @staticmethod
    def load(folder: Path, gmm_digest: str | None = None) -> "SpeakerTransforms":
        """Read what `save` wrote.

        InputError where a file is missing or damaged, or (given `gmm_digest`) where they fit other Gaussians.
        """
        path = Path(folder) / _JSON
        value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise InputError(f"{path}: not speaker transforms of format {_FORMAT}; estimate them again")
        with parsing(folder, "speaker transforms", "estimate them again"):
            stacked = read_tensors(path.with_name(_NUMBERS))["transforms"]
            digest = value.get("digest")  # transforms of before have none
            if digest is not None and hash_json({k: v for k, v in value.items() if k != "digest"}) != digest:
                raise InputError(f"{path}: content and digest differ (edited by hand?); estimate them again")
            if stacked.ndim != 3 or stacked.dtype != np.float32:
                raise ValueError(f"transforms of shape {stacked.shape}, {stacked.dtype}")
            rows = value["speakers"]
            if hash_bytes(stacked.tobytes()) != value["content"] or len(rows) != len(stacked):
                raise ValueError("content and digest differ")
            if value["supervision"] not in ("transcript", "first-pass"):
                raise ValueError(f"supervision {value['supervision']!r}")
            result = SpeakerTransforms(
                {row["speaker"]: stacked[i] for i, row in enumerate(rows)},
                {row["speaker"]: SpeakerFacts(row["frames"], row["fallback"], row["gain"]) for row in rows},
                value["supervision"], value["gmm_digest"])
        if gmm_digest is not None:
            result.check_gmm(gmm_digest, str(folder))
        return result
