"""The stage that tries the gate: honest adaptations to speakers, and attacks, with their true effect."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import soundfile
from pydantic import Field
from torch import nn

from asr_kd.adaptation.adapter import Adapter
from asr_kd.adaptation.attacks import AudioAttack, WordsAttack, attack_audio, attack_words
from asr_kd.adaptation.recognition import SpokenUtterance, begun_with, recognise
from asr_kd.core.cards import read_card, write_card
from asr_kd.core.config import Config, Name
from asr_kd.core.drops import Drops
from asr_kd.core.errors import InputError
from asr_kd.core.parallel import map_threads
from asr_kd.core.stages import StageContext
from asr_kd.data.audio import AudioOptions, read_utterance
from asr_kd.data.manifest import Utterance, read_manifest
from asr_kd.data.resampling import resample
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.running_prior import RunningPrior
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.scoring.adaptation_gate import Evidence
from asr_kd.scoring.gate_trials import GATE_TRIALS, HONEST, GateTrial, GateTrials, write_trials
from asr_kd.scoring.teaching import Teaching, learns_from_teacher, learns_transcripts
from asr_kd.scoring.wer import ErrorCounts
from asr_kd.stages.adaptation_job import AdaptOptions, LoadedSystem
from asr_kd.stages.hmm import transcripts_of
from asr_kd.stages.listening import listen
from asr_kd.stages.speech_input import SpeechInput
from asr_kd.stages.systems import RunSystem
from data_prep.demo_voice import Voice, find_espeak, speak

_SENTENCES = {
    "de": ["Der Zug nach Hamburg fährt heute leider erst eine Stunde später ab.",
           "Meine Schwester hat gestern im Garten drei alte Apfelbäume gepflanzt."],
    "es": ["Mañana por la mañana iremos todos juntos al mercado de la plaza.",
           "El profesor nos explicó la historia de la ciudad con mucha paciencia."],
    "fr": ["Le boulanger du village prépare chaque matin un pain délicieux.",
           "Nous avons marché longtemps au bord de la rivière avant la pluie."],
    "it": ["Domani pomeriggio andiamo a trovare la nonna in campagna.",
           "Il treno per Milano parte dal binario sette fra dieci minuti."],
}
_VOICE = {"rate": 150, "pitch": 50, "range": 50}


class GateTrialsConfig(Config):
    """Trials with each speaker's first utterances; the last ones show what an adapter really does.

    attacks_every: every how manieth speaker is attacked as well, by all attacks. teachings: each of them in honest
    trials and in attacks by audio. word: that of the attack by one word.
    """

    system: Name
    splits: list[Name] = Field(["dev", "test"], min_length=1)
    utterances: int = Field(10, gt=1)
    every_speaker: int = Field(1, gt=0)
    attacks_every: int = Field(3, gt=0)
    teachings: list[Teaching] = Field(["both", "teacher"], min_length=1)
    word: str = "THE"
    options: AdaptOptions = AdaptOptions()


@dataclass(frozen=True)
class _Trial:
    """A trial to be made."""

    speaker: str
    split: str
    kind: str
    teaching: Teaching

    @property
    def name(self) -> str:
        return f"{self.split}-{self.speaker}-{self.kind}-{self.teaching}".replace(" ", "_")


@dataclass(frozen=True)
class _Speakers:
    """The speech of a split by speaker, and its features as the network hears them."""

    utterances: Mapping[str, Sequence[Utterance]]
    store: FrameStore
    transcripts: Mapping[str, Sequence[str]]


def check_gate_trials(config: GateTrialsConfig, inputs: Mapping[str, Any]) -> None:
    """InputError where a teacher is to teach and is no input, or espeak-ng is not installed."""
    if any(map(learns_from_teacher, config.teachings)) and "teacher" not in inputs:
        raise InputError(f"teachings {', '.join(config.teachings)} need the input 'teacher'")
    find_espeak()


def try_gate(
    inputs: Mapping[str, Path], config: GateTrialsConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Adapt to speakers, honestly and under attack, and write what the gate knew and what was true.

    A killed stage goes on with the trials that are not done.
    """
    found = RunSystem(config.system, inputs["network"], inputs["hmm"], inputs["graph"], None, inputs.get("teacher"),
                      inputs["reserve"])
    systems = {}
    for teaching in config.teachings:
        options = config.options.model_copy(update={
            "teaching": config.options.teaching.model_copy(update={"teaching": teaching})})
        systems[teaching] = LoadedSystem.open(found, options)
    speakers = {split: _speakers(inputs, split) for split in config.splits}
    planned = [trial for split in config.splits for trial in _plan(split, sorted(speakers[split].utterances), config)]
    foreign = _foreign_speech()

    def run(trial: _Trial) -> GateTrial:
        done = context.work / f"{trial.name}.json"
        if not done.is_file():
            generator = np.random.default_rng([context.seed, *map(ord, trial.name)])
            with tempfile.TemporaryDirectory() as scratch:
                write_card(done, _try(trial, speakers[trial.split], systems[trial.teaching], config, foreign, generator,
                                      Path(scratch), context.seed))
        return read_card(done, GateTrial, "run the trials again")

    with one_torch_thread():
        trials = list(map_threads(run, planned, None, context.name, "trials"))
    write_trials(output / GATE_TRIALS, GateTrials(
        id=config.system, seed=context.seed, splits=config.splits, parameters=config.options.adaptation.parameters,
        command=context.command, revision=context.revision or "", trials=trials))
    return {"trials": len(trials), "adapted": sum(trial.evidence is not None for trial in trials)}


