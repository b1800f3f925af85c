"""What goes wrong in sets of adaptation speech, made on purpose: the gate is tried by it."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr_kd.core.errors import InputError

WordsAttack = Literal["shuffled words", "words of another speaker", "one word"]
AudioAttack = Literal["silence", "noise", "tones", "clipped", "another language"]

_FULL_SCALE = 32767.0
_QUIET = 3.0  # of silence, in steps of 16-bit samples
_CLIPPED_LOUDNESS = (0.2, 1.0)  # root mean square before clipping, of full scale


def attack_words(
    attack: WordsAttack, texts: Mapping[str, Sequence[str]], others: Sequence[Sequence[str]], word: str,
    generator: np.random.Generator,
) -> dict[str, list[str]]:
    """Return wrong words for each utterance.

    texts: utterance -> what was said; others: what somebody else said, in any number of utterances. `one word` has
    `word` as often as there were words. InputError: a set that cannot be shuffled, all its texts being alike.
    """
    names = sorted(texts)
    if attack == "one word":
        return {name: [word] * len(texts[name]) for name in names}
    if attack == "words of another speaker":
        return {name: list(others[number % len(others)]) for number, name in enumerate(names)}
    if len({tuple(texts[name]) for name in names}) < 2:
        raise InputError(f"{names[:1]}: one text, or alike ones, cannot be shuffled")
    for _ in range(100):
        order = generator.permutation(len(names))
        wrong = {name: list(texts[names[place]]) for name, place in zip(names, order, strict=True)}
        if sum(wrong[name] == list(texts[name]) for name in names) <= len(names) // 5:
            return wrong
    raise InputError(f"{names[0]}: most of the set's texts are alike; they cannot be shuffled")


def attack_audio(
    attack: AudioAttack, samples: NDArray[np.float32], rate: int, speech: NDArray[np.float32],
    generator: np.random.Generator,
) -> NDArray[np.int16]:
    """Return what stands in the place of an utterance, samples (n,) of 16 bits, as loud and as long as it where that
    has a sense.

    speech: of another language, at the same rate, which is repeated or cut to the length.
    """
    length, loudness = len(samples), float(np.sqrt(np.mean(np.square(samples))) + 1e-9)
    found: NDArray[np.floating]
    if attack == "silence":
        found = generator.normal(0, _QUIET, length)
    elif attack == "noise":
        found = generator.normal(0, loudness, length)
    elif attack == "tones":
        time = np.arange(length) / rate
        pitches = generator.uniform(150, rate / 2.5, 3)
        found = np.sin(2 * np.pi * pitches[:, None] * time).sum(0) * loudness / np.sqrt(1.5)
    elif attack == "clipped":
        found = samples * generator.uniform(*_CLIPPED_LOUDNESS) * _FULL_SCALE / loudness
    else:
        found = np.resize(speech, length).astype(np.float64)
        found = found * loudness / (np.sqrt(np.mean(np.square(found))) + 1e-9)
    return np.clip(np.round(found), -_FULL_SCALE, _FULL_SCALE).astype(np.int16)
