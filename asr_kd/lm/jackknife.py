"""Jack-knifing by speakers: for each fold of them a text that none of its sentences is in."""

from collections.abc import Iterable
from hashlib import sha256

from asr_kd.core.errors import InputError
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import Utterance


def part_speakers(speakers: Iterable[str], folds: int) -> dict[str, int]:
    """The fold of each speaker, 0 to folds - 1: equally many speakers in each, the same in every run.

    InputError: fewer speakers than folds.
    """
    ordered = sorted(set(speakers), key=lambda speaker: sha256(speaker.encode()).digest())
    if len(ordered) < folds:
        raise InputError(f"{len(ordered)} speakers cannot be parted into {folds} folds; take fewer folds")
    return {speaker: number % folds for number, speaker in enumerate(ordered)}


def unseen_text(others: Iterable[Utterance], own: Iterable[Utterance]) -> list[list[str]]:
    """The sentences of `others`, as words, without those that are `own` too."""
    said = {utterance.text for utterance in own}
    return [words_of(utterance.text) for utterance in others if utterance.text not in said]
