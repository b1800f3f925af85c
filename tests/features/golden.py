"""Kaldi's outputs on the golden wavs, and how equal is equal."""

from pathlib import Path

import numpy as np
import soundfile


def read_wav(golden: Path, utterance_id: str) -> np.ndarray:
    """`(samples,)` float32 in 16-bit scale."""
    return soundfile.read(golden / "wav" / f"{utterance_id}.wav", dtype="int16")[0].astype(np.float32)


def read_matrices(golden: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(golden / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def quantiles(ours: dict[str, np.ndarray], kaldis: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest, 99.9 %, 99 % and median absolute difference over all values of a file."""
    assert ours.keys() == kaldis.keys()
    for key in ours:
        assert ours[key].shape == kaldis[key].shape, key
    differences = np.concatenate([np.abs(ours[key].astype(np.float64) - kaldis[key]).ravel() for key in ours])
    return {"max": float(differences.max()), "99.9 %": float(np.quantile(differences, 0.999)),
            "99 %": float(np.quantile(differences, 0.99)), "median": float(np.median(differences))}
