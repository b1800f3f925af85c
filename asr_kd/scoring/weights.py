"""The LM weight and word insertion penalty, chosen on dev."""

from collections.abc import Mapping

from asr_kd.core.errors import InputError

LM_WEIGHTS = tuple(float(weight) for weight in range(5, 21))
INSERTION_PENALTIES = (0.0, 0.5, 1.0, 1.5, 2.0)


def choose_weights(errors: Mapping[tuple[float, float], int]) -> tuple[float, float]:
    """The (LM weight, insertion penalty) with the fewest errors on dev; `errors` maps each pair tried to total errors.

    Ties go to the smaller penalty, then to the smaller LM weight. InputError: an empty grid.
    """
    if not errors:
        raise InputError("no LM weight and insertion penalty was tried: nothing to choose from")
    return min(errors, key=lambda pair: (errors[pair], pair[1], pair[0]))
