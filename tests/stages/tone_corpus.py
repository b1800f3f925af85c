"""A corpus of a toy language whose phones are tones, so that it is known where each word begins and ends."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
TONES = {"A": (300, 700), "B": (1200, 1900), "C": (3000, 4100), "D": (500, 2600), "E": (900, 5200)}
# Any phone follows any other: from a flat start they could not be told apart otherwise.
WORDS = {"ab": "A B", "ba": "B A", "cad": "C A D", "dac": "D A C", "eb": "E B", "be": "B E", "dec": "D E C",
         "ced": "C E D", "ae": "A E", "cb": "C B", "db": "D B", "bd": "B D"}
ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-0.3 </s>\n-99 <s>\n-0.3 ab\n\n\\end\\\n"

RECIPE = """\
description: a monophone model of tones
stages:
  prepare:
    run: prepare-kaldi
    settings: {splits: [train], lexicon: lexicon.txt, language_model: lm.arpa}
  mfcc:
    run: features
    reads: {manifests: prepare}
    settings: {features: {kind: mfcc, num_mel_bins: 23, store_dtype: float32, normalise_variance: false}}
  mono:
    run: monophone
    reads: {manifests: prepare, features: mfcc}
    settings: {training: {num_passes: 12, realign_passes: [1, 2, 3, 4, 5, 6, 8, 10], num_gaussians: 60}}
"""


@dataclass
class ToneCorpus:
    """A Kaldi corpus folder (split train) and the times of its words in seconds, by utterance."""

    folder: Path
    words: dict[str, list[tuple[str, float, float]]]


def write_tone_corpus(folder: Path, utterances: int = 24, seed: int = 0, speakers: int = 2) -> ToneCorpus:
    """Three to six words an utterance, silence around them and at times between them."""
    generator = np.random.default_rng(seed)
    (folder / "train").mkdir(parents=True)
    corpus = ToneCorpus(folder, {})
    tables: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for number in range(utterances):
        speaker = f"s{number % speakers}"
        name = f"{speaker}-u{number:02d}"
        pieces, at, words = [np.zeros(int(RATE * generator.uniform(0.15, 0.3)))], 0.0, []
        for word in generator.choice(list(WORDS), generator.integers(3, 7)):
            begin = sum(map(len, pieces)) / RATE
            for phone in WORDS[word].split():
                pieces.append(tone(phone, 1 + 0.1 * (number % 2), generator))
            at = sum(map(len, pieces)) / RATE
            words.append((str(word), begin, at))
            if generator.random() < 0.4:
                pieces.append(np.zeros(int(RATE * generator.uniform(0.12, 0.25))))
        pieces.append(np.zeros(int(RATE * generator.uniform(0.15, 0.3))))
        samples = np.concatenate(pieces)
        samples += generator.normal(0, 0.002, len(samples))
        soundfile.write(folder / f"{name}.wav", samples, RATE, "PCM_16")
        corpus.words[name] = words
        tables["wav.scp"].append(f"{name} {name}.wav")
        tables["text"].append(f"{name} {' '.join(word for word, _, _ in words)}")
        tables["utt2spk"].append(f"{name} {speaker}")
    for file, lines in tables.items():
        (folder / "train" / file).write_text("".join(f"{line}\n" for line in sorted(lines)))
    (folder / "lexicon.txt").write_text("".join(f"{word} {phones}\n" for word, phones in WORDS.items()))
    (folder / "lm.arpa").write_text(ARPA)
    return corpus


def tone(phone: str, pitch: float, generator: np.random.Generator) -> np.ndarray:
    """80 to 160 ms of a phone's two tones."""
    times = np.arange(int(RATE * generator.uniform(0.08, 0.16))) / RATE
    return 0.1 * sum(np.sin(2 * np.pi * pitch * f * generator.uniform(0.97, 1.03) * times) for f in TONES[phone])
