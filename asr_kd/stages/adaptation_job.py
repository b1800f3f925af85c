"""The work of `asr-kd adapt` once its speech is read: features, adapters and reports, for a set or for each speaker."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from asr_kd.adaptation.adaptation_set import AdaptationBase, adapt_to_set
from asr_kd.adaptation.adapter import (
    REPORT,
    AdapterOrigin,
    begin_speakers,
    end_speakers,
    finished_key,
    save_adapter,
)
from asr_kd.adaptation.config import AdaptationConfig
from asr_kd.adaptation.recognition import Recogniser
from asr_kd.adaptation.report import describe_outcome, render_report
from asr_kd.adaptation.reserve import Reserve
from asr_kd.core.config import Config
from asr_kd.core.errors import AsrKdError, InputError, WorkError
from asr_kd.core.files import hash_bytes, hash_json, read_json
from asr_kd.core.log import get_logger
from asr_kd.core.parallel import map_threads
from asr_kd.core.text_tables import words_of
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import Utterance, write_manifest
from asr_kd.decoding.graph import DecodingGraph, with_lexicon_of
from asr_kd.decoding.search import SearchConfig
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.bundle import ModelCard, load_bundle
from asr_kd.scoring.adaptation_gate import GateConfig
from asr_kd.scoring.teaching import learns_from_teacher, learns_transcripts
from asr_kd.stages.adaptation_sets import AdaptationSpeech, SoftTeacher, TeachingConfig, build_set
from asr_kd.stages.adapters import RESERVE, RecogniserConfig
from asr_kd.stages.model_folders import beneath
from asr_kd.stages.model_inputs import Audio, adapted_store, base_recipe
from asr_kd.stages.networks import BUNDLE
from asr_kd.stages.speaker_adaptation import FirstPassConfig, first_pass_transforms
from asr_kd.stages.speech_input import SPLIT, SpeechInput
from asr_kd.stages.systems import RunSystem
from asr_kd.stages.tuned_weights import find_tuned_weights

logger = get_logger(__name__)


class AdaptOptions(Config):
    """Settings of `asr-kd adapt`, each with a default chosen on dev (ADAPTATION.md)."""

    adaptation: AdaptationConfig = AdaptationConfig()
    teaching: TeachingConfig = TeachingConfig()
    gate: GateConfig = GateConfig()
    search: SearchConfig = RecogniserConfig().search


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher, its card, and the folder that it is in."""

    network: nn.Module
    card: ModelCard
    folder: Path


@dataclass(frozen=True)
class LoadedSystem:
    """A network with all that adapts and judges it, read once for any number of sets of speech."""

    base: AdaptationBase
    hmm: HmmModel
    graph: DecodingGraph
    options: AdaptOptions
    teacher: LoadedTeacher | None

    @staticmethod
    def open(found: RunSystem, options: AdaptOptions) -> "LoadedSystem":
        """Read a system's models; its teacher where the options let it teach. Errors as of the models' readers."""
        hmm = HmmModel.load(found.model)
        graph = DecodingGraph.load(found.graph, hmm.digest)
        hmm = with_lexicon_of(found.graph, hmm, graph.words)
        bundle = beneath(found.network, BUNDLE)
        network, card = load_bundle(bundle, hmm_digest=hmm.digest)
        teacher = None
        if learns_from_teacher(options.teaching.teaching):
            assert found.teacher is not None
            folder = beneath(found.teacher, BUNDLE)
            teacher = LoadedTeacher(*load_bundle(folder, hmm_digest=hmm.digest), folder)
        reserve = None
        if found.reserve is not None:
            reserve = Reserve.open(beneath(found.reserve, RESERVE), card, bundle)
        tuned = find_tuned_weights(found.model, found.graph, found.network)
        weights = (1 / options.search.acoustic_scale, 0.0) if tuned is None else (
            tuned.lm_weight, tuned.insertion_penalty)
        recogniser = Recogniser(graph, options.search, *weights)
        return LoadedSystem(AdaptationBase(network, card, bundle, recogniser, reserve), hmm, graph, options, teacher)

    def job(self, given: SpeechInput, audio: AudioOptions, scratch: Path, workers: int | None) -> "AdaptationJob":
        """Make the features of this speech that network and teacher hear, in the folder `scratch`.

        InputError for words without pronunciation where transcripts teach, unless the options map them.
        """
        write_manifest(scratch / "manifests", SPLIT, given.utterances)
        source = Audio(scratch / "manifests", SPLIT, None, 1.0, workers, audio)
        stores = _Features(self.hmm, self.graph, source, scratch)
        store = stores.of(self.base.name, self.base.card)
        teacher = None
        if self.teacher is not None:
            teacher = SoftTeacher(self.teacher.network, self.teacher.card,
                                  stores.of(self.teacher.folder, self.teacher.card))
        transcripts = {utterance.id: words_of(utterance.text) for utterance in given.utterances if utterance.text}
        if learns_transcripts(self.options.teaching.teaching):
            self.hmm.lexicon.word_ids(transcripts, self.options.teaching.alignment.map_unknown)
            self.hmm.lexicon.warn_of_other_forms(transcripts)
        return AdaptationJob(self.base, self.hmm, self.options, AdaptationSpeech(store, transcripts), teacher, given,
                             source.unusable, workers)


