"""Decoding of any manifest with any model of ours: what `asr-kd decode` does."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asr_kd.adaptation.network_scores import NetworkScores
from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, write_json
from asr_kd.core.own_folders import FolderKind, check_replaceable
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import read_manifest
from asr_kd.decoding.graph import DecodingGraph, with_lexicon_of
from asr_kd.decoding.n_best import check_number
from asr_kd.decoding.outputs import n_best_split, timed_words, write_n_best, write_timed_words
from asr_kd.decoding.rescoring import check_weights
from asr_kd.decoding.search import SearchConfig, SearchError
from asr_kd.decoding.split import decode_split, rescore_split
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.gmm_scores import gmm_scorer
from asr_kd.hmm.model import HmmModel
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.scoring.transcripts import write_transcripts
from asr_kd.stages.decoding import Scorer
from asr_kd.stages.folder_kinds import FEATURES, GRAPH, HMM_MODEL, MANIFESTS, NETWORK, require_kind
from asr_kd.stages.folder_kinds import TRANSFORMS as TRANSFORMS_KIND
from asr_kd.stages.hmm import TRANSFORMS
from asr_kd.stages.model_folders import beneath
from asr_kd.stages.model_inputs import Audio, adaptation_facts, adapted_store, base_recipe, refuse_transcripts
from asr_kd.stages.networks import BUNDLE
from asr_kd.stages.speaker_adaptation import FirstPassConfig, first_pass_transforms
from asr_kd.stages.tuned_weights import find_tuned_weights

HYPOTHESES, WORDS, N_BEST, DECODING = "text", "words.ctm", "n_best.jsonl", "decoding.json"
_DECODING_FOLDER = FolderKind("decoding", (DECODING, HYPOTHESES), closed=False, keys=("utterances",))


def decode_manifest(
    manifests: Path,
    split: str,
    model: Path,
    graph: Path,
    output: Path,
    features: Path | None = None,
    network: Path | None = None,
    adapter: Path | None = None,
    refused_too: bool = False,
    transforms: Path | None = None,
    adapt: bool = True,
    beam: float = 11.0,
    max_active: int = 2500,
    lattice_beam: float = 6.0,
    acoustic_scale: float = 0.083333,
    lm_weight: float | None = None,
    insertion_penalty: float | None = None,
    n_best: int = 0,
    lattices: Literal["words", "states"] = "words",
    max_dropped: float = 0.05,
    resample: bool = False,
    mix_down: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Decode a split of a manifest folder with the HMM model `model` and its graph; returns `decoding.json`'s content.

    `output` gets the lattices, `text` (id and best words, what `asr-kd score` takes), `words.ctm` (times and
    confidences), with `n_best` above 0 `n_best.jsonl`, and `decoding.json`; a folder that an earlier decoding wrote is
    replaced, any other refused. LM weight and insertion penalty per word apply to all of these; the lattices can be
    rescored with others. Where neither is given they are those that the model's run chose (on dev, as a
    rule), if one of its stages scored this system; else 1 / acoustic_scale and 0.

    Scores are those of the model's Gaussians or of the bundle `network`, with an `adapter` or a folder of one a speaker
    (a speaker without one is scored by the network as it is, and counted; `refused_too` uses those that were refused).
    `features` is a frame store of the scoring
    model's recipe; without it features are computed from the audio, which `resample` and `mix_down` convert from other
    sampling rates and several channels. Where Gaussians or network are for features
    adapted to speakers, those are adapted to by `transforms` or, with `adapt`, in a first pass of our own.

    InputError for what does not belong together and for transforms supervised by transcripts; WorkError where more
    than the share `max_dropped` of the utterances cannot be decoded.
    """
    check_replaceable(Path(output), _DECODING_FOLDER)
    search = build_config(SearchConfig, Settings({
        "beam": beam, "max_active": max_active, "lattice_beam": lattice_beam, "acoustic_scale": acoustic_scale,
        "lattices": lattices}, {}))
    if lattices == "states" and n_best:
        raise InputError("n-best lists are made of word lattices; decode with lattices of words")
    check_number(n_best)
    for folder, kind, option in ((manifests, MANIFESTS, "--manifests"), (model, HMM_MODEL, "--model"),
                                 (graph, GRAPH, "--graph"), (features, FEATURES, "--features"),
                                 (network, NETWORK, "--network"), (transforms, TRANSFORMS_KIND, "--transforms")):
        require_kind(folder, kind, option)
    weights = _choose_weights(lm_weight, insertion_penalty, acoustic_scale, model, graph, network)
    check_weights(weights.lm_weight, weights.insertion_penalty)
    hmm = HmmModel.load(model)
    searched = DecodingGraph.load(graph, hmm.digest)
    hmm = with_lexicon_of(graph, hmm, searched.words)
    ids = [utterance.id for utterance in read_manifest(manifests, split)]
    conversion = AudioOptions(resample=resample, mix_down=mix_down)
    audio = Audio(manifests, split, features, max_dropped, workers, conversion)
    job = _Job(hmm, searched, audio, network, adapter, refused_too, transforms, adapt)
    with (
        atomic_folder(Path(output), _DECODING_FOLDER) as folder,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        one_torch_thread(),
    ):
        store, scorer, describe = job.scores(Path(scratch))
        frame_shift = store.recipe["frame_shift"] / 1000

        def scored(utterance_id: str) -> np.ndarray:
            if utterance_id not in store:
                raise SearchError("no features", f"{store.folder if features else 'its audio'} gave none")
            return scorer(utterance_id)

        # Features may be those of more utterances, or of fewer: the manifest says what is decoded.
        summary = decode_split(searched, ids, scored, search, folder, workers, frame_shift, max_dropped, hmm)
        pair = weights.lm_weight, weights.insertion_penalty
        hypotheses = rescore_split(folder, [pair[0]], [pair[1]], workers)[pair]
        write_transcripts(folder / HYPOTHESES, hypotheses)
        if lattices == "words":
            timed = timed_words(folder, hmm, *pair, workers)
            write_timed_words(folder / WORDS, timed)
        if n_best:
            write_n_best(folder / N_BEST, n_best_split(folder, n_best, *pair, workers, hmm))
        summary |= {"split": split, "model": hmm.digest, **describe(), **asdict(weights),
                    "seconds": round(summary["frames"] * frame_shift, 3)}
        write_json(folder / DECODING, summary)
    return summary


