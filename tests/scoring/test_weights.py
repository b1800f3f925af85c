import itertools

import pytest

from asr_kd.core.errors import InputError
from asr_kd.scoring.weights import INSERTION_PENALTIES, LM_WEIGHTS, choose_weights


def test_the_pair_with_the_fewest_errors_is_chosen() -> None:
    grid = {
        (w, p): abs(w - 11) * 10 + int(abs(p - 1) * 4) + 100
        for w, p in itertools.product(LM_WEIGHTS, INSERTION_PENALTIES)
    }
    assert len(grid) == 80
    assert choose_weights(grid) == (11, 1.0)


def test_ties_go_to_the_smaller_penalty_then_to_the_smaller_weight() -> None:
    assert choose_weights({(12, 0.5): 7, (9, 1.0): 7, (10, 0.5): 7, (5, 0.0): 8}) == (10, 0.5)


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to choose"):
        choose_weights({})
