"""The comparison that tests/benchmarks/boundaries.py makes."""

import numpy as np
import pytest

from tests.benchmarks.boundaries import Segment, compare, report

REFERENCE = {
    "u1": [Segment("SIL", 0.0, 0.5), Segment("AA1_B", 0.5, 0.1), Segment("T_E", 0.6, 0.1), Segment("SIL", 0.7, 0.3)],
    "u2": [Segment("N_S", 0.0, 0.1)],
}


def moved(seconds: float) -> dict[str, list[Segment]]:
    return {u: [Segment(s.phone, s.start + seconds, s.duration) for s in found] for u, found in REFERENCE.items()}


@pytest.mark.parametrize(("seconds", "within_20", "within_50"), [
    (0.0, 1, 1), (0.02, 1, 1), (-0.02, 1, 1), (0.03, 0, 1), (-0.05, 0, 1), (0.06, 0, 0)])
def test_the_limits_belong_to_what_is_within(seconds: float, within_20: float, within_50: float) -> None:
    found = compare(moved(seconds), REFERENCE)
    np.testing.assert_allclose(found.offsets, seconds)
    assert (found.share_within(0.02), found.share_within(0.05)) == (within_20, within_50)
    assert found.after_silence.tolist() == [True, False, True] and found.kinds.tolist() == ["vowel", "stop", "nasal"]


def test_other_phones_and_missing_utterances_are_misses() -> None:
    ours = {"u1": [Segment("AA0_B", 0.5, 0.1), Segment("T_E", 0.6, 0.1), Segment("SIL", 0.7, 0.2)]}
    found = compare(ours, REFERENCE)
    assert np.isnan(found.offsets).tolist() == [True, False, True] and found.share_within(0.02) == pytest.approx(1 / 3)
    assert (found.utterances, found.missing) == (2, 1)
    assert found.silence["end"] == pytest.approx((0.2, 0.3)) and found.silence["start"] == pytest.approx((0.0, 0.5))
    assert "2 utterances (1 without alignment), 3 phones, 2 unmatched" in report(found)


def test_phones_that_one_side_has_more_of_do_not_shift_the_others() -> None:
    ours = {**REFERENCE, "u1": [REFERENCE["u1"][1], Segment("R_I", 0.55, 0.05), REFERENCE["u1"][2]]}
    np.testing.assert_allclose(compare(ours, REFERENCE).offsets, 0.0)
