"""Parting of speakers into folds, and the text of the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lm.jackknife import part_speakers


@given(st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=30), st.integers(2, 8))
def test_folds_are_as_large_as_each_other_and_always_the_same(speakers: set[str], folds: int) -> None:
    if len(speakers) < folds:
        with pytest.raises(InputError, match=f"{len(speakers)} speakers cannot be parted into {folds} folds"):
            part_speakers(speakers, folds)
        return
    parted = part_speakers(speakers, folds)
    assert parted.keys() == speakers and parted == part_speakers(set(sorted(speakers, reverse=True)), folds)
    sizes = np.bincount(list(parted.values()), minlength=folds)
    assert len(sizes) == folds and sizes.max() - sizes.min() <= 1
