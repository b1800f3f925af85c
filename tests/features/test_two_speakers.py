"""One speaker or two under one name, by made-up cepstra."""

import numpy as np
import pytest

from asr_kd.features.two_speakers import compare_one_with_two_speakers


def utterances(speaker: int, count: int, frames: int = 150) -> list[np.ndarray]:
    """Frames of a speaker's own mean and spread; each utterance has a mean a little off, as its words have it."""
    generator = np.random.default_rng(speaker)
    mean, spread = generator.normal(0, 15, 13), generator.uniform(4, 8, 13)
    return [mean + generator.normal(0, 1.5, 13) + spread * generator.normal(size=(frames, 13)) for _ in range(count)]


@pytest.mark.parametrize("speaker", range(5))
def test_one_speaker_is_one(speaker: int) -> None:
    found = compare_one_with_two_speakers(utterances(speaker, 12))
    assert found is None or found.evidence < 0


@pytest.mark.parametrize("speaker", range(5))
def test_two_speakers_are_two_and_parted(speaker: int) -> None:
    found = compare_one_with_two_speakers([*utterances(speaker, 7), *utterances(speaker + 10, 5)])
    assert found is not None and found.evidence > 0
    assert sorted(map(sorted, found.groups)) == [list(range(7)), list(range(7, 12))]


def test_a_few_utterances_tell_nothing() -> None:
    assert compare_one_with_two_speakers(utterances(0, 3)) is None
    assert compare_one_with_two_speakers(utterances(0, 5, frames=2)) is None
