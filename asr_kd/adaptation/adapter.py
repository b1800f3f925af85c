"""Adapters: the numbers by which an adapted network differs from the one that it belongs to, in a folder.

`adapter.safetensors` holds the adapted parameters by name, and mean and variance with which running normalisation
begins; `adapter.json` the digest of their network, what they were made from and whether they are active; `report.json`
and `report.md` tell what was gained and lost. A folder of many, one a speaker, has `adapters.json`, which names each
speaker's folder.
"""

import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from asr_kd.core.arrays import read_torch_tensors, write_tensors
from asr_kd.core.cards import SealedCard, read_card, write_card
from asr_kd.core.config import Config
from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_folder, hash_file, hash_json, read_json, write_json
from asr_kd.core.own_folders import FolderKind, check_replaceable, mark_folder, marked_kind
from asr_kd.core.reading import file_size
from asr_kd.features.running_prior import RunningPrior
from asr_kd.models.bundle import ModelCard
from asr_kd.models.lhuc import add_lhuc, is_amplitude
from asr_kd.models.log_likelihoods import log_likelihoods
from asr_kd.models.shared_parameters import replace_parameters
from asr_kd.scoring.teaching import Teaching, learns_transcripts

CARD, NUMBERS, REPORT, SPEAKERS = "adapter.json", "adapter.safetensors", "report.json", "adapters.json"
PRIOR_MEAN, PRIOR_VARIANCE = "running_prior.mean", "running_prior.variance"  # beside the parameters
ADAPTER = FolderKind("adapter", (CARD, NUMBERS), closed=False, keys=("network", "tensors_sha256"))
ADAPTERS = FolderKind("folder of adapters", (SPEAKERS,), closed=False, keys=("speakers",))


class AdapterOrigin(Config):
    """The speech that an adapter was made from: a speaker or another set, utterances and seconds; and how.

    key: a digest of all that it was made from, by which an interrupted command knows what it has already made.
    """

    name: str
    split: str | None = None
    seed: int = 0
    teaching: Teaching = "transcripts"
    seconds: float = Field(0.0, ge=0)
    utterances: list[str] = []
    settings: dict[str, Any] = {}
    key: str = ""


class AdapterCard(SealedCard):
    """The content of `adapter.json`."""

    format: Literal[1] = 1
    network: str = Field(description="digest of the network that it belongs to")
    network_name: str = Field(description="where that network was, to name it in messages")
    parameters: list[str] = Field(description="groups of parameters that moved")
    numbers: int = Field(gt=0, description="how many numbers moved")
    running_prior_frames: int | None = Field(None, gt=0, description="what the prior of running normalisation counts "
                                             "for, where there is one")
    active: bool = Field(description="false: made, but refused; it is not used unless that is asked for")
    refusals: list[str] = Field([], description="why it was refused")
    made_from: AdapterOrigin
    tensors_sha256: str


@dataclass(frozen=True)
class Adapter:
    """An adapter read into memory: its card, the adapted parameters by name, and what a stream begins with."""

    card: AdapterCard
    tensors: Mapping[str, Tensor]
    folder: Path
    prior: RunningPrior | None = None

    @staticmethod
    def load(folder: Path) -> "Adapter":
        """Read an adapter. InputError: a file is missing, truncated, damaged or edited."""
        folder = Path(folder)
        card = read_card(folder / CARD, AdapterCard, "adapt again")
        numbers = folder / NUMBERS
        file_size(numbers)
        if hash_file(numbers) != card.tensors_sha256:
            raise InputError(f"{numbers}: is not the file that {CARD} beside it describes (SHA-256 differs): it is "
                             "truncated, damaged or of another adapter; adapt again")
        tensors = read_torch_tensors(numbers, "adapter", "adapt again")
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise InputError(f"{numbers}: holds values that are not finite; adapt again")
        prior = None
        if card.running_prior_frames is not None:
            if not {PRIOR_MEAN, PRIOR_VARIANCE} <= set(tensors):
                raise InputError(f"{numbers}: has no {PRIOR_MEAN} and {PRIOR_VARIANCE}, which {CARD} promises; adapt "
                                 "again")
            prior = RunningPrior(tensors[PRIOR_MEAN].numpy(), tensors[PRIOR_VARIANCE].numpy(),
                                 card.running_prior_frames)
        return Adapter(card, {name: value for name, value in tensors.items() if name not in (
            PRIOR_MEAN, PRIOR_VARIANCE)}, folder, prior)

    def check(self, network: ModelCard, name: Path) -> None:
        """InputError where it belongs to another network than `network`, which is in the folder `name`."""
        if self.card.network != network.digest:
            raise InputError(f"{self.folder}: this adapter belongs to the network {self.card.network_name} "
                             f"({self.card.network[:12]}), not to {name} ({network.digest[:12]}); adapt that network, "
                             "or decode with its own")

    def apply(self, network: nn.Module) -> nn.Module:
        """Return the adapted network, in the mode of `network`, which is left as it is and shares all other numbers.

        InputError: parameters that the network does not have, or of another shape.
        """
        adapted = add_lhuc(network) if any(map(is_amplitude, self.tensors)) else network
        shapes = {name: value.shape for name, value in adapted.named_parameters()}
        for name, value in self.tensors.items():
            if shapes.get(name) != value.shape:
                raise InputError(f"{self.folder}: {name} {tuple(value.shape)} does not fit the network, which has "
                                 f"{tuple(shapes[name]) if name in shapes else 'no such parameter'}")
        return apply_tensors(network, self.tensors)


