"""The settings of a feature recipe; names and defaults are Kaldi's where Kaldi has the option."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from asr_kd.core.config import Config

# Log-mel values of speech in 16-bit scale (speechocean762 train: 15.1 and 18.3 over all bins): where a running
# mean and variance start from unless the recipe says better.
LOG_MEL_MEAN = 15.0
LOG_MEL_VARIANCE = 18.0


class FeatureConfig(Config):
    """The features to compute from a waveform; the defaults give 40 log-mel values, normalised per speaker."""

    kind: Literal["fbank", "mfcc"] = "fbank"
    sampling_rate: int = Field(16000, gt=0, description="Hz")
    frame_length: float = Field(25.0, gt=0, description="milliseconds")
    frame_shift: float = Field(10.0, gt=0, description="milliseconds")
    snip_edges: bool = Field(True, description="only whole windows; else reflect at the edges")
    window: Literal["povey", "hanning", "hamming", "rectangular"] = "povey"
    preemphasis: float = Field(0.97, ge=0, le=1)
    remove_dc_offset: bool = True
    dither: float = Field(0.0, ge=0, description="standard deviation of added noise; drawn anew from the audio")
    num_mel_bins: int = Field(40, gt=0)
    low_freq: float = Field(20.0, ge=0, description="Hz")
    high_freq: float = Field(0.0, description="Hz; zero or less: below the Nyquist frequency")
    use_energy: bool = Field(False, description="fbank: a column in front; mfcc: in place of C0")
    raw_energy: bool = Field(True, description="energy before pre-emphasis and window")
    energy_floor: float = Field(0.0, ge=0)
    num_ceps: int = Field(13, gt=0)
    cepstral_lifter: float = Field(22.0, ge=0)
    deltas: int = Field(0, ge=0, le=3, description="order of appended derivatives, made after normalisation")

    normalisation: Literal["none", "speaker", "utterance", "running"] = "speaker"
    normalise_variance: bool = True
    running_window: int = Field(600, gt=0, description="frames that a running mean looks back")
    running_prior_frames: int = Field(100, gt=0, description="frames that the prior counts for")
    running_prior_mean: list[float] = Field([], description="one value a column; empty: of prior_split")
    running_prior_variance: list[float] = Field([], description="one value a column; empty: of prior_split")

    store_dtype: Literal["float16", "float32", "uint8"] = "float16"

    @property
    def static_dim(self) -> int:
        """Values a frame before derivatives are appended."""
        return self.num_ceps if self.kind == "mfcc" else self.num_mel_bins + int(self.use_energy)

    @property
    def dim(self) -> int:
        """Values a frame."""
        return self.static_dim * (self.deltas + 1)

    @property
    def window_size(self) -> int:
        """Samples in a frame."""
        return int(self.sampling_rate * 0.001 * self.frame_length)

    @property
    def window_shift(self) -> int:
        """Samples from frame to frame."""
        return int(self.sampling_rate * 0.001 * self.frame_shift)

    @property
    def high_cutoff(self) -> float:
        """The upper edge of the mel filterbank in Hz."""
        return self.high_freq if self.high_freq > 0 else self.sampling_rate / 2 + self.high_freq

    def recipe(self) -> dict[str, Any]:
        """Return the settings that decide the values of a frame, as JSON; the stored precision is not among them."""
        return self.model_dump(mode="json", exclude={"store_dtype"})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.window_shift < 1 or self.window_size < 2:
            raise ValueError("frame_shift must be at least one sample and frame_length two")
        if not self.low_freq < self.high_cutoff <= self.sampling_rate / 2:
            raise ValueError(
                f"low_freq {self.low_freq:g} Hz must lie below high_freq {self.high_cutoff:g} Hz, "
                f"and that at or below half of sampling_rate {self.sampling_rate}"
            )
        if self.kind == "mfcc" and self.num_ceps > self.num_mel_bins:
            raise ValueError(f"num_ceps {self.num_ceps} must not exceed num_mel_bins {self.num_mel_bins}")
        priors = (len(self.running_prior_mean), len(self.running_prior_variance))
        if any(n not in (0, self.static_dim) for n in priors) or priors[0] != priors[1]:
            raise ValueError(f"running_prior_mean and running_prior_variance: {self.static_dim} values each, or none")
        if any(value <= 0 for value in self.running_prior_variance):
            raise ValueError("running_prior_variance: values above zero")
        if self.store_dtype == "uint8" and (self.normalisation == "none" or not self.normalise_variance):
            raise ValueError("store_dtype uint8 needs features of unit variance: normalise them")
        return self


def mfcc_config(**settings: Any) -> FeatureConfig:
    """Kaldi's usual MFCC for a GMM: 13 cepstra of 23 mel bins with C0, mean normalised per speaker, float32.

    `settings` override single fields.
    """
    usual = {"kind": "mfcc", "num_mel_bins": 23, "num_ceps": 13, "normalise_variance": False,
             "store_dtype": "float32"}
    return FeatureConfig(**{**usual, **settings})