@dataclass(frozen=True)
class AdaptationJob:
    """The features of some speech, and what teaches on it: adapts to all of it, or to each speaker."""

    base: AdaptationBase
    hmm: HmmModel
    options: AdaptOptions
    speech: AdaptationSpeech
    teacher: SoftTeacher | None
    given: SpeechInput
    unusable: dict[str, tuple[str, str]]
    workers: int | None
    warnings: list[str] = field(default_factory=list)

    def adapt(
        self, utterances: Sequence[Utterance], name: str, output: Path, gate: bool, seed: int,
        workers: int | None = None,
    ) -> dict[str, Any]:
        """Adapt to these utterances, write the adapter and return its report."""
        names = self._with_features(utterances)
        if not names:
            reasons = sorted({reason for reason, _ in self.unusable.values()})
            raise InputError(f"{name}: no utterance has features ({', '.join(reasons)})")
        speech, drops = build_set(self.base, self.hmm, self.speech, names, self.options.teaching, self.teacher,
                                  self.options.adaptation.criterion, workers)
        outcome = adapt_to_set(self.base, speech, self.options.adaptation, self.options.gate if gate else None,
                               seed=seed, workers=workers, description=name)
        report = {**describe_outcome(outcome), "name": name, "teaching": self.options.teaching.teaching,
                  "dropped": drops.as_dict(),
                  "unusable": {one.id: self.unusable[one.id] for one in utterances if one.id in self.unusable}}
        if len(utterances) == len(self.given.utterances):
            report |= self._facts_of_all()
        card = self.base.card
        origin = AdapterOrigin(
            name=name, seed=seed, teaching=self.options.teaching.teaching, seconds=round(speech.seconds, 2),
            utterances=sorted(speech.posteriors), settings=self.options.model_dump(mode="json"),
            key=self._key(utterances, gate, seed))
        save_adapter(output, outcome.tensors, card, str(self.base.name), self.options.adaptation.parameters, origin,
                     prior=outcome.prior, refusals=outcome.refusals, report=report, page=render_report(name, report))
        return report

    def adapt_speakers(self, output: Path, gate: bool, seed: int) -> dict[str, Any]:
        """Adapt to each speaker by itself; the reports by speaker, and the speakers that failed, each with its reason.

        Speakers are adapted to in parallel. What an interrupted call finished in `output`, of the same speech with the
        same settings, is kept. WorkError where all failed.
        """
        of_speaker: dict[str, list[Utterance]] = {}
        for utterance in self.given.utterances:
            of_speaker.setdefault(utterance.speaker, []).append(utterance)
        folders = {speaker: f"{number:04d}" for number, speaker in enumerate(sorted(of_speaker), 1)}
        failures: dict[str, str] = {}

        def adapt(speaker: str) -> dict[str, Any] | None:
            utterances, folder = of_speaker[speaker], output / folders[speaker]
            if finished_key(folder) == self._key(utterances, gate, seed):
                report: dict[str, Any] = read_json(folder / REPORT)
                return report
            try:
                return self.adapt(utterances, speaker, folder, gate, seed, workers=1)
            except AsrKdError as error:
                failures[speaker] = str(error)
                logger.warning("speaker %s: not adapted to: %s", speaker, error)
                return None

        begin_speakers(output)
        speakers = sorted(of_speaker)
        made = dict(zip(speakers, map_threads(adapt, speakers, self.workers, "speakers", "spk"), strict=True))
        reports = {speaker: report for speaker, report in made.items() if report is not None}
        if not reports:
            raise WorkError(f"none of {len(failures)} speakers can be adapted to; the first: "
                            f"{failures[min(failures)]}")
        end_speakers(output, {speaker: folders[speaker] for speaker in reports})
        return {"speakers": reports, "failures": dict(sorted(failures.items())), **self._facts_of_all()}

    def _with_features(self, utterances: Sequence[Utterance]) -> list[str]:
        return [utterance.id for utterance in utterances if utterance.id in self.speech.store]

    def _key(self, utterances: Sequence[Utterance], gate: bool, seed: int) -> str:
        """A digest of all that an adapter of these utterances, and its report, are made from."""
        base, recogniser = self.base, self.base.recogniser
        assert recogniser is not None
        names = self._with_features(utterances)
        heard = [self.speech.store, *([] if self.teacher is None else [self.teacher.heard])]
        return hash_json([
            base.card.digest, self.hmm.digest, recogniser.graph.digest, recogniser.lm_weight,
            recogniser.insertion_penalty, None if base.reserve is None else base.reserve.digest,
            None if self.teacher is None else self.teacher.card.digest,
            self.options.model_dump(mode="json"), gate, seed,
            [[name, self.speech.transcripts.get(name), [hash_bytes(store[name].tobytes()) for store in heard]]
             for name in names],
            sorted(utterance.id for utterance in utterances)])

    def _facts_of_all(self) -> dict[str, Any]:
        """Facts of the whole speech, whoever speaks."""
        return {"faulty_audio": self.given.drops.as_dict(), "warnings": self.warnings}


@dataclass(frozen=True)
class _Features:
    """Features of the same audio as several networks hear it, each kind made once."""

    hmm: HmmModel
    graph: DecodingGraph
    audio: Audio
    scratch: Path

    def of(self, folder: Path, card: ModelCard) -> FrameStore:
        """The features that a network hears; those adapted to speakers by a first pass over this audio alone."""
        recipe = card.feature_recipe
        place = self.scratch / f"features-{card.digest[:12]}"
        if recipe.get("kind") != "fmllr":
            return self.audio.store(recipe, f"the network {folder}", place)
        base = self.audio.store(base_recipe(folder, recipe, self.hmm), "the GMMs", place)
        transforms = first_pass_transforms(self.hmm, self.graph, base, FirstPassConfig(), self.audio.workers)
        return adapted_store(recipe, self.hmm, base, transforms, place)
