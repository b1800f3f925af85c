"""Stages that build the decoding graph and search it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from asr_kd.adaptation.network_scores import NetworkScores
from asr_kd.alignment.alignment_store import AlignmentStore
from asr_kd.bootstrap.pronunciation_probabilities import estimate_pronunciation_probabilities
from asr_kd.core.config import AddedLater, Config, Name, Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, list_files, write_json
from asr_kd.core.own_folders import FolderKind, check_replaceable
from asr_kd.core.stages import StageContext
from asr_kd.core.text_tables import words_of
from asr_kd.data.manifest import list_splits, read_manifest
from asr_kd.decoding.graph import DecodingGraph, with_lexicon_of, write_lexicon
from asr_kd.decoding.search import SearchConfig
from asr_kd.decoding.split import decode_split
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.graph.hclg import GraphConfig, build_graph
from asr_kd.hmm.gmm_scores import gmm_for, gmm_scorer
from asr_kd.hmm.model import HmmModel
from asr_kd.lm.arpa import read_arpa
from asr_kd.models.bundle import bundle_bytes
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.stages.folder_kinds import HMM_MODEL, require_kind
from asr_kd.stages.hmm import TRANSFORMS
from asr_kd.stages.language_model import find_language_model
from asr_kd.stages.model_folders import load_hmm
from asr_kd.stages.model_inputs import refuse_transcripts
from asr_kd.stages.networks import BUNDLE, PASSES, in_percent
from asr_kd.stages.prepare import LEXICON

SYSTEM = "system.json"
_GRAPH_FOLDER = FolderKind("decoding graph", ("graph.json", "HCLG.fst", "words.txt"), closed=False)
Scorer = Callable[[str], np.ndarray]


class DecodeConfig(Config):
    """The search, and the splits that are decoded; each_pass: by the network of each pass of a sequence training (kept
    with keep_passes) in place of the one chosen, each in its own folder, `pass1` and so on."""

    splits: list[Name] = Field(["dev", "test"], min_length=1)
    each_pass: bool = False
    refused_too: Annotated[bool, AddedLater()] = Field(
        False, description="with the input `adapters`: use those that their gate refused, too")
    search: SearchConfig = SearchConfig()
    max_dropped: float = Field(0.05, ge=0, le=1)


class GraphStageConfig(GraphConfig):
    """A decoding graph; own_words: of the words of the manifests' `lexicon.txt`, in the model's phones, in place of the
    model's own words."""

    own_words: Annotated[bool, AddedLater()] = False


def build(inputs: Mapping[str, Path], config: GraphStageConfig, output: Path, context: StageContext) -> dict[str, Any]:
    """HCLG of the model, its lexicon and the language model.

    With `alignments` of training speech, pronunciations and silence get the probabilities that those speak of.
    """
    hmm = load_hmm(inputs["hmm"], inputs["manifests"] / LEXICON if config.own_words else None)
    if "alignments" in inputs:
        alignments = AlignmentStore.open(inputs["alignments"], hmm)
        transcripts = {u.id: words_of(u.text) for split in list_splits(inputs["manifests"])
                       for u in read_manifest(inputs["manifests"], split)}
        hmm = hmm.with_lexicon(estimate_pronunciation_probabilities(hmm, alignments, transcripts, map_unknown=True)[0])
    return _build(hmm, find_language_model(inputs), output, GraphConfig(**config.model_dump(exclude={"own_words"})))


def build_decoding_graph(
    model: Path,
    lm: Path,
    output: Path,
    lexicon: Path | None = None,
    transition_scale: float = 1.0,
    self_loop_scale: float = 0.1,
    allow_missing_words: bool = True,
) -> dict[str, Any]:
    """HCLG of the HMM model in the folder `model` and the ARPA file `lm`; see `build_graph`. `asr-kd graph`.

    `lexicon` holds other words than the model's own, in its phones; InputError where it has others. A graph in
    `output` is replaced, any other folder refused.
    """
    check_replaceable(Path(output), _GRAPH_FOLDER)
    require_kind(model, HMM_MODEL, "--model")
    hmm = load_hmm(model, lexicon)
    config = build_config(GraphConfig, Settings({
        "transition_scale": transition_scale, "self_loop_scale": self_loop_scale,
        "allow_missing_words": allow_missing_words}, {}))
    with atomic_folder(Path(output), _GRAPH_FOLDER) as folder:
        return _build(hmm, lm, folder, config)


