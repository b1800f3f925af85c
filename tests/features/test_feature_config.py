import pydantic
import pytest

from asr_kd.features.config import FeatureConfig, mfcc_config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_mel_bin": 40}, "Extra inputs"),
        ({"num_mel_bins": "40"}, "valid integer"),
        ({"num_mel_bins": 0}, "greater than 0"),
        ({"kind": "plp"}, "'fbank' or 'mfcc'"),
        ({"low_freq": 9000.0}, "low_freq 9000 Hz must lie below"),
        ({"high_freq": 9000.0}, "half of sampling_rate 16000"),
        ({"kind": "mfcc", "num_ceps": 41}, "num_ceps 41 must not exceed num_mel_bins 40"),
        ({"frame_shift": 0.01}, "at least one sample"),
        ({"normalisation": "running", "running_prior_mean": [1.0], "running_prior_variance": [1.0]}, "40 values each"),
        ({"running_prior_mean": [1.0] * 40, "running_prior_variance": [0.0] * 40}, "above zero"),
        ({"store_dtype": "uint8", "normalisation": "none"}, "unit variance"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        FeatureConfig(**settings)


def test_dimensions_follow_from_the_settings() -> None:
    assert FeatureConfig().dim == 40
    assert FeatureConfig(use_energy=True).dim == 41
    assert mfcc_config(use_energy=True).dim == 13
    assert mfcc_config(deltas=2).dim == 39
    assert FeatureConfig(sampling_rate=8000).window_size == 200
    assert FeatureConfig(high_freq=-400.0).high_cutoff == 7600.0


def test_precision_of_the_store_is_no_part_of_the_recipe() -> None:
    assert FeatureConfig(store_dtype="float32").recipe() == FeatureConfig().recipe()
    assert FeatureConfig(snip_edges=False).recipe() != FeatureConfig().recipe()