def apply_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a network with adapted parameters, LHUC's among them, in the mode of `network`, which is left as it is."""
    adapted = add_lhuc(network) if any(map(is_amplitude, tensors)) else network
    return replace_parameters(adapted, tensors)


def save_adapter(
    folder: Path, tensors: Mapping[str, Tensor], network: ModelCard, network_name: str, parameters: list[str],
    origin: AdapterOrigin, *, prior: RunningPrior | None = None, refusals: Sequence[str] = (),
    report: dict[str, Any] | None = None, page: str | None = None,
) -> AdapterCard:
    """Write an adapter, whole or not at all; with `refusals` it is not active. report.json and report.md get `report`
    and `page`."""
    written = {name: value.detach().contiguous() for name, value in tensors.items()}
    if prior is not None:
        written |= {PRIOR_MEAN: torch.from_numpy(prior.mean), PRIOR_VARIANCE: torch.from_numpy(prior.variance)}
    with atomic_folder(Path(folder), ADAPTER) as temporary:
        write_tensors(temporary / NUMBERS, written)
        card = AdapterCard(
            network=network.digest, network_name=network_name, parameters=parameters,
            numbers=sum(value.numel() for value in written.values()), active=not refusals, refusals=list(refusals),
            running_prior_frames=None if prior is None else prior.frames,
            made_from=origin, tensors_sha256=hash_file(temporary / NUMBERS)).sealed()
        write_card(temporary / CARD, card)
        if report is not None:
            write_json(temporary / REPORT, report)
        if page is not None:
            (temporary / "report.md").write_text(page, encoding="utf-8")
    return card


def write_speakers(folder: Path, folders: Mapping[str, str]) -> None:
    """Write `adapters.json`: speaker -> name of the folder of the speaker's adapter, beside it."""
    write_json(Path(folder) / SPEAKERS, {"format": 1, "speakers": dict(sorted(folders.items()))})


def finished_key(folder: Path) -> str | None:
    """Return the key of the adapter in `folder`; None where there is none that is whole and has a report."""
    try:
        card = Adapter.load(folder).card
    except InputError:
        return None
    return card.made_from.key if (Path(folder) / REPORT).is_file() else None


def begin_speakers(folder: Path) -> None:
    """Begin a folder of adapters, one a speaker, that are written one by one; `end_speakers` ends it.

    Until then it has no `adapters.json`, and passes for no folder of adapters. What an interrupted filling left there
    stays. InputError: something else is there.
    """
    folder = Path(folder)
    check_replaceable(folder, ADAPTERS)
    folder.mkdir(parents=True, exist_ok=True)
    if marked_kind(folder) is None:
        mark_folder(folder, ADAPTERS.name)
    (folder / SPEAKERS).unlink(missing_ok=True)


def end_speakers(folder: Path, folders: Mapping[str, str]) -> None:
    """Write `adapters.json` (see `write_speakers`) and remove the folders that it does not name."""
    for entry in list(Path(folder).iterdir()):
        if entry.is_dir() and entry.name not in folders.values():
            shutil.rmtree(entry)
    write_speakers(folder, folders)


def read_speakers(folder: Path) -> dict[str, Path]:
    """Speaker -> folder of the adapter. InputError: damaged, or a name that leaves the folder."""
    path = Path(folder) / SPEAKERS
    value = read_json(path)
    speakers = value.get("speakers") if isinstance(value, dict) else None
    if not isinstance(speakers, dict) or not speakers or value.get("format") != 1 or not all(
            isinstance(name, str) and name and "/" not in name and name not in (".", "..")
            for name in speakers.values()):
        raise InputError(f"{path}: expected the folder of each speaker's adapter; adapt again")
    return {speaker: path.parent / name for speaker, name in speakers.items()}