def decode(inputs: Mapping[str, Path], config: DecodeConfig, output: Path, context: StageContext) -> dict[str, Any]:
    """Lattices and best words of each split, by the network's scores where there is one, else by the GMMs'."""
    hmm = HmmModel.load(inputs["hmm"])
    graph = DecodingGraph.load(inputs["graph"], hmm.digest)
    hmm = with_lexicon_of(inputs["graph"], hmm, graph.words)
    if not config.each_pass:
        chosen = inputs["network"] / BUNDLE if "network" in inputs else None
        return _decode(inputs, config, graph, hmm, chosen, output)
    if "network" not in inputs or not (inputs["network"] / PASSES).is_dir():
        raise InputError("each_pass is set, but no network with passes is among the inputs; set keep_passes in its "
                         "training")
    return {f"pass{bundle.name}": _decode(inputs, config, graph, hmm, bundle, output / f"pass{bundle.name}")
            for bundle in sorted((inputs["network"] / PASSES).iterdir(), key=lambda folder: int(folder.name))}


def _decode(
    inputs: Mapping[str, Path], config: DecodeConfig, graph: DecodingGraph, hmm: HmmModel, bundle: Path | None,
    output: Path,
) -> dict[str, Any]:
    summaries: dict[str, Any] = {}
    real_time_factors: dict[str, float] = {}
    adaptation: dict[str, Any] = {}
    for split in config.splits:
        store = FrameStore.open(inputs["features"] / split)
        refuse_transcripts(store.supervision, store.folder)
        scorer, facts, scores = _scorer(inputs, hmm, store, split, bundle, config.refused_too)
        if scores is not None and scores.adapted is not None:
            scores.adapted.refuse_learnt(store.ids)
        frame_shift = store.recipe["frame_shift"] / 1000
        with one_torch_thread():
            summary = decode_split(
                graph, store.ids, scorer, config.search, output / split,
                frame_shift=frame_shift, max_dropped=config.max_dropped, hmm=hmm,
            )
        parts = (f"{part}_real_time_factor" for part in ("score", "search", "determinization"))
        if scores is not None and scores.adapted is not None:
            summary |= {"adapted": scores.adapted.describe()}
            adaptation[split] = scores.adapted.describe_making(split)
        real_time_factors[split] = round(sum(summary[part] for part in parts), 4)
        summaries[split] = summary
    if adaptation:
        facts |= {"adaptation": adaptation}
    write_json(output / SYSTEM, {**facts, "real_time_factor": real_time_factors})
    return summaries


def _build(hmm: HmmModel, lm: Path, folder: Path, config: GraphConfig) -> dict[str, Any]:
    summary = build_graph(hmm, read_arpa(lm), folder, config)
    write_lexicon(folder, hmm.lexicon)
    return summary


def _scorer(
    inputs: Mapping[str, Path], hmm: HmmModel, store: FrameStore, split: str, bundle: Path | None, refused_too: bool
) -> tuple[Scorer, dict[str, Any], NetworkScores | None]:
    """Utterance id -> log-likelihoods (frames, pdfs), what the results say of the model, and the network if it is
    one."""
    if bundle is None:
        transforms = None
        if "transforms" in inputs:
            transforms = SpeakerTransforms.load(inputs["transforms"] / TRANSFORMS / split, hmm.gmm_digest)
            refuse_transcripts(transforms.supervision, inputs["transforms"])
        return *_gmm_scorer(inputs["hmm"], hmm, store, transforms), None
    if "transforms" in inputs:
        raise InputError("transforms are for Gaussians; a network hears features that were adapted before")
    scores = NetworkScores.open(bundle, hmm_digest=hmm.digest, feature_recipe=store.recipe,
                                adapters=inputs.get("adapters"), refused_too=refused_too)
    card = scores.card
    result = card.provenance["result"]
    facts = {"params": card.parameters, "bytes": bundle_bytes(bundle), "train_minutes": round(result["minutes"], 2),
             "frame_accuracy": in_percent(result["cv_frame_accuracy"]), "revision": card.provenance.get("revision")}
    facts |= {name: result[name] for name in ("curve", "soft_targets", "passes", "training_lattices") if name in result}
    return scores.of(store), facts, scores


def _gmm_scorer(
    folder: Path, hmm: HmmModel, store: FrameStore, transforms: SpeakerTransforms | None
) -> tuple[Scorer, dict[str, Any]]:
    gmm = gmm_for(hmm, transforms)
    if hmm.feature_recipe != store.recipe:
        raise InputError(f"{folder}: the GMMs were trained on other features than {store.folder}; decode with theirs")
    parameters = gmm.means.size + gmm.variances.size + len(gmm.weights)
    facts = {"params": parameters, "bytes": _size(folder), "train_minutes": None, "frame_accuracy": None}
    return gmm_scorer(hmm, store, transforms), facts


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in list_files(folder) if path.name.startswith("model."))
