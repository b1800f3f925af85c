"""Forced alignment of any manifest with any model of ours: what `asr-kd align` does."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr_kd.adaptation.network_scores import NetworkScores
from asr_kd.alignment.align import (
    AlignConfig,
    ScoreSource,
    UnusableUtterance,
    UtteranceAlignment,
    align_to_folder,
    gmm_score_source,
    matrix_score_source,
)
from asr_kd.alignment.time_marks import Format, write_time_marks
from asr_kd.alignment.viterbi import FrameScores
from asr_kd.bootstrap.adapted_alignment import adapted_score_source
from asr_kd.core.config import Settings, build_config
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, write_json
from asr_kd.core.own_folders import FolderKind, check_replaceable
from asr_kd.core.text_tables import is_word, words_of
from asr_kd.data.audio import AudioOptions
from asr_kd.data.manifest import Utterance, read_manifest
from asr_kd.features.frame_store import FrameStore
from asr_kd.features.speaker_transforms import SpeakerTransforms
from asr_kd.hmm.model import HmmModel
from asr_kd.models.log_likelihoods import one_torch_thread
from asr_kd.stages.folder_kinds import FEATURES, HMM_MODEL, MANIFESTS, NETWORK, require_kind
from asr_kd.stages.folder_kinds import TRANSFORMS as TRANSFORMS_KIND
from asr_kd.stages.hmm import TRANSFORMS
from asr_kd.stages.model_folders import beneath, load_hmm
from asr_kd.stages.model_inputs import Audio, adaptation_facts, adapted_store, base_recipe
from asr_kd.stages.networks import BUNDLE

ALIGNMENTS, SCORES, SUMMARY = "alignments", "scores.jsonl", "summary.json"
_ALIGNMENT_FOLDER = FolderKind("alignment", (ALIGNMENTS, SCORES, SUMMARY), closed=False)
FORMATS: tuple[Format, ...] = ("ctm", "textgrid", "ids")


def align_manifest(
    manifests: Path,
    split: str,
    model: Path,
    output: Path,
    features: Path | None = None,
    network: Path | None = None,
    adapter: Path | None = None,
    refused_too: bool = False,
    transforms: Path | None = None,
    adapt: bool = False,
    lexicon: Path | None = None,
    formats: list[str] | None = None,
    beam: float = 10.0,
    retry_beam: float = 40.0,
    acoustic_scale: float = 0.1,
    boost_silence: float = 1.0,
    map_unknown: bool = False,
    max_dropped: float = 0.05,
    resample: bool = False,
    mix_down: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Align a split of a manifest folder with the HMM model in the folder `model`; returns `summary.json`'s content.

    `output` gets the AlignmentStore `alignments`, `scores.jsonl` (log-likelihood per frame of each utterance), what
    `formats` asks for (default: ctm and textgrid, see `write_time_marks`) and `summary.json`; a folder that an
    earlier alignment wrote is replaced, any other refused.

    Scores are those of the model's Gaussians or of the bundle `network`, less log priors as in decoding, with an
    `adapter` or a folder of one a speaker, as in decoding too. `features` is a frame store of the scoring model's
    recipe; without it features are computed from the audio, which `resample` and `mix_down` convert from other sampling
    rates and several channels. Speakers are adapted to by `transforms`, or with `adapt` by fMLLR transforms that a
    first alignment supervises; a network that hears fMLLR features and is given none needs one of the two. `lexicon`
    holds other words in the model's phones.

    InputError for what does not belong together, and for words without pronunciation unless `map_unknown`; WorkError
    where more than the share `max_dropped` of the utterances cannot be aligned.
    """
    chosen = _formats(formats)
    check_replaceable(Path(output), _ALIGNMENT_FOLDER)
    settings = {"beam": beam, "retry_beam": retry_beam, "acoustic_scale": acoustic_scale,
                "boost_silence": boost_silence, "map_unknown": map_unknown, "max_dropped": max_dropped}
    config = build_config(AlignConfig, Settings(settings, {}))
    for folder, kind, option in ((manifests, MANIFESTS, "--manifests"), (model, HMM_MODEL, "--model"),
                                 (features, FEATURES, "--features"), (network, NETWORK, "--network"),
                                 (transforms, TRANSFORMS_KIND, "--transforms")):
        require_kind(folder, kind, option)
    hmm = load_hmm(Path(model), lexicon)
    utterances = read_manifest(manifests, split)
    _check_ids(utterances, chosen, manifests)
    transcripts = {utterance.id: words_of(utterance.text) for utterance in utterances}
    hmm.lexicon.word_ids(transcripts, map_unknown)
    hmm.lexicon.warn_of_other_forms(transcripts)
    conversion = AudioOptions(resample=resample, mix_down=mix_down)
    audio = Audio(manifests, split, features, max_dropped, workers, conversion)
    job = _Job(hmm, config, audio, transcripts, network, adapter, refused_too, transforms, adapt, workers)
    with atomic_folder(Path(output), _ALIGNMENT_FOLDER) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch:
        store, scores_of, describe = job.scores(Path(scratch))

        def source(utterance: str) -> FrameScores:
            if utterance in job.audio.unusable:
                raise UnusableUtterance(*job.audio.unusable[utterance])
            return scores_of(utterance)

        tally = _Tally()
        with open(folder / SCORES, "w", encoding="utf-8") as scores, one_torch_thread():
            def note(one: UtteranceAlignment) -> None:
                scores.write(tally.line(one))

            # Features given may be those of a larger set: the manifest says what is aligned.
            alignments, drops = align_to_folder(folder / ALIGNMENTS, hmm, source, list(transcripts), transcripts,
                                                config, workers, note)
        frame_shift = store.recipe["frame_shift"] / 1000
        write_time_marks(folder, alignments, transcripts, hmm, chosen, frame_shift, _durations(utterances))
        summary = {"split": split, "model": hmm.digest, "lexicon": hmm.lexicon.digest, **describe(),
                   "settings": config.model_dump(), "formats": list(chosen), "utterances": drops.as_dict(),
                   "frames": tally.frames, "seconds": round(tally.frames * frame_shift, 3),
                   "log_likelihood_per_frame": tally.mean}
        write_json(folder / SUMMARY, summary)
    return summary


