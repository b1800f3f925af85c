"""Stages that adapt a network to speakers, and that make the reserve by which adaptation is held in check."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from asr_kd.adaptation.adaptation_set import AdaptationBase, adapt_to_set
from asr_kd.adaptation.adapter import AdapterOrigin, save_adapter, write_speakers
from asr_kd.adaptation.config import AdaptationConfig
from asr_kd.adaptation.recognition import Recogniser, recognise
from asr_kd.adaptation.report import describe_outcome, render_report
from asr_kd.adaptation.reserve import Reserve, choose_utterances, write_reserve
from asr_kd.adaptation.teaching import transcript_misfits
from asr_kd.alignment.align import AlignConfig, align_log_likelihoods
from asr_kd.core.bounds import InsertionPenalty, LmWeight
from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import link_or_copy
from asr_kd.core.parallel import map_threads
from asr_kd.core.stages import Stage, StageContext
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.features.frame_store import FrameStore
from asr_kd.hmm.model import HmmModel
from asr_kd.models.bundle import load_bundle
from asr_kd.models.log_likelihoods import log_likelihoods, one_torch_thread
from asr_kd.scoring.adaptation_gate import GateConfig
from asr_kd.scoring.teaching import learns_from_teacher, learns_transcripts
from asr_kd.stages.adaptation_sets import (
    AdaptationSpeech,
    SoftTeacher,
    TeachingConfig,
    alignment_posteriors,
    build_set,
)
from asr_kd.stages.hmm import transcripts_of
from asr_kd.stages.networks import BUNDLE, heard_by_teacher

RESERVE = "reserve"
ADAPTERS = "adapters"


class RecogniserConfig(Config):
    """The search by which adapters are judged, narrower than that of results, and the weights of its words."""

    search: SearchConfig = SearchConfig(beam=10.0, max_active=1500, lattice_beam=4.0)
    lm_weight: LmWeight = 10.0
    insertion_penalty: InsertionPenalty = 1.0

    def with_graph(self, graph: DecodingGraph) -> Recogniser:
        """Return the recogniser that searches `graph`."""
        return Recogniser(graph, self.search, self.lm_weight, self.insertion_penalty)


class AdaptersStageConfig(Config):
    """The speech adapted to, what teaches and what moves, and (with `gate`) what judges.

    per: an adapter for each speaker of all splits, or one for all speech of one split. every_speaker: 2 takes every
    second speaker of a split, and so on.
    """

    splits: list[Name] = Field(["dev", "test"], min_length=1)
    per: Literal["speaker", "set"] = "speaker"
    every_speaker: int = Field(1, gt=0)
    teaching: TeachingConfig = TeachingConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    gate: GateConfig | None = None
    recogniser: RecogniserConfig = RecogniserConfig()


class ReserveStageConfig(Config):
    """How much of the training speech is kept beside a network, and how the canary is recognised."""

    split: Name = "train"
    canary_seconds: float = Field(180.0, gt=0, le=180)
    replay_seconds: float = Field(240.0, gt=0)
    alignment: AlignConfig = AlignConfig(max_dropped=1.0, map_unknown=True)
    recogniser: RecogniserConfig = RecogniserConfig()


def check_adapters(config: AdaptersStageConfig, inputs: Mapping[str, Stage]) -> None:
    """InputError where what teaches, or judges, is not among the inputs."""
    _check_inputs(config, inputs)


def make_adapters(
    inputs: Mapping[str, Path], config: AdaptersStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """An adapter for each speaker of some splits, in a folder of its own, and `adapters.json`, which names them.

    A killed stage goes on with the speakers that are not done.
    """
    _check_inputs(config, inputs)
    hmm = HmmModel.load(inputs["hmm"])
    speech = {split: _speech(inputs, split) for split in config.splits}
    bundle = inputs["network"] / BUNDLE
    recipe = next(iter(speech.values())).store.recipe
    network, card = load_bundle(bundle, hmm_digest=hmm.digest, feature_recipe=recipe)
    recogniser = None
    if "graph" in inputs:
        recogniser = config.recogniser.with_graph(DecodingGraph.load(inputs["graph"], hmm.digest))
    reserve = Reserve.open(inputs[RESERVE] / RESERVE, card, bundle) if RESERVE in inputs else None
    base = AdaptationBase(network, card, bundle, recogniser, reserve)
    teachers = {split: _teacher(inputs, split, speech[split].store, hmm) for split in config.splits}
    sets = _parted(speech, config.per, config.every_speaker)
    names = {name: f"{number:04d}" for number, name in enumerate(sorted(sets), 1)}

    def adapt(name: str) -> dict[str, Any]:
        split, utterances = sets[name]
        folder = context.work / ADAPTERS / names[name]
        if folder.is_dir():
            return {}
        chosen, drops = build_set(base, hmm, speech[split], utterances, config.teaching, teachers[split],
                                  config.adaptation.criterion, workers=1)
        outcome = adapt_to_set(base, chosen, config.adaptation, config.gate, seed=context.seed, workers=1,
                               description=f"{context.name} {name}")
        report = {**describe_outcome(outcome), "dropped": drops.as_dict()}
        origin = AdapterOrigin(
            name=name, split=split, seed=context.seed, teaching=config.teaching.teaching,
            seconds=round(chosen.seconds, 2), utterances=sorted(chosen.posteriors))
        save_adapter(folder, outcome.tensors, card, context.name, config.adaptation.parameters, origin,
                     prior=outcome.prior, refusals=outcome.refusals, report=report, page=render_report(name, report))
        return {}

    with one_torch_thread():
        for _ in map_threads(adapt, sorted(sets), None, context.name, "spk"):
            pass
    made = context.work / ADAPTERS
    if config.per == "set":
        made = made / names[config.splits[0]]
    shutil.copytree(made, output, copy_function=link_or_copy, dirs_exist_ok=True)
    if config.per == "speaker":
        write_speakers(output, names)
    return {"adapters": len(sets)}


def make_reserve(
    inputs: Mapping[str, Path], config: ReserveStageConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """The canary and the speech to replay of a network, each at most 2 MB, in the sub-folder `reserve`.

    The canary is of the speakers that were held out when the network was trained; of all where none were.
    """
    hmm = HmmModel.load(inputs["hmm"])
    store = FrameStore.open(inputs["features"] / config.split)
    bundle = inputs["network"] / BUNDLE
    network, card = load_bundle(bundle, hmm_digest=hmm.digest, feature_recipe=store.recipe)
    held_out = set(card.provenance.get("held_out_speakers") or store.speakers.values())
    transcripts = transcripts_of(inputs["manifests"], config.split, store)
    per_second = 1000 / store.recipe["frame_shift"]
    plain = [name for name in store.ids if name not in store.sources and transcripts.get(name)]
    canary = choose_utterances(store, [name for name in plain if store.speakers[name] in held_out],
                               round(config.canary_seconds * per_second))
    trained_on = [name for name in plain if store.speakers[name] not in held_out] or plain
    replay = choose_utterances(store, trained_on, round(config.replay_seconds * per_second))
    recogniser = config.recogniser.with_graph(DecodingGraph.load(inputs["graph"], hmm.digest))
    heard = AdaptationSpeech(store, transcripts)

    def scores(name: str) -> Any:
        return log_likelihoods(network, card, store[name])

    with one_torch_thread():
        known = {name: transcripts[name] for name in canary}
        aligned = alignment_posteriors(hmm, align_log_likelihoods(hmm, scores, known, config.alignment)[0])
        canary = [name for name in canary if name in aligned]
        recognised = recognise(network, card, [heard.utterance(name, True) for name in canary], recogniser)
        misfits = transcript_misfits(scores, aligned, recognised)
    write_reserve(output / RESERVE, store, canary, replay, transcripts, recognised, misfits, card, recogniser)
    return {"canary": len(canary), "canary_wer": round(recognised.errors.wer, 2), "replay": len(replay)}


def _check_inputs(config: AdaptersStageConfig, inputs: Mapping[str, Any]) -> None:
    teaching = config.teaching.teaching
    needed = {}
    if learns_transcripts(teaching):
        needed["manifests"] = f"teaching by {teaching}"
    if learns_from_teacher(teaching):
        needed["teacher"] = f"teaching by {teaching}"
    if teaching == "first-pass":
        needed["graph"] = f"teaching by {teaching}"
    if config.adaptation.criterion is not None:
        needed["graph"] = "a criterion over lattices"
    if config.gate is not None:
        needed["graph"] = "the gate"
    if config.adaptation.replay_share:
        needed[RESERVE] = "replay_share"
    if config.per == "set" and len(config.splits) > 1:
        raise InputError(f"per: set makes one adapter, but there are {len(config.splits)} splits; expected one")
    for name, reason in needed.items():
        if name not in inputs:
            raise InputError(f"{reason} needs the input {name!r}")
    if "teacher" in inputs and not learns_from_teacher(teaching):
        raise InputError("a teacher is among the inputs, but the settings say that others teach; set teaching.teaching "
                         "to teacher or both, or leave it out")


def _speech(inputs: Mapping[str, Path], split: str) -> AdaptationSpeech:
    store = FrameStore.open(inputs["features"] / split)
    return AdaptationSpeech(store, transcripts_of(inputs["manifests"], split, store) if "manifests" in inputs else {})


def _teacher(inputs: Mapping[str, Path], split: str, store: FrameStore, hmm: HmmModel) -> SoftTeacher | None:
    if "teacher" not in inputs:
        return None
    heard = heard_by_teacher(inputs, split, store)
    network, card = load_bundle(inputs["teacher"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=heard.recipe)
    return SoftTeacher(network, card, heard)


def _parted(
    speech: Mapping[str, AdaptationSpeech], per: Literal["speaker", "set"], every_speaker: int
) -> dict[str, tuple[str, list[str]]]:
    """Name of the set -> split and utterances. InputError: a speaker of two splits."""
    sets: dict[str, tuple[str, list[str]]] = {}
    for split, of_split in speech.items():
        kept = set(sorted(set(of_split.store.speakers.values()))[::every_speaker])
        for name in of_split.store.ids:
            if of_split.store.speakers[name] not in kept:
                continue
            key = of_split.store.speakers[name] if per == "speaker" else split
            owner, utterances = sets.setdefault(key, (split, []))
            if owner != split:
                raise InputError(f"speaker {key} is in {owner} and in {split}; adapt to one split at a time")
            utterances.append(name)
    return sets
