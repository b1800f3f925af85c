"""The demo corpus: a synthetic meeting corpus, made on the spot, the same from the same seed.

Splits `train`, `dev`, `test` and `adaptation` share no speaker. A speaker is a voice of espeak-ng with an accent,
pitch, speed and vocal tract of its own, in a room of its own, with noise around. Beside the manifests and the audio
there are `lexicon.txt` (as espeak-ng says the words), `lm.txt` (text for a language model), and `demo.json` with the
settings and the speakers.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from pydantic import Field

from asr_kd.core.config import Config
from asr_kd.core.disk_space import naming_full_disk
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file, read_json, remove, write_json
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import Utterance, write_manifest
from data_prep.demo_grammar import list_words, make_sentence
from data_prep.demo_lexicon import make_lexicon
from data_prep.demo_room import make_noises, make_room_response, put_into_room
from data_prep.demo_voice import Voice, speak
from data_prep.prepared import PreparedSplit

SPLITS = ("train", "dev", "test", "adaptation")

# espeak-ng's voice variants, but for robots, whispers and those with breath (not repeatable).
_VARIANTS = [
    "Alex", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique",
    "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "RicishayMax",
    "RicishayMax2", "RicishayMax3", "adam", "anika", "announcer", "antonio", "aunty", "belinda",
    "benjamin", "boris", "david", "ed", "edward", "edward2", "f1", "f4", "grandma", "grandpa",
    "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john", "klatt", "klatt2", "klatt3",
    "klatt4", "klatt5", "klatt6", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8",
    "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy",
    "rob", "robert", "shelby", "steph", "steph2", "steph3", "travis", "zac",
]
_BABBLE_VOICES, _BABBLE_SECONDS = 3, 8.0
_SHORTEST, _LONGEST = 5, 16  # words a sentence
_PAUSE = (0.1, 0.4)  # seconds of room before and after a sentence: the least and the most


class DemoConfig(Config):
    """The size and difficulty of a demo corpus."""

    train_speakers: int = Field(default=40, gt=0)
    dev_speakers: int = Field(default=6, gt=0)
    test_speakers: int = Field(default=10, gt=0)
    adaptation_speakers: int = Field(default=4, gt=0)
    train_minutes: float = Field(default=45.0, gt=0)
    dev_minutes: float = Field(default=6.0, gt=0)
    test_minutes: float = Field(default=10.0, gt=0)
    adaptation_minutes: float = Field(default=4.0, gt=0)
    accents: list[str] = Field(default=["en-us", "en-us", "en", "en-gb-scotland"], min_length=1)
    slowest: int = Field(default=140, ge=80, le=450)  # words per minute
    fastest: int = Field(default=210, ge=80, le=450)
    vocal_tract_spread: float = Field(default=0.15, ge=0, le=0.25)  # formants move by up to this share
    reverberation_time: float = Field(default=0.4, ge=0, le=3)  # T60, seconds
    direct_to_reverberant: float = Field(default=3.0, ge=-20, le=60)  # dB
    snr_db: float = Field(default=12.0, ge=-20, le=100)
    snr_spread: float = Field(default=5.0, ge=0, le=30)  # dB, standard deviation over utterances
    babble: bool = True
    surprise: float = Field(default=0.02, ge=0, le=1)  # probability that a word is any word
    lm_sentences: int = Field(default=3000, ge=0)  # lm.txt: the train transcripts and as many more
    sampling_rate: int = Field(default=16000, ge=8000, le=22050)
    audio_format: Literal["flac", "wav"] = "flac"


def prepare_demo(
    output: Path, config: DemoConfig | None = None, *, seed: int = 0, workers: int | None = None
) -> dict[str, PreparedSplit]:
    """Make the demo corpus in the folder `output`; the same `config` and `seed` give the same files.

    A demo corpus that is there already is replaced. `demo.json` is written last: with it, the corpus is whole.
    Raises InputError where the extra `demo` (espeak-ng) is not installed, for a negative seed, and for an `output`
    that is a file.
    """
    config, output = config or DemoConfig(), Path(output)
    if seed < 0:
        raise InputError(f"seed {seed}: expected 0 or more")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, expected a folder for the corpus")
    if (output / "demo.json").exists():
        _require_own(output / "demo.json")
        remove(output / "demo.json")
        remove(output / "audio")
    speakers = _make_speakers(config, seed)

    def record(speaker: Speaker) -> list[Utterance]:
        return _record(speaker, config, seed, output)

    recorded = list(map_threads(record, speakers, workers, description="speaking", unit="speaker"))
    utterances: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for speaker, spoken in zip(speakers, recorded, strict=True):
        utterances[speaker.split] += spoken
    train = [words_of(utterance.text.lower()) for utterance in utterances["train"]]
    generator = random.Random(f"{seed} lm")
    text = train + [make_sentence(generator, surprise=config.surprise) for _ in range(config.lm_sentences)]
    with atomic_file(output / "lm.txt") as file:
        file.writelines(" ".join(words) + "\n" for words in _upper(text))
    lexicon = make_lexicon(list_words(), train[:1000], sorted(set(config.accents)))
    with atomic_file(output / "lexicon.txt") as file:
        file.writelines(f"{word.upper()} {phones}\n" for word, phones in lexicon)
    prepared = {}
    for split, of_split in utterances.items():
        write_manifest(output, split, of_split)
        prepared[split] = PreparedSplit.of(split, of_split, Drops(len(of_split)))
    write_json(output / "demo.json", {
        "seed": seed,
        "config": config.model_dump(),
        "splits": {split: counts.as_dict() for split, counts in prepared.items()},
        "words": len(list_words()),
        "pronunciations": len(lexicon),
        "speakers": [asdict(speaker) for speaker in speakers],
    })
    return prepared


@dataclass(frozen=True, slots=True)
class Speaker:
    """One synthetic speaker; `vocal_tract` scales formants and pitch, `level_db` is relative to full scale."""

    name: str
    split: str
    index: int
    voice: Voice
    vocal_tract: float
    reverberation_time: float
    level_db: float


def _make_speakers(config: DemoConfig, seed: int) -> list[Speaker]:
    generator = random.Random(f"{seed} speakers")
    splits = [split for split in SPLITS for _ in range(getattr(config, f"{split}_speakers"))]
    variants: list[str] = []
    while len(variants) < len(splits):
        variants += generator.sample(_VARIANTS, len(_VARIANTS))
    return [
        Speaker(
            name=f"{split}{index:03d}",
            split=split,
            index=index,
            voice=_make_voice(generator, config, variants[index]),
            vocal_tract=1 + round(generator.uniform(-1, 1) * config.vocal_tract_spread, 3),
            reverberation_time=round(config.reverberation_time * generator.uniform(0.5, 1.5), 3),
            level_db=round(generator.uniform(-32, -22), 1),
        )
        for index, split in enumerate(splits)
    ]


def _make_voice(generator: random.Random, config: DemoConfig, variant: str) -> Voice:
    return Voice(
        name=f"{generator.choice(config.accents)}+{variant}",
        rate=generator.randint(min(config.slowest, config.fastest), max(config.slowest, config.fastest)),
        pitch=generator.randint(20, 80),
        range=generator.randint(15, 85),
    )


def _record(speaker: Speaker, config: DemoConfig, seed: int, output: Path) -> list[Utterance]:
    """Let one speaker speak, put it into its room, and write the audio."""
    from scipy.signal import resample_poly  # slow to import

    words = random.Random(f"{seed} text {speaker.name}")
    voices = random.Random(f"{seed} babble {speaker.name}")
    generator = np.random.default_rng([seed, speaker.index])
    minutes = getattr(config, f"{speaker.split}_minutes") / getattr(config, f"{speaker.split}_speakers")
    seconds = 60 * minutes * speaker.vocal_tract
    sentences = _make_sentences(words, config, round(seconds) + 1)  # none is shorter than a second
    babble = [
        (_make_voice(voices, config, voices.choice(_VARIANTS)),
         [" ".join(s) for s in _make_sentences(voices, config, 10)], _BABBLE_SECONDS)
        for _ in range(_BABBLE_VOICES if config.babble else 0)
    ]
    own = (speaker.voice, [" ".join(s) for s in sentences], seconds)
    rate, (spoken, *others) = speak([own, *babble], gap=sum(_PAUSE) * speaker.vocal_tract)
    # Samples taken to have been made at another rate: formants and pitch move together, as in a shorter throat.
    ratio = Fraction(config.sampling_rate, round(rate * speaker.vocal_tract)).limit_denominator(160)
    noises = make_noises(generator, [np.concatenate(other) for other in others], config.sampling_rate)
    response = make_room_response(
        generator, speaker.reverberation_time, config.direct_to_reverberant, config.sampling_rate
    )
    folder = output / "audio" / speaker.split / speaker.name
    folder.mkdir(parents=True, exist_ok=True)
    utterances = []
    for number, (samples, sentence) in enumerate(zip(spoken, sentences, strict=False)):
        clean = resample_poly(samples.astype(np.float32), ratio.numerator, ratio.denominator)
        before, after = (round(config.sampling_rate * generator.uniform(*_PAUSE)) for _ in range(2))
        noisy = put_into_room(
            np.pad(clean, (before, after)), generator, response, noises,
            snr_db=generator.normal(config.snr_db, config.snr_spread), level_db=speaker.level_db,
        )
        name = f"{speaker.name}-{number:04d}"
        path = folder / f"{name}.{config.audio_format}"
        with naming_full_disk(path):
            soundfile.write(path, noisy, config.sampling_rate, subtype="PCM_16")
        utterances.append(Utterance(
            id=name, speaker=speaker.name, text=" ".join(sentence).upper(), audio=path, start=0.0,
            duration=len(noisy) / config.sampling_rate, sampling_rate=config.sampling_rate,
        ))
    return utterances


def _make_sentences(generator: random.Random, config: DemoConfig, count: int) -> list[list[str]]:
    sentences: list[list[str]] = []
    while len(sentences) < count:
        words = make_sentence(generator, surprise=config.surprise)
        if _SHORTEST <= len(words) <= _LONGEST:
            sentences.append(words)
    return sentences


def _require_own(path: Path) -> None:
    """InputError where `path`, the mark of a demo corpus whose audio will be removed, is not what we write there."""
    value = read_json(path)
    if not isinstance(value, dict) or not {"seed", "config", "splits", "speakers"} <= value.keys():
        raise InputError(f"{path}: is not of a demo corpus, whose audio would be replaced; give a new folder")


def _upper(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[word.upper() for word in words] for words in sentences]