@dataclass(frozen=True)
class AdaptedNetwork:
    """A network as somebody's adapter makes it, and what a stream of theirs begins with."""

    network: nn.Module
    prior: RunningPrior | None = None

    def log_likelihoods(self, card: ModelCard, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-likelihoods (frames, pdfs) of an utterance (frames, dim), normalised as the card's recipe says."""
        if self.prior is not None:
            features = self.prior.renormalise(features, card.feature_recipe)
        return log_likelihoods(self.network, card, features)


@dataclass
class AdaptedNetworks:
    """A network as each speaker is to hear it: adapted where there is an adapter, else as it is.

    `adapters`: speaker -> adapter; the key None is everybody's. Networks share all numbers that do not differ and are
    made once for each adapter, so that switching is a look into a table. `used` counts what utterances were scored by:
    `adapted`, `unadapted` (no adapter of the speaker), `refused` (an adapter that is not active).
    """

    network: nn.Module
    adapters: Mapping[str | None, Adapter]
    used: dict[str, int] = field(default_factory=lambda: {"adapted": 0, "unadapted": 0, "refused": 0})
    refused_too: bool = False
    _networks: dict[str | None, AdaptedNetwork] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def open(path: Path, network: nn.Module, card: ModelCard, name: Path, *, refused_too: bool = False
             ) -> "AdaptedNetworks":
        """Open one adapter, or a folder of one a speaker, for a network with this card in the folder `name`.

        InputError: no adapter, one of another network, damaged ones, and a single one that was refused, unless
        `refused_too`.
        """
        path = Path(path)
        if (path / CARD).is_file():
            adapter = Adapter.load(path)
            if not adapter.card.active and not refused_too:
                raise InputError(f"{path}: this adapter was refused ({'; '.join(adapter.card.refusals)}); leave it "
                                 "out, adapt on other speech, or use it all the same (--refused-too)")
            adapters: dict[str | None, Adapter] = {None: adapter}
        elif (path / SPEAKERS).is_file():
            adapters = {speaker: Adapter.load(folder) for speaker, folder in read_speakers(path).items()}
        else:
            raise InputError(f"{path}: no adapter ({CARD}) and no folder of adapters ({SPEAKERS}); expected what "
                             "asr-kd adapt wrote")
        for adapter in adapters.values():
            adapter.check(card, name)
        return AdaptedNetworks(network, adapters, refused_too=refused_too)

    def of(self, speaker: str) -> AdaptedNetwork:
        """Return the network by which an utterance of this speaker is scored, and count it. Called in threads."""
        key = None if None in self.adapters else speaker
        adapter = self.adapters.get(key)
        with self._lock:
            if adapter is None:
                self.used["unadapted"] += 1
                return AdaptedNetwork(self.network)
            if not adapter.card.active and not self.refused_too:
                self.used["refused"] += 1
                return AdaptedNetwork(self.network)
            self.used["adapted"] += 1
            if key not in self._networks:
                self._networks[key] = AdaptedNetwork(adapter.apply(self.network), adapter.prior)
            return self._networks[key]

    def only_network(self) -> nn.Module:
        """Return the network that everybody is to hear.

        InputError: a folder of adapters, one a speaker, or an adapter with a prior of running normalisation.
        """
        if set(self.adapters) != {None}:
            raise InputError("a folder of adapters, one a speaker, is given where the network must be one for all; "
                             "give one adapter")
        found = self.of("")
        if found.prior is not None:
            raise InputError(f"{self.adapters[None].folder}: features are to begin with this adapter's own mean and "
                             "variance, which cannot be had here; adapt without (adaptation.running_prior=null)")
        return found.network

    @property
    def digest(self) -> str:
        return hash_json([self.refused_too, *sorted([str(key), adapter.card.digest]
                                                    for key, adapter in self.adapters.items())])

    def refuse_learnt(self, utterances: Iterable[str]) -> None:
        """InputError where one of these utterances, which are to be scored, was adapted to with its transcript."""
        scored = set(utterances)
        for adapter in self.adapters.values():
            origin = adapter.card.made_from
            learnt = sorted(scored & set(origin.utterances)) if learns_transcripts(origin.teaching) else []
            if learnt:
                raise InputError(f"{adapter.folder}: was adapted to the transcript of {learnt[0]}, which is to be "
                                 "scored; score other utterances")

    def describe_making(self, split: str) -> dict[str, Any]:
        """Describe the making of the adapters for counts (`AdaptationCounts`); `split`: what is scored with them."""
        cards = [adapter.card for adapter in self.adapters.values()]
        return {
            "parameters": cards[0].parameters, "numbers": cards[0].numbers, "teaching": cards[0].made_from.teaching,
            "seconds": round(sum(card.made_from.seconds for card in cards) / len(cards), 2), "adapters": len(cards),
            "refused": 0 if self.refused_too else sum(not card.active for card in cards),
            "transductive": any(card.made_from.split == split for card in cards)}

    def describe(self) -> dict[str, Any]:
        """Facts for a summary: how many adapters there are, and what utterances were scored by."""
        return {"adapters": len(self.adapters), "digest": self.digest, "utterances": dict(self.used)}


def adapter_folders(path: Path) -> Iterator[Path]:
    """Yield the folder of the one adapter in `path`, or of each speaker's."""
    if (Path(path) / CARD).is_file():
        yield Path(path)
    else:
        yield from read_speakers(path).values()
