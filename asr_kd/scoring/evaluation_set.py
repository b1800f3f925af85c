"""A set to score: one reference, the hypotheses of one or two systems, the speakers, the alignment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr_kd.core.errors import InputError
from asr_kd.core.files import atomic_file
from asr_kd.core.terminal import print_text
from asr_kd.scoring.alignments import format_alignments
from asr_kd.scoring.hints import form_hints
from asr_kd.scoring.hypotheses import FileFormat, Hypotheses, Reference, read_hypotheses, read_reference
from asr_kd.scoring.notation import OptionalWords, describe_notation, filter_notation, first_reading, nearest_reading
from asr_kd.scoring.text_filter import TextFilter
from asr_kd.scoring.transcripts import Format, write_transcripts
from asr_kd.scoring.wer import Alignment, ErrorCounts, Words, count_errors_by_speaker


@dataclass(frozen=True)
class EvaluationSet:
    """Filtered references (utterance -> words), and the hypotheses of each file of the two systems, by path.

    References keep their notation, which `readings` resolves. `speakers` maps utterance to speaker; where `unit` is
    "utterance" no speaker is known and each stands for itself. `whole` is the reference as it is written.
    """

    references: Mapping[str, Words]
    hypotheses: Mapping[str, Hypotheses]
    against: Mapping[str, Hypotheses]
    speakers: Mapping[str, str]
    unit: str
    whole: Reference
    alignment: Alignment = "unit"

    @property
    def num_words(self) -> int:
        """Reference words that are scored."""
        return sum(self.words_by_speaker().values())

    def words_by_speaker(self) -> dict[str, int]:
        """Reference words of each speaker; where there are alternatives, as the first hypothesis file is scored."""
        totals: dict[str, int] = {}
        references, _ = self.readings(next(iter(self.hypotheses.values())))
        for utterance, words in references.items():
            totals[self.speakers[utterance]] = totals.get(self.speakers[utterance], 0) + len(words)
        return totals

    def hints(self) -> tuple[str, ...]:
        """Hints on how words are written, one sentence each."""
        notation = [self.references[utterance] for utterance in sorted(self.whole.notation & self.references.keys())]
        files = {**self.hypotheses, **self.against}
        told = (describe_notation(notation, self.whole.optional_words),) if notation else ()
        return told + form_hints(
            self.references.values(), {path: file.words.values() for path, file in files.items()}
        )

    def readings(self, file: Hypotheses) -> tuple[Mapping[str, Words], Mapping[str, Words]]:
        """References and hypotheses of one file as they are aligned, without notation.

        Of alternatives the reading nearest to the hypothesis is left; an optional word that the hypothesis lacks is a
        `DeletedWord` on both sides.
        """
        notation = self.whole.notation & self.references.keys()
        if not notation:
            return self.references, file.words
        references, hypotheses = dict(self.references), dict(file.words)
        deletable = self.whole.optional_words == "deletable"
        for utterance in notation:
            recognised = file.words.get(utterance, ())
            try:
                pair = nearest_reading(references[utterance], recognised, self.alignment, deletable)
            except InputError as error:
                raise InputError(f"utterance {utterance}: {error}") from None
            references[utterance], words = pair
            if words or utterance in hypotheses:
                hypotheses[utterance] = words
        return references, hypotheses

    def covered(self) -> "EvaluationSet":
        """The part that every hypothesis file covers; words in no segment count where their speaker is in it."""
        files = [*self.hypotheses.values(), *self.against.values()]
        kept = set(self.references).intersection(*(file.words for file in files))
        if not kept:
            raise InputError("no reference utterance has a hypothesis in every file: no part to score")
        return replace(
            self,
            references={utterance: words for utterance, words in self.references.items() if utterance in kept},
            hypotheses={path: file.part(kept, self.speakers) for path, file in self.hypotheses.items()},
            against={path: file.part(kept, self.speakers) for path, file in self.against.items()},
        )

    def count(self, file: Hypotheses) -> dict[str, ErrorCounts]:
        """Errors per speaker of one file; words in no segment are insertions."""
        counts = count_errors_by_speaker(*self.readings(file), self.speakers, self.alignment)
        for speaker, words in file.outside.items():
            counts[speaker] += ErrorCounts(0, 0, 0, len(words))
        return counts

    def export(self, folder: Path | None, format: Format) -> None:
        """Write `ref` and `hyp` (`hyp-2`, ... for further seeds) of the first system into `folder`."""
        if folder is None:
            return
        suffix = ".trn" if format == "trn" else ".txt"
        speakers = self.speakers if self.unit == "speaker" else None
        files = {"ref": self.references}
        if format == "text":
            files["ref"] = {
                utterance: first_reading(words) if utterance in self.whole.notation else words
                for utterance, words in self.references.items()
            }
        for number, file in enumerate(self.hypotheses.values(), start=1):
            files["hyp" if number == 1 else f"hyp-{number}"] = file.words
        for name, words in files.items():
            write_transcripts(Path(folder) / (name + suffix), words, format=format, speakers=speakers)

    def write_alignments(self, path: Path | None) -> None:
        """Write the alignments of the first system, one section a hypothesis file; `-` is standard output."""
        if path is None:
            return
        blocks = (
            block
            for name, file in self.hypotheses.items()
            for block in (
                f"# {name}\n",
                *format_alignments(*self.readings(file), self.speakers, self.alignment),
                *_outside_blocks(file),
            )
        )
        if str(path) == "-":
            for block in blocks:
                print_text(block)
            return
        with atomic_file(Path(path)) as file:
            file.writelines(block + "\n" for block in blocks)


def load_evaluation_set(
    ref: Path,
    hyp: Sequence[Path],
    against: Sequence[Path] = (),
    utt2spk: Path | None = None,
    *,
    ref_format: FileFormat | None = None,
    format: FileFormat | None = None,
    text_filter: TextFilter | None = None,
    alignment: Alignment = "unit",
    partial: bool = False,
    optional_words: OptionalWords = "refuse",
) -> EvaluationSet:
    """Read what is scored together; formats from the files' names where none is given.

    InputError: no hypothesis file, one given twice, hypothesis ids not in the reference, utterances without
    speaker.
    """
    text_filter = text_filter or TextFilter()
    reference = read_reference(ref, ref_format, utt2spk, optional_words)

    def read(paths: Sequence[Path]) -> dict[str, Hypotheses]:
        return {str(path): read_hypotheses(path, format, reference, text_filter, partial) for path in distinct(paths)}

    if not hyp:
        raise InputError("no hypothesis file given; expected --hyp FILE, once for each seed of the system")
    return EvaluationSet(
        _filtered(reference, text_filter, ref), read(hyp), read(against), reference.speakers, reference.unit,
        reference, alignment,
    )


def _filtered(reference: Reference, text_filter: TextFilter, place: Path) -> dict[str, Words]:
    """The words of the reference as they are compared, its notation kept."""
    plain = {utterance: words for utterance, words in reference.texts.items() if utterance not in reference.notation}
    filtered: dict[str, Words] = text_filter.texts(plain, place)
    for utterance in reference.notation:
        filtered[utterance] = filter_notation(reference.texts[utterance], reference.optional_words, text_filter)
    return {utterance: filtered[utterance] for utterance in reference.texts}


def distinct(paths: Sequence[Path]) -> Sequence[Path]:
    """The paths; InputError where one is given twice."""
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise InputError(f"{path}: given twice for one system; expected one file for each seed")
    return paths


def _outside_blocks(file: Hypotheses) -> list[str]:
    return [
        f"in no segment, insertions for {speaker}: "
        + ", ".join(f"{one.word} ({one.utterance} {one.channel} at {one.start:g} s)" for one in words)
        + "\n"
        for speaker, words in sorted(file.outside.items())
    ]
