"""Settings of the stages: what no stage could work with is refused before any work."""

from typing import Any

import pytest

from asr_kd.core.config import Config, Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.stages.decoding import DecodeConfig
from asr_kd.stages.features import FeaturesConfig
from asr_kd.stages.scoring import ScoreConfig


@pytest.mark.parametrize("kind", [FeaturesConfig, DecodeConfig])
def test_a_split_is_a_name_and_no_path(kind: type[Config]) -> None:
    with pytest.raises(InputError, match="splits.0: "):
        build_config(kind, Settings({"splits": ["../../elsewhere"]}, {}))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"lm_weights": [0.0]}, "lm_weights.0"), ({"lm_weights": [-1.0]}, "lm_weights.0"),
     ({"systems": {"../x": {}}}, "systems"), ({"choose_on": "a/b"}, "choose_on")],
)
def test_what_cannot_be_scored_with(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        build_config(ScoreConfig, Settings({"systems": {"gmm-tri": {}}, **settings}, {}))
