"""Adaptation of a network to any small set of speech: what `asr-kd adapt` does."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr_kd.adaptation.adaptation_set import AdaptationBase, adapt_to_set
from asr_kd.adaptation.adapter import ADAPTER, ADAPTERS, AdapterOrigin, save_adapter, write_speakers
from asr_kd.adaptation.config import AdaptationConfig, Teaching
from asr_kd.adaptation.gate import GateConfig
from asr_kd.adaptation.recognition import Recogniser
from asr_kd.adaptation.report import describe_outcome, render_report
from asr_kd.adaptation.reserve import Reserve
from asr_kd.core.config import Config, Settings, build_config, nearest_name
from asr_kd.core.drops import Drops
from asr_kd.core.errors import AsrKdError, InputError, WorkError
from asr_kd.core.files import atomic_folder, hash_file, list_files
from asr_kd.core.log import get_logger
from asr_kd.core.own_folders import check_replaceable
from asr_kd.core.text_tables import words_of
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import Utterance, read_manifest, write_manifest
from asr_kd.decoding.graph import DecodingGraph, with_lexicon_of
from asr_kd.decoding.search import SearchConfig
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.bundle import ModelCard, load_bundle
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.stages.adaptation_sets import AdaptationSpeech, SoftTeacher, TeachingConfig, build_set
from asr_kd.stages.adapters import RESERVE, RecogniserConfig
from asr_kd.stages.folder_kinds import GRAPH, HMM_MODEL, NETWORK, require_kind
from asr_kd.stages.listening import listen
from asr_kd.stages.model_folders import beneath
from asr_kd.stages.model_inputs import Audio, adapted_store, base_recipe
from asr_kd.stages.networks import BUNDLE
from asr_kd.stages.speaker_adaptation import FirstPassConfig, first_pass_transforms
from asr_kd.stages.speech_input import SPLIT, SpeechInput, read_speech
from asr_kd.stages.systems import RunSystem, find_judged_speech, find_system
from asr_kd.stages.tuned_weights import find_tuned_weights

logger = get_logger(__name__)


class AdaptOptions(Config):
    """Settings of `asr-kd adapt`, each with a default chosen on dev (ADAPTATION.md)."""

    adaptation: AdaptationConfig = AdaptationConfig()
    teaching: TeachingConfig = TeachingConfig()
    gate: GateConfig = GateConfig()
    search: SearchConfig = RecogniserConfig().search


class AdapterRefused(AsrKdError):
    """Raised by the command when all is done: the adapter was refused, it is kept and not active (exit code 3)."""

    exit_code = 3


def adapt_network(
    speech: Path,
    output: Path,
    run: Path | None = None,
    system: str | None = None,
    network: Path | None = None,
    model: Path | None = None,
    graph: Path | None = None,
    teacher: Path | None = None,
    reserve: Path | None = None,
    split: str | None = None,
    transcripts: Path | None = None,
    speaker: str | None = None,
    seconds: float | None = None,
    teach: Literal["auto", "transcripts", "first-pass", "teacher"] = "auto",
    per: Literal["set", "speaker"] = "set",
    parameters: list[str] | None = None,
    gate: bool = True,
    map_unknown: bool = False,
    resample: bool = False,
    mix_down: bool = False,
    seed: int = 0,
    set_: list[str] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Adapt a network to a small set of speech, judge the adapter and write it to `output`; returns its report.

    The network is that of the `system` of a finished `run`, whose HMM model, graph, teacher and reserve go with it; or
    the bundle `network` with its HMM `model` and `graph`. `speech`, `split`, `transcripts` and `speaker`: see
    `read_speech`; of speech that names its speakers only that of `speaker` is taken, and of that the first `seconds`.
    `teach`: what is learnt; auto takes transcripts where there are any, else the teacher, else the
    network's own first pass. A network or teacher that hears features adapted to speakers is given transforms of a
    first pass over this very speech. `per` speaker makes an adapter for each, in a folder that `adapters.json` lists.

    With `gate` (the reserve, where there is one, gives it its canary) an adapter that does not prove itself is written,
    but is not active, and its report says why. `set_`: `KEY=VALUE` for the other settings
    (`AdaptOptions`). An adapter in `output` is replaced, any other folder refused. InputError for what does not belong
    together, for words without pronunciation unless `map_unknown`, and for speech of the run's own dev and test with
    transcripts.
    """
    found = _found_system(run, system, network, model, graph, teacher, reserve)
    check_replaceable(Path(output), ADAPTER if per == "set" else ADAPTERS)
    options = _options(parameters, map_unknown, set_)
    audio = AudioOptions(resample=resample, mix_down=mix_down)
    with tempfile.TemporaryDirectory() as scratch, one_torch_thread():
        given = read_speech(Path(speech), Path(scratch) / "given", split=split, transcripts=transcripts,
                            speaker=speaker)
        given = _chosen(given, speaker, seconds)
        given, warnings = listen(given, audio, workers)
        supervised = any(utterance.text for utterance in given.utterances)
        teaching = _choose_teaching(teach, supervised, found)
        if teaching == "transcripts":
            _refuse_judged_speech(given.utterances, found)
        options = options.model_copy(update={
            "teaching": options.teaching.model_copy(update={"teaching": teaching})})
        job = _Job.open(found, options, given, audio, Path(scratch), teaching == "transcripts", workers)
        job.warnings.extend(warnings)
        if per == "set":
            return job.adapt(given.utterances, speaker or split or Path(speech).name, Path(output), gate, seed)
        return job.adapt_speakers(Path(output), gate, seed)


