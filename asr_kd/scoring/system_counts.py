"""Counts files: what one model x seed x split leaves behind, from which every figure is recomputed."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic

from asr_kd.core.config import Name
from asr_kd.core.errors import InputError
from asr_kd.core.files import read_json, write_json
from asr_kd.scoring.teaching import Teaching
from asr_kd.scoring.wer import Alignment, ErrorCounts, pool

# More words than anyone has spoken: sums of counts stay within 64 bits.
_MOST = 10**15


def _from_entry(value: Any) -> Any:
    if isinstance(value, ErrorCounts):
        return value
    keys = ("words", "ins", "del", "sub")
    if (
        not isinstance(value, dict)
        or value.keys() != set(keys)
        or any(type(value[key]) is not int or value[key] > _MOST for key in keys)
    ):
        raise ValueError('expected {"words", "ins", "del", "sub"} with whole numbers')
    return ErrorCounts(value["words"], value["sub"], value["del"], value["ins"])


def _to_entry(counts: ErrorCounts) -> dict[str, int]:
    return {
        "words": counts.words,
        "ins": counts.insertions,
        "del": counts.deletions,
        "sub": counts.substitutions,
    }


SpeakerEntry = Annotated[
    pydantic.SkipValidation[ErrorCounts],
    pydantic.BeforeValidator(_from_entry),
    pydantic.PlainSerializer(_to_entry),
]
# A folder's name, as the user chose it.
RunName = Annotated[str, pydantic.StringConstraints(pattern=r"^[^/\x00-\x1f]+$")]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Percentage = Annotated[float, pydantic.Field(ge=0, le=100)]
Revision = Annotated[str, pydantic.StringConstraints(pattern=r"^(<=)?[A-Za-z0-9][A-Za-z0-9 ._+-]*$")]


_STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class TrainingPass:
    """A network after a pass of sequence training, pass 0 being its start, on held-out training speakers.

    `value` is the `criterion` a frame (smbr: expected accuracy, 0 to 1), `train_value` the same on what it was trained
    on, while it moved; `frame_accuracy` in percent.
    """

    number: int
    criterion: Name
    value: float
    train_value: float | None
    frame_accuracy: float | None


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class TrainingEpoch:
    """A network after an epoch on single frames: loss and frame accuracy (percent) on held-out training speakers, and
    what its objective measured while it was trained (λ, gradients, singular values, ...)."""

    number: int
    loss: float
    frame_accuracy: float | None
    measures: dict[str, float]


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class LatticeCounts:
    """The quality of a split's lattices: the word error rates (percent) of their best paths, by the weights of the
    search, and of the paths nearest to the transcripts; arcs of word lattices a frame; bytes on disk."""

    split: Name
    utterances: int
    wer: NotNegative
    oracle_wer: NotNegative
    arcs_per_frame: NotNegative
    bytes: int


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class TrainingLatticesCounts:
    """The lattices that a network was trained on: how they were searched, utterances that were dropped, whose numerator
    had to be added, and that have none; beside the training speech a split that the network had not heard."""

    acoustic_scale: NotNegative
    beam: NotNegative
    lattice_beam: NotNegative
    dropped: int
    numerators_added: int
    without_numerator: int
    splits: tuple[LatticeCounts, ...]


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class SoftTargetsCounts:
    """The cached soft targets that a network learnt from: at which T, pdfs kept of all, hours of speech; the teacher's
    mass on the pdfs left out, and two bounds on what it costs: what the divergence lacks, nats a frame, for a student
    that tells none of these pdfs apart, and the error of its gradient by the logits, L1; bytes an hour of speech."""

    temperature: NotNegative
    top_k: int
    num_pdfs: int
    hours: NotNegative
    lost_mass: NotNegative
    divergence_error: NotNegative
    gradient_error: NotNegative
    bytes_per_hour: int


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class AdaptationCounts:
    """How a system was adapted: groups of parameters that moved, how many numbers, what taught, seconds of speech an
    adapter (mean), adapters, and how many of them were refused and not used. transductive: the speech that is scored
    was adapted to, without its transcripts."""

    parameters: tuple[str, ...]
    numbers: int
    teaching: Teaching
    seconds: NotNegative
    adapters: int
    refused: int
    transductive: bool


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class SystemCounts:
    """Errors per speaker of one model, seed and split, with what its row in the results says besides.

    `frame_accuracy` in percent. `bytes` of the model on disk, in files of old with the log of its training
    (`bytes_with_log`). `run` is the run directory's name, `utterances` those scored, `partial` where not the whole
    split was. `alignment` and `text_filter` (name-version) say how words were compared. `revision` is that of the code
    that trained the network or scored the Gaussians ("<=COMMIT" where only the commit is known that brought the counts
    in). `oov_rate` is the percentage of the reference's words that are not in the vocabulary, `closed_vocabulary` where
    that was made to hold them. `passes` tell how the system's sequence training went, `training_lattices` on what;
    `epochs` how it was trained on frames, `soft_targets` from what, `adaptation` how it was adapted. The recipe
    declares roles: `baseline`, `teacher`, `start` and `versus` stand in files of old and are not used.
    """

    id: Name
    seed: int
    split: Name
    speakers: dict[str, SpeakerEntry]
    frame_accuracy: NotNegative | None = None
    params: Annotated[int, pydantic.Field(ge=0)] | None = None
    bytes: Annotated[int, pydantic.Field(ge=0)] | None = None
    train_minutes: NotNegative | None = None
    real_time_factor: NotNegative | None = None
    command: str | None = None
    run: RunName | None = None
    lm_weight: float | None = None
    insertion_penalty: float | None = None
    utterances: Annotated[int, pydantic.Field(ge=0)] | None = None
    partial: bool = False
    alignment: Alignment = "unit"
    text_filter: Name = "none-1"
    baseline: Name | None = None
    teacher: Name | None = None
    start: Name | None = None
    versus: tuple[Name, ...] = ()
    passes: tuple[TrainingPass, ...] | None = None
    training_lattices: TrainingLatticesCounts | None = None
    epochs: tuple[TrainingEpoch, ...] | None = None
    soft_targets: SoftTargetsCounts | None = None
    adaptation: AdaptationCounts | None = None
    revision: Revision | None = None
    bytes_with_log: bool = False
    oov_rate: Percentage | None = None
    closed_vocabulary: bool | None = None

    @property
    def total(self) -> ErrorCounts:
        """All speakers pooled."""
        return pool(self.speakers.values())

    @property
    def set_name(self) -> str:
        """The split, marked where only a part of it was scored or words were compared in another way than usual, so
        that it never stands beside the whole, or beside figures of another filter or alignment."""
        marks = [
            "partial" if self.partial else "",
            "" if self.text_filter == "none-1" else self.text_filter,
            "" if self.alignment == "unit" else self.alignment,
        ]
        return "-".join([self.split, *filter(None, marks)])

    @property
    def file_name(self) -> str:
        return f"{self.id}.{self.seed}.{self.set_name}.json"


_ADAPTER = pydantic.TypeAdapter(SystemCounts)


def write_counts(folder: Path, counts: SystemCounts) -> Path:
    """Write `folder/ID.SEED.SPLIT.json` atomically, speakers sorted; the path of the file."""
    ordered = dataclasses.replace(counts, speakers=dict(sorted(counts.speakers.items())))
    path = Path(folder) / counts.file_name
    content = _ADAPTER.dump_python(ordered, mode="json")
    # Files older than these stay as they are.
    later = ("epochs", "passes", "soft_targets", "adaptation", "start", "training_lattices", "versus", "revision",
             "oov_rate", "closed_vocabulary")
    absent = [key for key in later if content[key] is None or content[key] == []]
    absent += [] if content["bytes_with_log"] else ["bytes_with_log"]
    write_json(path, {key: value for key, value in content.items() if key not in absent})
    return path


def read_counts(path: Path) -> SystemCounts:
    """Read a counts file. InputError names the file and the key that is missing, unknown or wrong."""
    path = Path(path)
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object with the counts of one model, seed and split")
    try:
        counts = _ADAPTER.validate_json(json.dumps(content))
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {key}: {reason}; not a counts file (ID.SEED.SPLIT.json)") from None
    if not counts.total.words:
        raise InputError(f"{path}: speakers: no reference words in it; score the split again")
    if path.name != counts.file_name:
        raise InputError(f"{path}: its content belongs to {counts.file_name}; rename it or make it again")
    return counts


def read_counts_folder(folder: Path) -> list[SystemCounts]:
    """All counts of a folder, sorted by file name; an absent folder holds none."""
    return [read_counts(path) for path in sorted(Path(folder).glob("*.json"))]
