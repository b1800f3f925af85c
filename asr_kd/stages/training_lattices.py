"""Stages that make the lattices of sequence training: graphs with a weak language model, and the search of train."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from asr_kd.adaptation.network_scores import NetworkScores
from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json, read_json, write_json
from asr_kd.core.stages import StageContext
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import Utterance, read_manifest
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import SUMMARY, decode_split
from asr_kd.decoding.training_lattices import TrainingSpeech, with_numerators
from asr_kd.features.frame_store import FrameStore
from asr_kd.graph.hclg import GraphConfig, build_graph
from asr_kd.hmm.model import HmmModel
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.jackknife import part_speakers, unseen_text
from asr_kd.lm.perplexity import perplexity
from asr_kd.lm.text import read_vocabulary
from asr_kd.lm.training import LanguageModelConfig, train_language_model
from asr_kd.models.bundle import ModelCard
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.stages.hmm import transcripts_of
from asr_kd.stages.language_model import find_language_model
from asr_kd.stages.lattice_quality import lattice_quality
from asr_kd.stages.model_inputs import refuse_transcripts
from asr_kd.stages.networks import BUNDLE
from asr_kd.stages.prepare import LEXICON

REPORT = "report.json"  # how lattices were searched, and how good they are
_FOLDS, _COMPARED = "folds.json", "compared"
_BLOCK = 500  # utterances that are searched before what was found is safe


class TrainingGraphsConfig(Config):
    """A weak n-gram model of the transcripts of `split`, jack-knifed: the speakers are parted into `folds`, and each
    fold has a model of the sentences that none of its speakers says.

    compare_with: a split beside which the lattices are to be judged, searched with a model of the sentences of `split`
    that none of its own speakers says.
    """

    split: Name = "train"
    compare_with: Name | None = None
    folds: int = Field(5, ge=2)
    language_model: LanguageModelConfig = LanguageModelConfig(order=2)
    graph: GraphConfig = GraphConfig()


class TrainingLatticesConfig(Config):
    """The search of a split whose words are known. max_arcs: of the state-level lattice of an utterance."""

    split: Name = "train"
    search: SearchConfig = SearchConfig(lattice_beam=7.0, acoustic_scale=0.1)
    max_arcs: int = Field(1_000_000, gt=0)
    max_dropped: float = Field(0.05, ge=0, le=1)


def build_graphs(
    inputs: Mapping[str, Path], config: TrainingGraphsConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """A decoding graph for each fold of speakers, `fold-0` and so on, the fold of each speaker, and `compared`.

    With the input language_model there is one fold, searched with that model, which should be weak.
    """
    hmm = HmmModel.load(inputs["hmm"])
    utterances = list(read_manifest(inputs["manifests"], config.split))
    if "language_model" in inputs:
        folds = dict.fromkeys({u.speaker for u in utterances}, 0)
    else:
        folds = part_speakers([u.speaker for u in utterances], config.folds)
    num_folds = max(folds.values()) + 1
    parts = {f"fold-{fold}": ([u for u in utterances if folds[u.speaker] != fold],
                              [u for u in utterances if folds[u.speaker] == fold]) for fold in range(num_folds)}
    if config.compare_with is not None:
        parts[_COMPARED] = utterances, list(read_manifest(inputs["manifests"], config.compare_with))
    summaries = {name: _build_graph(inputs, config, hmm, others, own, output / name)
                 for name, (others, own) in parts.items()}
    write_json(output / _FOLDS, {"speakers": folds, "folds": num_folds, "compared": config.compare_with})
    return summaries


def _build_graph(
    inputs: Mapping[str, Path], config: TrainingGraphsConfig, hmm: HmmModel, others: list[Utterance],
    own: list[Utterance], folder: Path,
) -> dict[str, Any]:
    """The graph that searches `own`, with a language model of what only `others` say."""
    sentences = None
    if "language_model" in inputs:
        model = read_arpa(find_language_model(inputs))
    elif text := unseen_text(others, own):
        sentences, vocabulary = len(text), read_vocabulary(inputs["manifests"] / LEXICON)
        model, _ = train_language_model(text, vocabulary=vocabulary, config=config.language_model)
    else:
        raise InputError(f"{inputs['manifests']}: no sentence of {config.split} is left for the language model of "
                         f"{folder.name}; take fewer folds, or give a language_model")
    graph = build_graph(hmm, model, folder, config.graph)
    found = perplexity(model, [words_of(utterance.text) for utterance in own]).perplexity
    return {"sentences": sentences, "own_sentences": len(own), "perplexity": round(found, 2), "arcs": graph["arcs"]}


def make_lattices(
    inputs: Mapping[str, Path], config: TrainingLatticesConfig, output: Path, context: StageContext
) -> dict[str, Any]:
    """Word lattices of a split by the network's scores, with numerators from the alignments where there are any.

    A killed run goes on with the block of utterances that it was in.
    """
    if config.search.lattices != "words":
        raise InputError("lattices for training are word lattices; leave search.lattices at words")
    hmm = HmmModel.load(inputs["hmm"])
    store = FrameStore.open(inputs["features"] / config.split)
    network = NetworkScores.open(inputs["network"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=store.recipe,
                                 adapters=inputs.get("adapters"))
    card = network.card
    transcripts = transcripts_of(inputs["manifests"], config.split, store)
    alignments = AlignmentStore.open(inputs["alignments"], hmm) if "alignments" in inputs else None
    if alignments is not None:
        alignments.check_lengths({name: len(store[name]) for name in store.ids})
    parting = read_json(inputs["graphs"] / _FOLDS)
    folds: list[list[str]] = [[] for _ in range(parting["folds"])]
    for name in store.ids:
        if name not in transcripts or store.speakers[name] not in parting["speakers"]:
            raise InputError(f"{inputs['graphs'] / _FOLDS}: no graph for {name} (speaker {store.speakers[name]}) of "
                             f"{config.split}; make the graphs, and the features, of this split's manifest")
        folds[parting["speakers"][store.speakers[name]]].append(name)
    graphs = [DecodingGraph.load(inputs["graphs"] / f"fold-{fold}", hmm.digest) for fold in range(len(folds))]
    compared = None if parting.get("compared") is None else _Compared.open(inputs, parting["compared"], hmm, card)
    with one_torch_thread():
        searched = [(part, graph) for fold, (names, graph) in enumerate(zip(folds, graphs, strict=True))
                    for part in _search(graph, names, store, network.of(store), config, context.work / f"fold-{fold}")]
        description = {"hmm": hmm.digest, "network": card.digest, "features": store.digest,
                       "graphs": [graph.digest for graph in graphs], "settings": config.model_dump(),
                       "alignments": None if alignments is None else alignments.digest}
        pdf_ids = {} if alignments is None else alignments.pdf_ids(hmm)
        summary = with_numerators(
            searched, TrainingSpeech(transcripts, pdf_ids, network.of(store), hmm.lexicon.unknown_word), config.search,
            output, {**description, "made_of": hash_json(description)}, config.max_arcs, config.max_dropped)
        qualities = {config.split: lattice_quality([part for part, _ in searched], transcripts)}
        if compared is not None:
            parts = _search(compared.graph, compared.store.ids, compared.store, network.of(compared.store), config,
                            context.work / _COMPARED)
            qualities[compared.split] = lattice_quality(parts, compared.transcripts)
    write_json(output / REPORT, {
        **{name: getattr(config.search, name) for name in ("acoustic_scale", "beam", "lattice_beam")},
        "dropped": sum(summary["utterances"]["dropped"].values()),
        "numerators_added": len(summary["numerators_added"]),
        "without_numerator": len(summary["without_numerator"]),
        "splits": [{"split": split, **asdict(quality)} for split, quality in qualities.items()]})
    summaries = [read_json(part / SUMMARY) for part, _ in searched]
    seconds = {name: round(sum(one[name] for one in summaries), 2) for name in
               ("score_cpu_seconds", "search_cpu_seconds", "determinization_cpu_seconds")}
    return {**summary, "quality": {split: asdict(quality) for split, quality in qualities.items()}, **seconds,
            "partial": sum(len(one["partial"]) for one in summaries),
            "shrunk_beams": {name: beam for one in summaries for name, beam in one["lattices"]["shrunk_beams"].items()}}


@dataclass(frozen=True)
class _Compared:
    """A split that the network has not heard, beside which its training lattices are judged."""

    split: str
    store: FrameStore
    transcripts: dict[str, list[str]]
    graph: DecodingGraph

    @staticmethod
    def open(inputs: Mapping[str, Path], split: str, hmm: HmmModel, card: ModelCard) -> "_Compared":
        """InputError: features of another kind, adapted by transcripts, or without a transcript."""
        store = FrameStore.open(inputs["features"] / split)
        refuse_transcripts(store.supervision, store.folder)
        if store.recipe != card.feature_recipe:
            raise InputError(f"{store.folder}: other features than the network was trained on; make them as those were")
        transcripts = transcripts_of(inputs["manifests"], split, store)
        for name in store.ids:
            if name not in transcripts:
                raise InputError(f"{store.folder}: {name} is no utterance of {split} in {inputs['manifests']}; make "
                                 "the features of this manifest")
        return _Compared(split, store, transcripts, DecodingGraph.load(inputs["graphs"] / _COMPARED, hmm.digest))


def _search(
    graph: DecodingGraph, names: Sequence[str], store: FrameStore, scores: Callable[[str], np.ndarray],
    config: TrainingLatticesConfig, work: Path,
) -> list[Path]:
    """Folders of `decode_split`, a block of utterances each; those that are there already stay as they are."""
    parts = []
    for begin in range(0, len(names), _BLOCK):
        part = work / str(begin)
        if not (part / SUMMARY).is_file():
            # The cap is for all of them together, in with_numerators.
            decode_split(graph, names[begin:begin + _BLOCK], scores, config.search, part, max_dropped=1.0,
                         frame_shift=store.recipe["frame_shift"] / 1000)
        parts.append(part)
    return parts
