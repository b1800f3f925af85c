"""Stages that make the lattices of sequence training: graphs with a weak language model, and the search of train."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.core.config import Config, Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_json, read_json, write_json
from asr_kd.core.stages import StageContext
from asr_kd.data.manifest import read_manifest
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import HYPOTHESES, SUMMARY, decode_split
from asr_kd.decoding.training_lattices import TrainingSpeech, with_numerators
from asr_kd.features.frame_store import FrameStore
from asr_kd.graph.hclg import GraphConfig, build_graph
from asr_kd.hmm.model import HmmModel
from asr_kd.lm.arpa import read_arpa
from asr_kd.lm.jackknife import part_speakers, unseen_text
from asr_kd.lm.perplexity import perplexity
from asr_kd.lm.text import read_vocabulary
from asr_kd.lm.training import LanguageModelConfig, train_language_model
from asr_kd.models.bundle import load_bundle
from asr_kd.models.log_likelihoods import log_likelihoods, one_torch_thread
from asr_kd.scoring.wer import total_errors
from asr_kd.stages.hmm import transcripts_of
from asr_kd.stages.language_model import find_language_model
from asr_kd.stages.networks import BUNDLE
from asr_kd.stages.prepare import LEXICON

_FOLDS = "folds.json"
_BLOCK = 500  # utterances that are searched before what was found is safe


class TrainingGraphsConfig(Config):
    """A weak n-gram model of the transcripts of `split`, jack-knifed: the speakers are parted into `folds`, and each
    fold has a model of the sentences that none of its speakers says."""

    split: Name = "train"
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
    """A decoding graph for each fold of speakers, `fold-0` and so on, and the fold of each speaker.

    With the input language_model there is one fold, searched with that model, which should be weak.
    """
    hmm = HmmModel.load(inputs["hmm"])
    utterances = list(read_manifest(inputs["manifests"], config.split))
    if "language_model" in inputs:
        folds = dict.fromkeys({u.speaker for u in utterances}, 0)
        models = [(read_arpa(find_language_model(inputs)), 0)]
    else:
        folds = part_speakers([u.speaker for u in utterances], config.folds)
        vocabulary = read_vocabulary(inputs["manifests"] / LEXICON)
        models = []
        for fold in range(config.folds):
            text = unseen_text(utterances, folds, fold)
            if not text:
                raise InputError(f"{inputs['manifests']}: no sentence of {config.split} is left for the language model "
                                 f"of fold {fold}; take fewer folds, or give a language_model")
            model, _ = train_language_model(text, vocabulary=vocabulary, config=config.language_model)
            models.append((model, len(text)))
    summaries = []
    for fold, (model, sentences) in enumerate(models):
        graph = build_graph(hmm, model, output / f"fold-{fold}", config.graph)
        own = [u.text.split() for u in utterances if folds[u.speaker] == fold]
        summaries.append({"sentences": sentences, "own_sentences": len(own),
                          "perplexity": round(perplexity(model, own).perplexity, 2), "arcs": graph["arcs"]})
    write_json(output / _FOLDS, {"speakers": folds, "folds": len(models)})
    return {"folds": summaries}


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
    model, card = load_bundle(inputs["network"] / BUNDLE, hmm_digest=hmm.digest, feature_recipe=store.recipe)
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

    def scorer(name: str) -> Any:
        return log_likelihoods(model, card, store[name])

    graphs = [DecodingGraph.load(inputs["graphs"] / f"fold-{fold}", hmm.digest) for fold in range(len(folds))]
    searched: list[tuple[Path, DecodingGraph]] = []
    with one_torch_thread():
        for fold, (names, graph) in enumerate(zip(folds, graphs, strict=True)):
            for begin in range(0, len(names), _BLOCK):
                part = context.work / f"fold-{fold}" / str(begin)
                if not (part / SUMMARY).is_file():
                    # The cap is for all of them together, below.
                    decode_split(graph, names[begin:begin + _BLOCK], scorer, config.search, part, max_dropped=1.0,
                                 frame_shift=store.recipe["frame_shift"] / 1000)
                searched.append((part, graph))
        description = {"hmm": hmm.digest, "network": card.digest, "features": store.digest,
                       "graphs": [graph.digest for graph in graphs], "settings": config.model_dump(),
                       "alignments": None if alignments is None else alignments.digest}
        pdf_ids = {} if alignments is None else alignments.pdf_ids(hmm)
        summary = with_numerators(
            searched, TrainingSpeech(transcripts, pdf_ids, scorer, hmm.lexicon.unknown_word), config.search, output,
            {**description, "made_of": hash_json(description)}, config.max_arcs, config.max_dropped)
    parts = [read_json(part / SUMMARY) for part, _ in searched]
    errors, words = (sum(counts) for counts in zip(*(_errors(part, transcripts) for part, _ in searched), strict=True))
    seconds = {name: round(sum(part[name] for part in parts), 2) for name in
               ("score_cpu_seconds", "search_cpu_seconds", "determinization_cpu_seconds")}
    return {**summary, "wer": round(100 * errors / max(words, 1), 2), **seconds,
            "partial": sum(len(part["partial"]) for part in parts),
            "shrunk_beams": {name: beam for part in parts for name, beam in part["lattices"]["shrunk_beams"].items()}}


def _errors(part: Path, transcripts: Mapping[str, list[str]]) -> tuple[int, int]:
    """Word errors of the best paths, and how many words were said."""
    with open(part / HYPOTHESES, encoding="utf-8") as lines:
        found = {line["id"]: line["words"] for line in map(json.loads, lines)}
    said = {name: transcripts[name] for name in found}
    return total_errors(said, found), sum(map(len, said.values()))
