"""Cards: small JSON files that describe a folder, read as typed settings, some with a digest of themselves."""

from pathlib import Path
from typing import Self, TypeVar

import pydantic

from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json, read_json, write_json


class SealedCard(Config):
    """A card whose `digest` is of all the rest, so that an edited one is noticed."""

    digest: str = ""

    def sealed(self) -> Self:
        """Return the card with its digest."""
        return self.model_copy(update={"digest": self._expected_digest()})

    def _expected_digest(self) -> str:
        return hash_json(self.model_dump(exclude={"digest"}))


Card = TypeVar("Card", bound=Config)


def read_card(path: Path, kind: type[Card], remedy: str) -> Card:
    """Read a card. InputError names the file, and the key that is missing or wrong; `remedy` says what to do.

    A sealed card that was edited is refused, too.
    """
    try:
        card = kind.model_validate(read_json(path))
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        reason = fault["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {key + ': ' if key else ''}{reason}; {remedy}") from error
    if isinstance(card, SealedCard) and card != card.sealed():
        raise InputError(f"{path}: content and digest differ (edited by hand?); {remedy}")
    return card


def write_card(path: Path, card: Config) -> None:
    """Write a card, atomically."""
    write_json(path, card.model_dump(mode="json"))