@dataclass(frozen=True)
class _Weights:
    """LM weight and insertion penalty applied to the lattices, and in words where they come from."""

    lm_weight: float
    insertion_penalty: float
    weights_from: str


def _choose_weights(
    lm_weight: float | None, insertion_penalty: float | None, acoustic_scale: float, model: Path, graph: Path,
    network: Path | None,
) -> _Weights:
    if lm_weight is not None and insertion_penalty is not None:
        return _Weights(lm_weight, insertion_penalty, "as given")
    tuned = find_tuned_weights(model, graph, network)
    if tuned is None:
        weights = 1 / acoustic_scale, 0.0
        source = "1 / acoustic scale and no penalty: no score stage beside the model chose any"
    else:
        weights = tuned.lm_weight, tuned.insertion_penalty
        source = f"chosen for {tuned.system} by the stage {tuned.score.name} of the run {tuned.score.parent}"
    if lm_weight is not None:
        return _Weights(lm_weight, weights[1], f"LM weight as given; penalty {source}")
    if insertion_penalty is not None:
        return _Weights(weights[0], insertion_penalty, f"penalty as given; LM weight {source}")
    return _Weights(*weights, source)


@dataclass(frozen=True)
class _Job:
    hmm: HmmModel
    graph: DecodingGraph
    audio: Audio
    network: Path | None
    adapter: Path | None
    refused_too: bool
    transforms: Path | None
    adapt: bool

    def scores(self, scratch: Path) -> tuple[FrameStore, Scorer, Callable[[], dict[str, Any]]]:
        """The features scored, their scores, and what describes them when all is scored."""
        if self.network is not None:
            return self._network_scores(self.network, scratch)
        if self.adapter is not None:
            raise InputError("an adapter is of a network; give its network too (--network), or leave it out")
        if self.transforms is not None and not self.hmm.is_speaker_adapted:
            raise InputError(f"the GMMs of {self.hmm.name} are not for adapted speech; leave out the transforms")
        store = self.audio.store(self.hmm.feature_recipe, "the GMMs", scratch)
        transforms = self._speaker_transforms(store) if self.hmm.is_speaker_adapted else None
        facts = {"scores": "gmm", "gmm": self.hmm.gmm_digest, **adaptation_facts(transforms)}
        return store, gmm_scorer(self.hmm, store, transforms), lambda: facts

    def _network_scores(
        self, network: Path, scratch: Path
    ) -> tuple[FrameStore, Scorer, Callable[[], dict[str, Any]]]:
        folder = beneath(network, BUNDLE)
        scores = NetworkScores.open(folder, hmm_digest=self.hmm.digest, adapters=self.adapter,
                                    refused_too=self.refused_too)
        card = scores.card
        facts: dict[str, Any] = {}
        if self.audio.features is None and card.feature_recipe.get("kind") == "fmllr":
            base = self.audio.store(base_recipe(folder, card.feature_recipe, self.hmm), "the GMMs", scratch)
            transforms = self._speaker_transforms(base)
            if transforms is None:
                raise InputError(f"{folder}: hears features adapted to speakers; give transforms or let it adapt")
            store = adapted_store(card.feature_recipe, self.hmm, base, transforms, scratch)
            facts |= adaptation_facts(transforms)
        elif self.transforms is not None:
            why = "hears features that no transforms are for" if self.audio.features is None else (
                "the features given are what it hears, transforms are not applied to them")
            raise InputError(f"{folder}: {why}; leave out the transforms")
        else:
            store = self.audio.store(card.feature_recipe, f"the network {folder}", scratch)
            refuse_transcripts(store.supervision, store.folder)
        return store, scores.of(store), lambda: {**scores.describe(), **facts}

    def _speaker_transforms(self, store: FrameStore) -> SpeakerTransforms | None:
        if self.transforms is not None:
            folder = beneath(self.transforms, TRANSFORMS, self.audio.split)
            transforms = SpeakerTransforms.load(folder, self.hmm.gmm_digest)
            refuse_transcripts(transforms.supervision, folder)
            return transforms
        if not self.adapt:
            return None
        return first_pass_transforms(self.hmm, self.graph, store, FirstPassConfig(), self.audio.workers)
