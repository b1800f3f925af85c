"""Denominator lattices for sequence training: word lattices of training speech, and what their numerators cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.core.reading import parsing
from asr_kd.lattices.store import LatticeStore

_UTTERANCES = "utterances.json"


@dataclass(frozen=True)
class TrainingUtterance:
    """frames of the utterance; arcs: at most so many has its state-level lattice; numerator_cost: graph cost of the
    forced alignment's path through the graph that was searched, None where there is no such path."""

    frames: int
    arcs: int
    numerator_cost: float | None


@dataclass(frozen=True)
class TrainingLattices:
    """`lattices`: determinised word lattices by utterance; `utterances`: what is known of each without reading it."""

    folder: Path
    lattices: LatticeStore
    utterances: dict[str, TrainingUtterance]

    @property
    def digest(self) -> str:
        """Identifies what was searched with what; the content of a lattice is checked when it is read."""
        return str(self.lattices.description["made_of"])

    @staticmethod
    def open(folder: Path, hmm_digest: str) -> "TrainingLattices":
        """Open the output of a stage of kind training-lattices.

        InputError: missing, damaged, of another model.
        """
        store = LatticeStore.open(folder)
        if "made_of" not in store.description:
            raise InputError(f"{folder}: no lattices for training; a stage of kind training-lattices makes them")
        own = str(store.description.get("hmm"))
        if own != hmm_digest:
            raise InputError(f"{folder}: lattices of the model {own[:12]}, to be used with the model "
                             f"{hmm_digest[:12]}; their transition-ids are not its, make them with it")
        with parsing(Path(folder) / _UTTERANCES, "list of lattices", "make the lattices again"):
            utterances = {
                str(name): TrainingUtterance(
                    int(values["frames"]), int(values["arcs"]),
                    None if values["numerator_cost"] is None else float(values["numerator_cost"]))
                for name, values in read_json(Path(folder) / _UTTERANCES).items()}
        if utterances.keys() != set(store.ids):
            raise InputError(f"{Path(folder) / _UTTERANCES}: not the utterances of the lattices beside it; make them "
                             "again")
        return TrainingLattices(Path(folder), store, utterances)

    def check(self, **others: str) -> None:
        """InputError where the lattices were made with something else: features, alignments or network, by digest."""
        for what, given in others.items():
            own = str(self.lattices.description.get(what))
            if own != given:
                raise InputError(f"{self.folder}: lattices made with the {what} {own[:12]}, to be used with the {what} "
                                 f"{given[:12]}; make the lattices with these, or take those")


def write_utterances(folder: Path, utterances: Mapping[str, TrainingUtterance]) -> None:
    """Beside the lattices: what `TrainingLattices.utterances` reads."""
    write_json(Path(folder) / _UTTERANCES, {name: asdict(utterance) for name, utterance in utterances.items()})
