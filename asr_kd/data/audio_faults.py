"""Faults of recorded speech that no decoder of audio files notices: silence, and clipped samples."""

import numpy as np

SILENT_BELOW = 10.0  # root mean square, on the scale of 16-bit samples: -70 dB
MOST_CLIPPED = 0.001  # share of samples


def audio_fault(samples: np.ndarray) -> str | None:
    """Say what makes samples (n,), on the scale of 16 bits, useless as speech; None where nothing does.

    Clipped samples have neighbours at the largest absolute value, too; whole speech has next to none of them.
    """
    if not len(samples) or float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) < SILENT_BELOW:
        return "silence"
    share = clipped_share(samples)
    return f"clipped ({100 * share:.1f} % of the samples)" if share > MOST_CLIPPED else None


def clipped_share(samples: np.ndarray) -> float:
    """The share of samples near the largest absolute value whose neighbours on both sides are there too."""
    largest = float(np.abs(samples).max(initial=0.0))
    at_top = np.abs(samples) >= 0.999 * largest - 0.5
    in_run = at_top[1:-1] & at_top[:-2] & at_top[2:]
    return float(np.count_nonzero(in_run) / len(samples)) if len(samples) else 0.0
