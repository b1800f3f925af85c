"""Log-mel filterbanks and MFCC, equal to Kaldi's compute-fbank-feats and compute-mfcc-feats.

One pass a stage over all frames of an utterance: framing and windowing, FFT (scipy, float32), mel filterbank,
DCT. Everything releases the interpreter lock and uses one thread.
"""

import zlib

import numpy as np
import scipy.fft
from numba import njit

from asr_kd.core.errors import InputError
from asr_kd.features.config import FeatureConfig

# The smallest float32 step at 1, Kaldi's floor under every logarithm.
EPSILON = float(np.finfo(np.float32).eps)
# Frames worked on at a time: few enough to stay in the cache, enough to hide the calls.
_BLOCK = 256


class FeatureExtractor:
    """Turns the samples of an utterance into static features, as `config` says.

    Normalisation and deltas are not done here. Safe to share between threads. A filterbank with so many bins
    that one gets no frequency raises InputError.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        self.dim = config.static_dim
        self._window = window_function(config.window, config.window_size)
        self._fft_size = 1 << (config.window_size - 1).bit_length()
        self._begins, self._widths, self._weights = mel_filterbank(
            config.num_mel_bins, self._fft_size, config.sampling_rate, config.low_freq, config.high_cutoff
        )
        self._roots = _roots_of_unity(self._fft_size)
        self._dct = lifted_dct(config.num_ceps, config.num_mel_bins, config.cepstral_lifter)

    def num_frames(self, num_samples: int) -> int:
        """Frames in `num_samples` samples (Kaldi's NumFrames)."""
        size, shift = self.config.window_size, self.config.window_shift
        if self.config.snip_edges:
            return 0 if num_samples < size else 1 + (num_samples - size) // shift
        return (num_samples + shift // 2) // shift

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """`(samples,)` at the config's sampling rate, in 16-bit scale, to `(frames, dim)` float32.

        Audio shorter than a frame gives no frames.
        """
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if self.config.dither:
            # Seeded by the audio, so that features stay a function of audio and config.
            noise = np.random.default_rng(zlib.crc32(samples.tobytes()))
            samples = samples + np.float32(self.config.dither) * noise.standard_normal(len(samples), np.float32)
        features = np.empty((self.num_frames(len(samples)), self.dim), dtype=np.float32)
        for begin in range(0, len(features), _BLOCK):
            self._fill(samples, begin, features[begin : begin + _BLOCK])
        return features

    def _fill(self, samples: np.ndarray, first_frame: int, features: np.ndarray) -> None:
        config = self.config
        frames = np.empty((len(features), self._fft_size), dtype=np.float32)
        energy = np.empty(len(features), dtype=np.float32)
        begin = first_frame * config.window_shift
        if not config.snip_edges:
            begin += config.window_shift // 2 - config.window_size // 2
        _window_frames(
            samples, begin, config.window_shift, self._window, config.preemphasis, config.remove_dc_offset,
            config.raw_energy, frames, energy,
        )
        packed = scipy.fft.fft(frames.view(np.complex64), axis=1, overwrite_x=True)
        log_mel = np.empty((len(features), config.num_mel_bins), dtype=np.float32)
        _mel_energies(packed.view(np.float32), self._roots, self._begins, self._widths, self._weights, log_mel)
        np.log(log_mel, out=log_mel)
        if config.kind == "mfcc":
            _project(log_mel, self._dct, features)
        else:
            features[:, int(config.use_energy) :] = log_mel
        if config.use_energy:
            features[:, 0] = np.log(np.maximum(energy, max(EPSILON, config.energy_floor)))


def window_function(name: str, size: int) -> np.ndarray:
    """The `(size,)` analysis window; "povey" is Hann to the power 0.85 (Kaldi's FeatureWindowFunction)."""
    phase = 2 * np.pi * np.arange(size) / (size - 1)
    windows = {
        "povey": (0.5 - 0.5 * np.cos(phase)) ** 0.85,
        "hanning": 0.5 - 0.5 * np.cos(phase),
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "rectangular": np.ones(size),
    }
    return windows[name].astype(np.float32)


def mel_filterbank(
    num_bins: int, fft_size: int, sampling_rate: int, low_freq: float, high_freq: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Triangular filters, equally spaced in mel (Kaldi's MelBanks): first FFT bin, width and weights of each.

    Shapes `(num_bins,)`, `(num_bins,)` and `(num_bins, widest)`. A filter that no FFT bin falls into raises
    InputError.
    """
    # In float32 throughout, as Kaldi's: the weights of narrow filters feel the difference.
    mel = _mel(np.arange(fft_size // 2) * (sampling_rate / fft_size))
    low, high = _mel(np.array([low_freq, high_freq]))
    edges = low + np.arange(num_bins + 2, dtype=np.float32) * ((high - low) / np.float32(num_bins + 1))
    left, centre, right = (edges[i : i + num_bins, None] for i in range(3))
    weights = np.where(mel <= centre, (mel - left) / (centre - left), (right - mel) / (right - centre))
    inside = (mel > left) & (mel < right)
    widths = inside.sum(axis=1)
    if not widths.all():
        raise InputError(
            f"num_mel_bins {num_bins}: no FFT bin of {sampling_rate / fft_size:g} Hz falls into filter "
            f"{int(np.argmin(widths))}; use fewer bins or a longer frame_length"
        )
    begins = inside.argmax(axis=1)
    packed = np.zeros((num_bins, int(widths.max())), dtype=np.float32)
    for row, begin, width in zip(range(num_bins), begins, widths, strict=True):
        packed[row, :width] = weights[row, begin : begin + width]
    return begins, widths, packed


def lifted_dct(num_ceps: int, num_mel_bins: int, lifter: float) -> np.ndarray:
    """`(num_mel_bins, num_ceps)`: orthonormal DCT-II, cepstra scaled by the lifter (Kaldi's ComputeLifterCoeffs)."""
    order, bins = np.arange(num_ceps), np.arange(num_mel_bins)[:, None]
    dct = np.sqrt(2.0 / num_mel_bins) * np.cos(np.pi / num_mel_bins * (bins + 0.5) * order)
    dct[:, 0] = np.sqrt(1.0 / num_mel_bins)
    if lifter:
        dct *= 1.0 + 0.5 * lifter * np.sin(np.pi * order / lifter)
    return dct.astype(np.float32)


def _mel(frequency: np.ndarray) -> np.ndarray:
    return np.float32(1127) * np.log(np.float32(1) + frequency.astype(np.float32) / np.float32(700))


def _roots_of_unity(size: int) -> np.ndarray:
    """`exp(-2 pi i k / size)` for k = 0..size/4 as `(size/4 + 1, 2)` float32, by repeated multiplication.

    Kaldi's real FFT (SplitRadixRealFft) multiplies in float32. That rounding leaks loud frequencies into quiet
    mirrored ones, and accounts for most of what an exact FFT differs by in single values.
    """
    angle = np.float32(-2 * np.pi / size)
    step_re, step_im = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    roots = np.zeros((size // 4 + 1, 2), dtype=np.float32)
    re, im = np.float32(1), np.float32(0)
    for k in range(len(roots)):
        roots[k] = re, im
        re, im = re * step_re - im * step_im, re * step_im + im * step_re
    return roots


# No fused multiply-add here: rounded as Kaldi rounds, frames come out equal to the last bit.
@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _window_frames(
    samples: np.ndarray, first: int, shift: int, window: np.ndarray, preemphasis: float, remove_dc: bool,
    raw_energy: bool, frames: np.ndarray, energy: np.ndarray,
) -> None:
    """Fill `(frames, fft_size)` and the energies `(frames,)`; samples beyond the edges are reflected."""
    size = len(window)
    total = len(samples)
    coefficient = np.float32(preemphasis)
    for row in range(len(frames)):
        frame = frames[row]
        begin = first + row * shift
        if begin >= 0 and begin + size <= total:
            for i in range(size):
                frame[i] = samples[begin + i]
        else:
            for i in range(size):
                position = begin + i
                while position < 0 or position >= total:
                    position = -position - 1 if position < 0 else 2 * total - 1 - position
                frame[i] = samples[position]
        if remove_dc:
            summed = 0.0
            for i in range(size):
                summed += frame[i]
            mean = np.float32(np.float32(summed) / np.float32(size))
            for i in range(size):
                frame[i] -= mean
        power = np.float32(0)
        if raw_energy:
            for i in range(size):
                power += frame[i] * frame[i]
        for i in range(size - 1, 0, -1):
            frame[i] = (frame[i] - coefficient * frame[i - 1]) * window[i]
        frame[0] = (frame[0] - coefficient * frame[0]) * window[0]
        if not raw_energy:
            for i in range(size):
                power += frame[i] * frame[i]
        for i in range(size, frames.shape[1]):
            frame[i] = 0
        energy[row] = power


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _mel_energies(
    packed: np.ndarray, roots: np.ndarray, begins: np.ndarray, widths: np.ndarray, weights: np.ndarray,
    mel: np.ndarray,
) -> None:
    """Mel energies `(frames, bins)`, floored, from the FFT of frames whose samples were packed as complex pairs.

    `packed` `(frames, fft_size)`: real and imaginary parts by turns. The spectrum of the real samples is
    A_k = C_k + exp(-2 pi i k / fft_size) D_k with C the even and D the odd samples' part.
    """
    half = packed.shape[1] // 2
    power = np.empty(half + 1, dtype=np.float32)
    for row in range(len(packed)):
        z = packed[row]
        power[0] = (z[0] + z[1]) * (z[0] + z[1])
        power[half] = (z[0] - z[1]) * (z[0] - z[1])
        for k in range(1, half // 2 + 1):
            mirrored = half - k
            even_re = np.float32(0.5) * (z[2 * k] + z[2 * mirrored])
            even_im = np.float32(0.5) * (z[2 * k + 1] - z[2 * mirrored + 1])
            odd_re = np.float32(0.5) * (z[2 * k + 1] + z[2 * mirrored + 1])
            odd_im = np.float32(0.5) * (z[2 * mirrored] - z[2 * k])
            turned_re = odd_re * roots[k, 0] - odd_im * roots[k, 1]
            turned_im = odd_re * roots[k, 1] + odd_im * roots[k, 0]
            re, im = even_re + turned_re, even_im + turned_im
            power[k] = re * re + im * im
            re, im = even_re - turned_re, turned_im - even_im
            power[mirrored] = re * re + im * im
        for channel in range(len(begins)):
            total = np.float32(0)
            begin = begins[channel]
            for i in range(widths[channel]):
                total += weights[channel, i] * power[begin + i]
            mel[row, channel] = max(total, np.float32(EPSILON))


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _project(rows: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """`out = rows @ matrix`, on this thread alone."""
    for row in range(len(rows)):
        out[row, :] = 0
        for i in range(matrix.shape[0]):
            value = rows[row, i]
            for k in range(matrix.shape[1]):
                out[row, k] += value * matrix[i, k]
