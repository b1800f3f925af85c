"""The demo corpus: the same from the same seed, disjoint, covered by its lexicon and LM, and sound."""

import json
import math
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_file, list_files
from asr_kd.data.audio import read_audio
from asr_kd.data.manifest import Utterance, list_splits, read_manifest
from asr_kd.data.validation import validate_manifest
from asr_kd.lm.kneser_ney import estimate
from asr_kd.lm.perplexity import perplexity as perplexity_of
from data_prep import demo_voice
from data_prep.demo import SPLITS, DemoConfig, prepare_demo
from data_prep.demo_grammar import list_words, make_sentence
from data_prep.demo_room import make_noises, make_room_response, put_into_room

SMALL = DemoConfig(
    train_speakers=6, dev_speakers=2, test_speakers=2, adaptation_speakers=1, train_minutes=1.5, dev_minutes=0.4,
    test_minutes=0.4, adaptation_minutes=0.2, lm_sentences=300,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")
    folder = tmp_path_factory.mktemp("demo")
    prepare_demo(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def utterances(corpus: Path) -> dict[str, list[Utterance]]:
    return {split: read_manifest(corpus, split) for split in SPLITS}


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_file(path) for path in list_files(folder)}


def test_the_same_seed_gives_the_same_files_and_another_seed_others(corpus: Path, tmp_path: Path) -> None:
    prepare_demo(tmp_path / "again", SMALL, workers=1)
    assert hashes(tmp_path / "again") == hashes(corpus)
    first = hashes(corpus)
    prepare_demo(tmp_path / "again", SMALL, seed=1)  # in the same folder: nothing of the old corpus stays
    other = hashes(tmp_path / "again")
    audio = [name for name in first if name.endswith(".flac")]
    assert len(audio) > 30
    assert not {first[name] for name in audio} & set(other.values())


def test_validation_finds_nothing_wrong(corpus: Path) -> None:
    report = validate_manifest(corpus)
    assert report.problems == []
    assert list_splits(corpus) == sorted(SPLITS)


def test_splits_have_the_speakers_and_minutes_asked_for(utterances: dict[str, list[Utterance]]) -> None:
    for split, of_split in utterances.items():
        seconds = defaultdict(float)
        for utterance in of_split:
            seconds[utterance.speaker] += utterance.duration
        assert len(seconds) == getattr(SMALL, f"{split}_speakers")
        wanted = 60 * getattr(SMALL, f"{split}_minutes") / len(seconds)
        assert all(wanted - 1 < value < wanted + 8 for value in seconds.values())
    speakers = [{utterance.speaker for utterance in of_split} for of_split in utterances.values()]
    assert len(set().union(*speakers)) == sum(len(names) for names in speakers)


def test_no_two_speakers_sound_alike(corpus: Path) -> None:
    speakers = json.loads((corpus / "demo.json").read_text())["speakers"]
    sounds = {(tuple(speaker["voice"].values()), speaker["vocal_tract"]) for speaker in speakers}
    assert len(sounds) == len({speaker["voice"]["name"].split("+")[1] for speaker in speakers}) == 11


def test_default_corpus_is_as_large_as_its_readers_need() -> None:
    config = DemoConfig()
    speakers = [getattr(config, f"{split}_speakers") for split in SPLITS]
    assert sum(speakers) >= 40 and config.test_speakers == 10
    assert 40 <= config.train_minutes <= 60


def test_utterances_are_a_few_seconds_of_16_kHz(utterances: dict[str, list[Utterance]]) -> None:
    durations = [u.duration for of_split in utterances.values() for u in of_split]
    assert 2 < np.mean(durations) < 6 and max(durations) < 12
    for utterance in utterances["test"]:
        samples, rate = read_audio(utterance.audio)
        assert rate == 16000 and len(samples) == round(utterance.duration * 16000)
        assert 30 < np.sqrt(np.mean(samples**2)) < 8000


def test_lexicon_covers_every_word_with_few_phones(corpus: Path, utterances: dict[str, list[Utterance]]) -> None:
    lexicon = defaultdict(list)
    for line in (corpus / "lexicon.txt").read_text().splitlines():
        word, *phones = line.split()
        assert phones, line
        lexicon[word].append(phones)
    spoken = {word for of_split in utterances.values() for u in of_split for word in u.text.split()}
    assert spoken <= lexicon.keys()
    assert lexicon.keys() == {word.upper() for word in list_words()}
    phones = {phone for variants in lexicon.values() for variant in variants for phone in variant}
    assert 38 <= len(phones) <= 42 and all(phone.isalpha() and phone.isupper() for phone in phones)
    assert max(len(variants) for variants in lexicon.values()) <= 3
    assert ["T", "EH", "N"] in lexicon["TEN"] and ["SH", "IY"] not in lexicon["WE"]


def test_grammar_has_300_to_600_words_and_the_sentences_use_them() -> None:
    generator = random.Random(0)
    sentences = [make_sentence(generator) for _ in range(4000)]
    used = {word for sentence in sentences for word in sentence}
    assert 300 <= len(list_words()) <= 600
    assert used <= set(list_words()) and len(used) > 0.97 * len(list_words())
    assert len({tuple(sentence) for sentence in sentences}) > 3900


def test_surprise_raises_the_perplexity() -> None:
    def perplexity(surprise: float) -> float:
        generator = random.Random(0)
        text = [make_sentence(generator, surprise=surprise) for _ in range(1500)]
        return perplexity_of(estimate(text[:1200], 3, list_words()), text[1200:]).perplexity

    assert perplexity(0.0) < perplexity(0.05) < perplexity(0.3) < len(list_words())


def test_text_for_a_language_model_has_the_transcripts_and_as_many_sentences_more(corpus: Path) -> None:
    lines = (corpus / "lm.txt").read_text().splitlines()
    transcripts = [utterance.text for utterance in read_manifest(corpus, "train")]
    assert lines[: len(transcripts)] == transcripts
    assert len(lines) == len(transcripts) + SMALL.lm_sentences
    assert {word for line in lines for word in line.split()} <= {word.upper() for word in list_words()}


def test_reverberation_decays_by_60_dB_in_its_time() -> None:
    response = make_room_response(np.random.default_rng(0), 0.5, 0.0, 16000)
    assert np.sum(response[1:] ** 2) == pytest.approx(1, rel=1e-5)  # as strong as the direct sound
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    decay = 10 * math.log10(energy[800] / energy[4800])
    assert decay == pytest.approx(60 * (4800 - 800) / 8000, abs=3)
    assert len(make_room_response(np.random.default_rng(0), 0.0, 0.0, 16000)) == 1


def test_noise_is_at_the_ratio_asked_for() -> None:
    generator = np.random.default_rng(0)
    speech = np.sin(np.arange(32000) / 10).astype(np.float32)
    noises = make_noises(generator, [speech], 16000)
    assert set(noises) == {"white", "pink", "babble"}
    for kind, noise in noises.items():
        dry = put_into_room(speech, generator, np.ones(1, np.float32), {kind: noise}, 200, -20).astype(float)
        wet = put_into_room(speech, generator, np.ones(1, np.float32), {kind: noise}, 6, -20).astype(float)
        assert 20 * math.log10(np.sqrt(np.mean(dry**2)) / 32768) == pytest.approx(-20, abs=0.1)
        if kind != "babble":
            ratio = np.mean(dry**2) / np.mean((wet - dry) ** 2)
            assert 10 * math.log10(ratio) == pytest.approx(6, abs=0.5)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(demo_voice.sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'asr-kd\[demo\]'"):
        prepare_demo(tmp_path, SMALL)


def test_a_negative_seed_and_a_file_in_the_corpus_s_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed -1: expected 0 or more"):
        prepare_demo(tmp_path / "out", seed=-1)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file, expected a folder"):
        prepare_demo(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_audio_beside_somebody_elses_demo_json_stays(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/concert.wav").touch()
    (tmp_path / "demo.json").write_text('{"title": "a demo"}')
    with pytest.raises(InputError, match="demo.json: is not of a demo corpus"):
        prepare_demo(tmp_path)
    assert (tmp_path / "audio/concert.wav").exists() and (tmp_path / "demo.json").exists()