def _found_system(
    run: Path | None, system: str | None, network: Path | None, model: Path | None, graph: Path | None,
    teacher: Path | None, reserve: Path | None,
) -> RunSystem:
    """What is adapted, and what goes with it; what is given takes the place of what the run has."""
    for folder, kind, option in ((network, NETWORK, "--network"), (model, HMM_MODEL, "--model"),
                                 (graph, GRAPH, "--graph"), (teacher, NETWORK, "--teacher")):
        require_kind(folder, kind, option)
    if run is not None:
        if system is None:
            raise InputError("a run is given, but not which of its systems is to be adapted; name it by --system")
        found = find_system(run, system)
        return replace(found, network=network or found.network, model=model or found.model, graph=graph or found.graph,
                       teacher=teacher or found.teacher, reserve=reserve or found.reserve)
    given = {"--network": network, "--model": model, "--graph": graph}
    missing = [name for name, folder in given.items() if folder is None]
    if missing:
        raise InputError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; give --run and "
                         "--system, or a network with its model and its graph")
    assert network is not None and model is not None and graph is not None
    tuned = find_tuned_weights(Path(model), Path(graph), Path(network))
    manifests, judged_on = (None, ()) if tuned is None else find_judged_speech(tuned.score)
    return RunSystem(Path(network).name, Path(network), Path(model), Path(graph), manifests, teacher, reserve,
                     judged_on)


def _chosen(given: SpeechInput, speaker: str | None, seconds: float | None) -> SpeechInput:
    """The utterances of this speaker alone, and of these the first that last `seconds` together, the last included.

    InputError: no such speaker.
    """
    speakers = {utterance.speaker for utterance in given.utterances}
    kept = [utterance for utterance in given.utterances if speaker in (None, utterance.speaker)]
    if not kept:
        raise InputError(f"no speech of speaker {speaker!r}; {nearest_name(str(speaker), sorted(speakers))}")
    if seconds is not None:
        before = np.cumsum([0.0, *(utterance.duration for utterance in kept)])
        kept = [utterance for utterance, begun in zip(kept, before, strict=False) if begun < seconds]
    return given if len(kept) == len(given.utterances) else SpeechInput(kept, Drops(len(kept), cap=1.0))


