"""Alignments that a person can read: reference over hypothesis, the errors marked below."""

from collections.abc import Iterator, Mapping

from rich.cells import cell_len

from asr_kd.scoring.wer import Alignment, Words, align_words, count_errors

_MARKS = {"equal": "", "substitution": "S", "deletion": "D", "insertion": "I"}


def format_alignment(reference: Words, hypothesis: Words, alignment: Alignment = "unit") -> str:
    """Three lines REF, HYP and marks (S, D, I); a word that the other side has not stands over stars."""
    rows: tuple[list[str], list[str], list[str]] = (["REF:"], ["HYP:"], ["    "])
    for column in align_words(reference, hypothesis, alignment):
        length = max(cell_len(column.reference or ""), cell_len(column.hypothesis or ""))
        cells = (
            column.reference or "*" * length,
            column.hypothesis or "*" * length,
            _MARKS[column.operation],
        )
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell + " " * (length - cell_len(cell)))
    return "\n".join(" ".join(row).rstrip() for row in rows).rstrip()


def format_alignments(
    references: Mapping[str, Words],
    hypotheses: Mapping[str, Words],
    speakers: Mapping[str, str],
    alignment: Alignment = "unit",
) -> Iterator[str]:
    """One block per reference utterance, sorted by id: a heading with its counts, then its alignment."""
    for utterance in sorted(references):
        reference, hypothesis = references[utterance], hypotheses.get(utterance, ())
        counts = count_errors(reference, hypothesis, alignment)
        lines = format_alignment(reference, hypothesis, alignment)
        note = "" if utterance in hypotheses else ", no hypothesis"
        yield (
            f"{utterance} (speaker {speakers[utterance]}): {counts.words} words, {counts.substitutions} sub, "
            f"{counts.deletions} del, {counts.insertions} ins{note}\n{lines}\n"
        )