@dataclass(frozen=True)
class _Job:
    hmm: HmmModel
    config: AlignConfig
    audio: Audio
    transcripts: Mapping[str, Sequence[str]]
    network: Path | None
    adapter: Path | None
    refused_too: bool
    transforms: Path | None
    adapt: bool
    workers: int | None

    def scores(self, scratch: Path) -> tuple[FrameStore, ScoreSource, Callable[[], dict[str, Any]]]:
        """The features scored, their scores, and what describes them when all is scored."""
        if self.adapt and self.transforms is not None:
            raise InputError("transforms are given and to be estimated as well (--adapt); choose one of them")
        if self.network is None:
            store = self.audio.store(self.hmm.feature_recipe, "the GMMs", scratch)
            if self.adapter is not None:
                raise InputError("an adapter is of a network; give its network too (--network), or leave it out")
            source, transforms = self._gmm_scores(store, scratch)
            facts = {"scores": "gmm", "gmm": self.hmm.gmm_digest, **adaptation_facts(transforms)}
            return store, source, lambda: facts
        return self._network_scores(self.network, scratch)

    def _gmm_scores(self, store: FrameStore, scratch: Path) -> tuple[ScoreSource, SpeakerTransforms | None]:
        if self.adapt:
            return adapted_score_source(self.hmm, store, self.transcripts, self.config, scratch / "first",
                                        workers=self.workers)
        transforms = None
        if self.transforms is not None:
            folder = beneath(self.transforms, TRANSFORMS, self.audio.split)
            transforms = SpeakerTransforms.load(folder, self.hmm.gmm_digest)
        return gmm_score_source(self.hmm, store, self.config, transforms), transforms

    def _network_scores(
        self, network: Path, scratch: Path
    ) -> tuple[FrameStore, ScoreSource, Callable[[], dict[str, Any]]]:
        folder = beneath(network, BUNDLE)
        scores = NetworkScores.open(folder, hmm_digest=self.hmm.digest, adapters=self.adapter,
                                    refused_too=self.refused_too)
        card = scores.card
        facts: dict[str, Any] = {}
        if self.adapt or self.transforms is not None:
            base = self.audio.store(base_recipe(folder, card.feature_recipe, self.hmm), "the GMMs", scratch)
            _, transforms = self._gmm_scores(base, scratch)
            assert transforms is not None
            store = adapted_store(card.feature_recipe, self.hmm, base, transforms, scratch)
            facts |= adaptation_facts(transforms)
        else:
            store = self.audio.store(card.feature_recipe, f"the network {folder}", scratch)
        scores_of = scores.of(store)

        def matrix(utterance: str) -> np.ndarray:
            if utterance not in store:
                raise KeyError(utterance)
            return scores_of(utterance)

        return store, matrix_score_source(self.hmm, matrix, self.config), lambda: {**scores.describe(), **facts}


class _Tally:
    """Frames and log-likelihood of what was aligned."""

    def __init__(self) -> None:
        self.frames = 0
        self._total = 0.0

    @property
    def mean(self) -> float | None:
        return round(self._total / self.frames, 4) if self.frames else None

    def line(self, one: UtteranceAlignment) -> str:
        """A line of `scores.jsonl`."""
        frames = 0 if one.transition_ids is None else len(one.transition_ids)
        self.frames += frames
        self._total += one.log_likelihood * frames if frames else 0.0
        score = round(one.log_likelihood, 4) if np.isfinite(one.log_likelihood) else None
        row = {"id": one.utterance, "frames": frames, "log_likelihood_per_frame": score}
        if one.transition_ids is None:
            row["dropped"] = one.reason
        return json.dumps(row, ensure_ascii=False) + "\n"


def _formats(formats: Sequence[str] | None) -> tuple[Format, ...]:
    wrong = sorted(set(formats or ()) - set(FORMATS))
    if wrong:
        raise InputError(f"format {wrong[0]!r}: expected one of {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in (formats or FORMATS[:2]))


def _check_ids(utterances: Sequence[Utterance], formats: Sequence[Format], manifests: Path) -> None:
    wrong = next((utterance.id for utterance in utterances if not is_word(utterance.id)), None)
    if wrong is not None and {"ctm", "ids"} & set(formats):
        raise InputError(f"{manifests}: the id {wrong!r} cannot stand in CTM files and Kaldi's archives, which part "
                         "fields by spaces; rename such utterances, or ask for --format textgrid alone")


def _durations(utterances: Sequence[Utterance]) -> dict[str, float]:
    return {utterance.id: utterance.duration for utterance in utterances}