def _options(parameters: list[str] | None, map_unknown: bool, set_: Sequence[str] | None) -> AdaptOptions:
    values: dict[str, Any] = {"adaptation": {"parameters": parameters}} if parameters else {}
    if map_unknown:
        values["teaching"] = {"alignment": {"map_unknown": True}}
    settings = Settings(values, {})
    for assignment in set_ or ():
        if assignment.partition("=")[0] == "teaching.teaching":
            raise InputError(f"--set {assignment}: what teaches is said by --teach")
        settings = settings.with_override(assignment)
    return build_config(AdaptOptions, settings)


def _refuse_judged_speech(utterances: Sequence[Utterance], found: RunSystem) -> None:
    """InputError for transcribed speech by which the run's systems are judged, whatever its files are called now."""
    if found.manifests is None:
        return
    sizes = {utterance.audio.stat().st_size for utterance in utterances}
    given: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        given.setdefault(hash_file(utterance.audio), []).append(utterance)
    for split in found.judged_on:
        for judged in read_manifest(found.manifests, split):
            if not judged.audio.is_file() or judged.audio.stat().st_size not in sizes:
                continue
            for utterance in given.get(hash_file(judged.audio), []):
                if _overlap(utterance, judged):
                    raise InputError(f"{utterance.id}: is speech of {split} ({judged.id}), by which the run's systems "
                                     "are judged; its transcripts may not be learnt: adapt to other speech, or let the "
                                     "teacher or a first pass teach")


def _overlap(first: Utterance, second: Utterance) -> bool:
    """Return True where two stretches of one recording have some time in common."""
    begin = max(first.start, second.start)
    return begin < min(first.start + first.duration, second.start + second.duration)


def _choose_teaching(teach: str, supervised: bool, found: RunSystem) -> Teaching:
    if teach == "transcripts" and not supervised:
        raise InputError("no utterance has a transcript; give --transcripts, or teach by first-pass or teacher")
    if teach == "teacher" and found.teacher is None:
        raise InputError(f"the system {found.id} was not taught by a teacher of this run; give one by --teacher")
    if teach != "auto":
        return teach  # type: ignore[return-value]
    if supervised:
        return "transcripts"
    return "first-pass" if found.teacher is None else "teacher"


