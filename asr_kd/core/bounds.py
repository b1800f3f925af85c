"""Bounds of settings that reach compiled code: types for typed settings, and for functions that take plain numbers.

Values beyond them are mistakes, and in single precision they make costs that cannot be compared.
"""

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Field

from asr_kd.core.errors import InputError

Beam = Annotated[float, Field(ge=0.01, le=1e6, description="in units of scaled cost")]
LatticeBeam = Annotated[float, Field(ge=0, le=1e4, description="in units of scaled cost")]
AcousticScale = Annotated[float, Field(ge=1e-6, le=100, description="factor of acoustic costs")]
TransitionScale = Annotated[float, Field(ge=0, le=100, description="factor of costs of transitions")]
LikelihoodFactor = Annotated[float, Field(ge=1e-6, le=1e6, description="factor of a likelihood")]
LmWeight = Annotated[float, Field(ge=0.01, le=1e6, description="acoustic costs are divided by it")]
InsertionPenalty = Annotated[float, Field(ge=-1000, le=1000, description="cost of a word")]

MOST_HYPOTHESES = 10_000


def check_bounds(name: str, value: float, kind: object) -> None:
    """InputError where `value` is outside of the bounds of `kind`, one of the types above; NaN is too."""
    low, high = bounds_of(kind)
    if not low <= value <= high:
        raise InputError(f"{name} {value:g}: expected {low:g} to {high:g}")


def bounds_of(kind: object) -> tuple[float, float]:
    """The least and the greatest value of one of the types above."""
    bounds = {type(bound): bound for bound in kind.__metadata__[0].metadata}  # type: ignore[attr-defined]
    return float(bounds[Ge].ge), float(bounds[Le].le)
