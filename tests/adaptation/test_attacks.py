"""Attacks by which the gate is tried: each spoils what it says, and nothing else."""

from typing import get_args

import numpy as np
import pytest

from asr_kd.adaptation.attacks import AudioAttack, WordsAttack, attack_audio, attack_words
from asr_kd.core.errors import InputError
from asr_kd.data.audio_faults import audio_fault

RATE = 16000
TEXTS = {f"u{number}": text.split() for number, text in enumerate(["A B", "C D E", "F", "G H", "I J K"])}
OTHERS = [["X", "Y"], ["Z"]]


def speech(seed: int = 0, length: int = 32000) -> np.ndarray:
    """Noise that swells and fades as speech does, and has its low frequencies."""
    generator = np.random.default_rng(seed)
    swell = np.abs(np.sin(np.arange(length) / 2000)) ** 3
    noise = np.convolve(generator.normal(size=length), np.ones(20) / np.sqrt(20), "same")
    return (3000 * swell * noise).astype(np.float32)


@pytest.mark.parametrize("attack", get_args(WordsAttack))
def test_words_are_wrong_and_the_same_for_a_seed(attack: WordsAttack) -> None:
    found = attack_words(attack, TEXTS, OTHERS, "THE", np.random.default_rng(1))
    assert found == attack_words(attack, TEXTS, OTHERS, "THE", np.random.default_rng(1))
    assert found.keys() == TEXTS.keys()
    assert sum(found[name] == TEXTS[name] for name in TEXTS) <= 1


def test_each_attack_by_words_takes_them_from_where_it_says() -> None:
    generator = np.random.default_rng(0)
    shuffled = attack_words("shuffled words", TEXTS, OTHERS, "THE", generator)
    assert sorted(shuffled.values()) == sorted(TEXTS.values())
    assert attack_words("one word", TEXTS, OTHERS, "THE", generator) == {
        name: ["THE"] * len(text) for name, text in TEXTS.items()}
    assert all(text in OTHERS for text in
               attack_words("words of another speaker", TEXTS, OTHERS, "THE", generator).values())


@pytest.mark.parametrize("texts", [{"u": ["A"]}, {"u": ["A"], "v": ["A"]}])
def test_alike_texts_cannot_be_shuffled(texts: dict[str, list[str]]) -> None:
    with pytest.raises(InputError, match="cannot be shuffled"):
        attack_words("shuffled words", texts, OTHERS, "THE", np.random.default_rng(0))


@pytest.mark.parametrize("attack", get_args(AudioAttack))
def test_audio_keeps_its_length_and_is_heard_as_what_it_is(attack: AudioAttack) -> None:
    own = speech()
    found = attack_audio(attack, own, RATE, speech(1, 5000), np.random.default_rng(2))
    assert found.shape == own.shape and found.dtype == np.int16
    fault = audio_fault(found.astype(np.float32))
    assert (fault or "").split(" ")[0] == {"silence": "silence", "clipped": "clipped"}.get(attack, "")
    if fault is None:
        loudness = np.sqrt(np.mean(np.square(found, dtype=np.float64)))
        assert loudness == pytest.approx(np.sqrt(np.mean(np.square(own))), rel=0.1)


def test_another_language_is_the_given_speech_repeated() -> None:
    other = speech(1, 5000)
    found = attack_audio("another language", speech(), RATE, other, np.random.default_rng(0)).astype(np.float64)
    np.testing.assert_allclose(found[:5000], found[5000:10000], atol=1)
    assert np.corrcoef(found[:5000], other)[0, 1] > 0.999