@dataclass(frozen=True)
class _Job:
    """Everything that one call needs: the base, the features of all utterances, and what teaches."""

    base: AdaptationBase
    hmm: HmmModel
    options: AdaptOptions
    speech: AdaptationSpeech
    teacher: SoftTeacher | None
    given: SpeechInput
    unusable: dict[str, tuple[str, str]]
    workers: int | None
    warnings: list[str] = field(default_factory=list)

    @staticmethod
    def open(
        found: RunSystem, options: AdaptOptions, given: SpeechInput, audio: AudioOptions, scratch: Path,
        supervised: bool, workers: int | None,
    ) -> "_Job":
        """Load models and make the features that network and teacher hear."""
        hmm = HmmModel.load(found.model)
        graph = DecodingGraph.load(found.graph, hmm.digest)
        hmm = with_lexicon_of(found.graph, hmm, graph.words)
        bundle = beneath(found.network, BUNDLE)
        network, card = load_bundle(bundle, hmm_digest=hmm.digest)
        write_manifest(scratch / "manifests", SPLIT, given.utterances)
        source = Audio(scratch / "manifests", SPLIT, None, 1.0, workers, audio)
        stores = _Features(hmm, graph, source, scratch)
        store = stores.of(bundle, card)
        teacher = None
        if options.teaching.teaching == "teacher":
            assert found.teacher is not None
            folder = beneath(found.teacher, BUNDLE)
            soft, soft_card = load_bundle(folder, hmm_digest=hmm.digest)
            teacher = SoftTeacher(soft, soft_card, stores.of(folder, soft_card))
        reserve = None
        if found.reserve is not None:
            reserve = Reserve.open(beneath(found.reserve, RESERVE), card, bundle)
        tuned = find_tuned_weights(found.model, found.graph, found.network)
        weights = (1 / options.search.acoustic_scale, 0.0) if tuned is None else (
            tuned.lm_weight, tuned.insertion_penalty)
        recogniser = Recogniser(graph, options.search, *weights)
        transcripts = {utterance.id: words_of(utterance.text) for utterance in given.utterances if utterance.text}
        if supervised:
            hmm.lexicon.word_ids(transcripts, options.teaching.alignment.map_unknown)
            hmm.lexicon.warn_of_other_forms(transcripts)
        return _Job(AdaptationBase(network, card, bundle, recogniser, reserve), hmm, options,
                    AdaptationSpeech(store, transcripts), teacher, given, source.unusable, workers)

    def adapt(self, utterances: Sequence[Utterance], name: str, output: Path, gate: bool, seed: int) -> dict[str, Any]:
        """Adapt to these utterances, write the adapter and return its report."""
        names = [utterance.id for utterance in utterances if utterance.id in self.speech.store]
        if not names:
            reasons = sorted({reason for reason, _ in self.unusable.values()})
            raise InputError(f"{name}: no utterance has features ({', '.join(reasons)})")
        speech, drops = build_set(self.base, self.hmm, self.speech, names, self.options.teaching, self.teacher,
                                  self.options.adaptation.criterion, self.workers)
        outcome = adapt_to_set(self.base, speech, self.options.adaptation, self.options.gate if gate else None,
                               seed=seed, workers=self.workers, description=name)
        report = {**describe_outcome(outcome), "name": name, "teaching": self.options.teaching.teaching,
                  "dropped": drops.as_dict(),
                  "unusable": {one.id: self.unusable[one.id] for one in utterances if one.id in self.unusable}}
        if len(utterances) == len(self.given.utterances):
            report |= self._facts_of_all()
        card = self.base.card
        origin = AdapterOrigin(
            name=name, seed=seed, teaching=self.options.teaching.teaching, seconds=round(speech.seconds, 2),
            utterances=sorted(speech.posteriors), settings=self.options.model_dump(mode="json"))
        save_adapter(output, outcome.tensors, card, str(self.base.name), self.options.adaptation.parameters, origin,
                     refusals=outcome.refusals, report=report, page=render_report(name, report))
        return report

    def adapt_speakers(self, output: Path, gate: bool, seed: int) -> dict[str, Any]:
        """Adapt to each speaker by itself; the reports by speaker, and the speakers that failed, each with its reason.

        WorkError where all failed.
        """
        of_speaker: dict[str, list[Utterance]] = {}
        for utterance in self.given.utterances:
            of_speaker.setdefault(utterance.speaker, []).append(utterance)
        folders = {speaker: f"{number:04d}" for number, speaker in enumerate(sorted(of_speaker), 1)}
        reports: dict[str, dict[str, Any]] = {}
        failures: dict[str, str] = {}
        with atomic_folder(output, ADAPTERS) as temporary:
            for speaker, utterances in sorted(of_speaker.items()):
                try:
                    reports[speaker] = self.adapt(utterances, speaker, temporary / folders[speaker], gate, seed)
                except AsrKdError as error:
                    failures[speaker] = str(error)
                    logger.warning("speaker %s: not adapted to: %s", speaker, error)
            if not reports:
                raise WorkError(f"none of {len(failures)} speakers can be adapted to; the first: "
                                f"{next(iter(failures.values()))}")
            write_speakers(temporary, {speaker: folders[speaker] for speaker in reports})
        return {"speakers": reports, "failures": failures, **self._facts_of_all()}

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


def adapter_bytes(output: Path) -> int:
    """Bytes of all files of an adapter."""
    return sum(path.stat().st_size for path in list_files(output))
