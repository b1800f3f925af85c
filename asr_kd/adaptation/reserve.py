"""The reserve: a little speech of the training corpus that is shipped beside a network.

A folder with `reserve.json` and two frame stores of features as the network hears them. `canary`: utterances of
speakers that the network was not trained on, with what was said and how well the unadapted network recognises it.
`replay`: utterances that it was trained on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr_kd.adaptation.recognition import Recognised, Recogniser, Recognition, SpokenUtterance
from asr_kd.core.cards import SealedCard, read_card, write_card
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import hash_bytes, hash_json
from asr_kd.decoding.graph import DecodingGraph
from asr_kd.decoding.search import SearchConfig
from asr_kd.features.frame_store import FrameStore, FrameStoreWriter
from asr_kd.models.bundle import ModelCard
from asr_kd.scoring.wer import ErrorCounts

CARD, CANARY, REPLAY = "reserve.json", "canary", "replay"
MAX_BYTES = 2_000_000  # of each of the two


class CanaryScore(Config):
    """Recognition of one utterance of the canary by the unadapted network."""

    words: list[str]
    errors: list[int] = Field(min_length=4, max_length=4, description="words, substitutions, deletions, insertions")
    expected_errors: float
    log_likelihood: float
    frames: int
    misfit: float = Field(description="what a forced alignment of its transcript lacks of its best path, a frame")


class ReserveCard(SealedCard):
    """The content of `reserve.json`; the score is that with this graph, these weights and this search."""

    format: Literal[1] = 1
    network: str = Field(description="digest of the network")
    graph: str
    lm_weight: float
    insertion_penalty: float
    search: dict[str, Any]
    transcripts: dict[str, str] = Field(description="of the canary's utterances")
    scores: dict[str, CanaryScore]


@dataclass(frozen=True)
class Reserve:
    """A reserve read into memory: the canary, its recognition by the unadapted network, features to replay."""

    card: ReserveCard
    canary: list[SpokenUtterance]
    replay: list[NDArray[np.float32]]
    digest: str

    @staticmethod
    def open(folder: Path, network: ModelCard, name: Path) -> "Reserve":
        """Read a reserve. InputError: missing or damaged files, another network than `network` (in the folder `name`).
        """
        folder = Path(folder)
        card = read_card(folder / CARD, ReserveCard, "make the reserve again")
        if card.network != network.digest:
            raise InputError(f"{folder}: the reserve of the network {card.network[:12]}, not of {name} "
                             f"({network.digest[:12]}); give that of this network")
        stores = [FrameStore.open(folder / part) for part in (CANARY, REPLAY)]
        for store in stores:
            store.verify()
            if store.recipe != network.feature_recipe:
                raise InputError(f"{store.folder}: other features than {name} hears; make the reserve again")
        canary, replay = stores
        if set(canary.ids) != set(card.transcripts) or set(canary.ids) != set(card.scores):
            raise InputError(f"{folder / CARD}: not the utterances of {canary.folder}; make the reserve again")
        heard = [SpokenUtterance(name, canary[name], card.transcripts[name].split()) for name in canary.ids]
        content = hash_json([card.digest, *(hash_bytes(store.frames.tobytes()) for store in stores)])
        return Reserve(card, heard, [replay[name] for name in replay.ids], content)

    def recogniser(self, recogniser: Recogniser) -> Recogniser:
        """Return what the canary is recognised by: the given graph, with the reserve's own search and weights."""
        search = SearchConfig.model_validate(self.card.search)
        return Recogniser(recogniser.graph, search, self.card.lm_weight, self.card.insertion_penalty)

    def recognition(self, graph: DecodingGraph) -> Recognition | None:
        """Return the canary's recognition by the unadapted network; None where it was made with another graph."""
        if self.card.graph != graph.digest:
            return None
        return Recognition({name: Recognised(score.words, ErrorCounts(*score.errors), score.expected_errors,
                                             score.log_likelihood, score.frames)
                            for name, score in self.card.scores.items()})


def choose_utterances(
    store: FrameStore, utterances: Iterable[str], max_frames: int, max_bytes: int = MAX_BYTES
) -> list[str]:
    """Choose about equally many utterances of each speaker, as many as fit, in an order that names do not have.

    Features take two bytes a value.
    """
    most = min(max_frames, (max_bytes - 100_000) // (2 * store.dim))
    of_speaker: dict[str, list[str]] = {}
    for name in sorted(utterances, key=lambda name: hash_bytes(name.encode())):
        of_speaker.setdefault(store.speakers[name], []).append(name)
    turns = [name for turn in range(max(map(len, of_speaker.values()), default=0))
             for speaker in sorted(of_speaker, key=lambda one: hash_bytes(one.encode()))
             for name in of_speaker[speaker][turn:turn + 1]]
    chosen, frames = [], 0
    for name in turns:
        begin, end = store.bounds(name)
        if frames + end - begin <= most:
            chosen.append(name)
            frames += end - begin
    return sorted(chosen)


def write_reserve(
    folder: Path, store: FrameStore, canary: Sequence[str], replay: Sequence[str],
    transcripts: Mapping[str, Sequence[str]], recognition: Recognition, misfits: Mapping[str, float],
    network: ModelCard, recogniser: Recogniser,
) -> ReserveCard:
    """Write a reserve of utterances of `store`; recognition and misfits: of the canary by the unadapted network.

    InputError: no canary or nothing to replay.
    """
    for what, names in ((CANARY, canary), (REPLAY, replay)):
        if not names:
            raise InputError(f"{folder}: no utterances for the {what}; is every training speaker held out, or none?")
        with FrameStoreWriter(Path(folder) / what, store.dim, "float16", store.recipe, store.supervision) as writer:
            for name in names:
                writer.add(name, store.speakers[name], store[name])
    scores = {}
    for name, one in recognition.utterances.items():
        assert one.errors is not None
        counts = one.errors
        scores[name] = CanaryScore(
            words=list(one.words), errors=[counts.words, counts.substitutions, counts.deletions, counts.insertions],
            expected_errors=one.expected_errors, log_likelihood=one.log_likelihood, frames=one.frames,
            misfit=misfits[name])
    card = ReserveCard(
        network=network.digest, graph=recogniser.graph.digest, lm_weight=recogniser.lm_weight,
        insertion_penalty=recogniser.insertion_penalty, search=recogniser.search.model_dump(mode="json"),
        transcripts={name: " ".join(transcripts[name]) for name in canary}, scores=scores).sealed()
    write_card(Path(folder) / CARD, card)
    return card
