"""What is scored together: one reference, the hypotheses of one or two systems, the speakers."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.scoring.alignments import format_alignments
from asr_kd.scoring.transcripts import (
    Format,
    Transcripts,
    read_transcripts,
    read_utt2spk,
    trn_speaker,
    with_kaldi_ids,
    write_transcripts,
)
from asr_kd.scoring.wer import check_ids, first_ids

Hypotheses = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class EvaluationSet:
    """References (utterance -> words), and for each hypothesis file of the two systems (path -> utterance -> words).

    `speakers` maps utterance to speaker; where `unit` is "utterance" no speaker is known and each stands for
    itself.
    """

    references: Hypotheses
    hypotheses: Mapping[str, Hypotheses]
    against: Mapping[str, Hypotheses]
    speakers: Mapping[str, str]
    unit: str

    @property
    def num_words(self) -> int:
        """Reference words."""
        return sum(len(words) for words in self.references.values())

    def words_by_speaker(self) -> dict[str, int]:
        """Reference words of each speaker."""
        totals: dict[str, int] = {}
        for utterance, words in self.references.items():
            totals[self.speakers[utterance]] = totals.get(self.speakers[utterance], 0) + len(words)
        return totals

    def covered(self) -> "EvaluationSet":
        """The part that every hypothesis file covers."""
        kept = set(self.references).intersection(*self.hypotheses.values(), *self.against.values())
        if not kept:
            raise InputError("no reference utterance has a hypothesis in every file: no part to score")

        def part(words: Hypotheses) -> Hypotheses:
            return {utterance: words[utterance] for utterance in words if utterance in kept}

        return replace(
            self,
            references=part(self.references),
            hypotheses={path: part(words) for path, words in self.hypotheses.items()},
            against={path: part(words) for path, words in self.against.items()},
        )

    def export(self, folder: Path | None, format: Format) -> None:
        """Write `ref` and `hyp` (`hyp-2`, ... for further seeds) of the first system into `folder`."""
        if folder is None:
            return
        suffix = ".trn" if format == "trn" else ".txt"
        speakers = self.speakers if self.unit == "speaker" else None
        files = {"ref": self.references}
        for number, words in enumerate(self.hypotheses.values(), start=1):
            files["hyp" if number == 1 else f"hyp-{number}"] = words
        for name, words in files.items():
            write_transcripts(Path(folder) / (name + suffix), words, format=format, speakers=speakers)

    def write_alignments(self, path: Path | None) -> None:
        """Write the alignments of the first system, one section a hypothesis file; `-` is standard output."""
        if path is None:
            return
        blocks = (
            block
            for name, words in self.hypotheses.items()
            for block in (f"# {name}\n", *format_alignments(self.references, words, self.speakers))
        )
        if str(path) == "-":
            sys.stdout.writelines(block + "\n" for block in blocks)
            return
        with atomic_file(Path(path)) as file:
            file.writelines(block + "\n" for block in blocks)


def load_evaluation_set(
    ref: Path, hyp: Sequence[Path], against: Sequence[Path] = (), utt2spk: Path | None = None
) -> EvaluationSet:
    """Read what is scored together.

    InputError: no hypothesis file, one given twice, hypothesis ids not in the reference, utterances without
    speaker.
    """
    if not hyp:
        raise InputError("no hypothesis file given; expected --hyp FILE, once for each seed of the system")
    reference = read_transcripts(ref)
    beside = Path(ref).parent / "utt2spk"
    if utt2spk is None and reference.format == "text" and beside.is_file():
        utt2spk = beside
    known = read_utt2spk(utt2spk) if utt2spk is not None else {}
    references = with_kaldi_ids(reference, known)
    speakers, unit = _resolve_speakers(references, reference, known, utt2spk)
    return EvaluationSet(
        references,
        {str(path): _read_hypotheses(path, known, references) for path in _distinct(hyp)},
        {str(path): _read_hypotheses(path, known, references) for path in _distinct(against)},
        speakers,
        unit,
    )


def _read_hypotheses(path: Path, speakers: Mapping[str, str], references: Hypotheses) -> Hypotheses:
    words = with_kaldi_ids(read_transcripts(path), speakers)
    check_ids(references, words, str(path))
    return words


def _resolve_speakers(
    references: Hypotheses, file: Transcripts, known: Mapping[str, str], utt2spk: Path | None
) -> tuple[dict[str, str], str]:
    if known:
        orphans = [utterance for utterance in references if utterance not in known]
        if orphans:
            raise InputError(
                f"{utt2spk}: no speaker for {len(orphans)} of {len(references)} reference utterances "
                f"({first_ids(orphans)}); add them, or give another file by --utt2spk"
            )
        return {utterance: known[utterance] for utterance in references}, "speaker"
    if file.format == "trn":
        found = {utterance: trn_speaker(utterance) for utterance in references}
        speakers = {utterance: speaker for utterance, speaker in found.items() if speaker is not None}
        if len(speakers) == len(references):
            return speakers, "speaker"
    return {utterance: utterance for utterance in references}, "utterance"


def _distinct(paths: Sequence[Path]) -> Sequence[Path]:
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise InputError(f"{path}: given twice for one system; expected one file for each seed")
    return paths