def _plan(split: str, speakers: Sequence[str], config: GateTrialsConfig) -> list[_Trial]:
    speakers = speakers[::config.every_speaker]
    planned = [_Trial(speaker, split, HONEST, teaching) for speaker in speakers for teaching in config.teachings]
    supervised = [teaching for teaching in config.teachings if learns_transcripts(teaching)]
    for speaker in speakers[::config.attacks_every]:
        planned += [_Trial(speaker, split, attack, teaching)
                    for attack in get_args(WordsAttack) for teaching in supervised]
        planned += [_Trial(speaker, split, attack, teaching)
                    for attack in get_args(AudioAttack) for teaching in config.teachings]
    return planned


def _speakers(inputs: Mapping[str, Path], split: str) -> _Speakers:
    store = FrameStore.open(inputs["features"] / split)
    of_speaker: dict[str, list[Utterance]] = {}
    for utterance in sorted(read_manifest(inputs["manifests"], split), key=lambda one: one.id):
        if utterance.id in store:
            of_speaker.setdefault(utterance.speaker, []).append(utterance)
    if len(of_speaker) < 2:
        raise InputError(f"{split}: has one speaker; trials need another one, whose words are an attack")
    return _Speakers(of_speaker, store, transcripts_of(inputs["manifests"], split, store))


def _try(
    trial: _Trial, speakers: _Speakers, system: LoadedSystem, config: GateTrialsConfig,
    foreign: tuple[int, np.ndarray], generator: np.random.Generator, folder: Path, seed: int,
) -> GateTrial:
    own = speakers.utterances[trial.speaker]
    chosen, others = own[:config.utterances], own[config.utterances:]
    heard = [SpokenUtterance(one.id, speakers.store[one.id], speakers.transcripts[one.id]) for one in others]
    base = system.base

    def errors(network: nn.Module, prior: RunningPrior | None = None) -> ErrorCounts:
        assert base.recogniser is not None
        return recognise(network, base.card, begun_with(prior, heard, base.card), base.recogniser, 1).errors

    before = errors(base.network)
    made = GateTrial(speaker=trial.speaker, split=trial.split, kind=trial.kind, teaching=trial.teaching,
                     words=before.words, errors_before=before.errors)
    try:
        given = _attacked(trial, chosen, speakers, config, foreign, generator, folder)
        given, _ = listen(given, AudioOptions(), 1)
        job = system.job(given, AudioOptions(), folder, 1)
        report = job.adapt(given.utterances, trial.speaker, folder / "adapter", True, seed, 1)
    except InputError as error:
        return made.model_copy(update={"not_adapted": str(error)})
    evidence = Evidence.model_validate({name: report[name] for name in Evidence.model_fields})
    adapter = Adapter.load(folder / "adapter")
    after = errors(adapter.apply(base.network), adapter.prior)
    return made.model_copy(update={"evidence": evidence, "errors_after": after.errors})


def _attacked(
    trial: _Trial, chosen: Sequence[Utterance], speakers: _Speakers, config: GateTrialsConfig,
    foreign: tuple[int, np.ndarray], generator: np.random.Generator, folder: Path,
) -> SpeechInput:
    """The speech of a trial."""
    given = list(chosen)
    if trial.kind in get_args(WordsAttack):
        names = sorted(speakers.utterances)
        other = names[(names.index(trial.speaker) + 1) % len(names)]
        texts = attack_words(
            trial.kind, {one.id: speakers.transcripts[one.id] for one in chosen},  # type: ignore[arg-type]
            [speakers.transcripts[one.id] for one in speakers.utterances[other][:config.utterances]], config.word,
            generator)
        given = [replace(one, text=" ".join(texts[one.id])) for one in given]
    elif trial.kind != HONEST:
        rate, speech = foreign
        given = []
        for one in chosen:
            samples, own_rate = read_utterance(one)
            made = attack_audio(trial.kind, samples, own_rate,  # type: ignore[arg-type]
                                np.roll(resample(speech, rate, own_rate), int(generator.integers(len(speech)))),
                                generator)
            path = folder / f"{one.id}.wav"
            soundfile.write(path, made, own_rate, subtype="PCM_16")
            given.append(replace(one, audio=path, start=0.0))
    if not learns_transcripts(trial.teaching):
        given = [replace(one, text="") for one in given]
    return SpeechInput(given, Drops(len(given), cap=1.0))


def _foreign_speech() -> tuple[int, np.ndarray]:
    """Sampling rate and samples of sentences of four languages, one after the other."""
    rate, parts = speak([(Voice(name=language, **_VOICE), sentences, 60.0)
                         for language, sentences in _SENTENCES.items()])
    return rate, np.concatenate([samples for part in parts for samples in part]).astype(np.float32)
