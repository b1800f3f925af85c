"""Jack-knifing by speakers: for each fold of them a text that none of its sentences is in."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from asr_kd.core.errors import InputError
from asr_kd.data.manifest import Utterance


def part_speakers(speakers: Iterable[str], folds: int) -> dict[str, int]:
    """The fold of each speaker, 0 to folds - 1: equally many speakers in each, the same in every run.

    InputError: fewer speakers than folds.
    """
    ordered = sorted(set(speakers), key=lambda speaker: sha256(speaker.encode()).digest())
    if len(ordered) < folds:
        raise InputError(f"{len(ordered)} speakers cannot be parted into {folds} folds; take fewer folds")
    return {speaker: number % folds for number, speaker in enumerate(ordered)}


def unseen_text(utterances: Sequence[Utterance], folds: Mapping[str, int], fold: int) -> list[list[str]]:
    """What the other folds' speakers say, without the sentences that a speaker of `fold` says too."""
    said = {utterance.text for utterance in utterances if folds[utterance.speaker] == fold}
    return [utterance.text.split() for utterance in utterances
            if folds[utterance.speaker] != fold and utterance.text not in said]
