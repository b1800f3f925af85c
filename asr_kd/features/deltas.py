"""Derivatives over time."""

import numpy as np


def add_deltas(features: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    """`(frames, dim)` to `(frames, (order + 1) * dim)` float32: static values, then derivatives.

    Derivatives of derivatives are taken as one filter on the static values, and the edge frames are repeated
    beyond both edges. Source: Kaldi's add-deltas (DeltaFeatures).
    """
    features = np.asarray(features, dtype=np.float32)
    frames, dim = features.shape
    ramp = np.arange(-window, window + 1, dtype=np.float64)
    slope = ramp / (ramp**2).sum()
    result = np.empty((frames, (order + 1) * dim), dtype=np.float32)
    result[:, :dim] = features
    taps = np.ones(1)
    for k in range(1, order + 1):
        taps = np.convolve(taps, slope)
        reach = k * window
        padded = np.pad(features, ((reach, reach), (0, 0)), mode="edge") if frames else features
        derivative = np.zeros((frames, dim))
        for i, weight in enumerate(taps):
            if weight:
                derivative += weight * padded[i : i + frames]
        result[:, k * dim : (k + 1) * dim] = derivative
    return result
