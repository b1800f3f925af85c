import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.scoring.alignments import format_alignment
from asr_kd.scoring.transcripts import read_transcripts
from asr_kd.scoring.wer import (
    ErrorCounts,
    align_words,
    count_errors,
    count_errors_by_speaker,
    pool,
    total_errors,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c", "aa"]), max_size=8)
SENTENCES = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6)


def distances(reference: list[str], hypothesis: list[str]) -> list[list[int]]:
    """The plain dynamic programme: [i][j] is the distance of the first i words to the first j."""
    table = [list(range(len(hypothesis) + 1))]
    for i, spoken in enumerate(reference, start=1):
        row = [i]
        for j, recognised in enumerate(hypothesis, start=1):
            row.append(min(table[-1][j] + 1, row[j - 1] + 1, table[-1][j - 1] + (spoken != recognised)))
        table.append(row)
    return table


def trace_back(reference: list[str], hypothesis: list[str]) -> tuple[int, int, int]:
    """Substitutions, deletions, insertions by the stated tie-break."""
    while reference and hypothesis and reference[0] == hypothesis[0]:
        reference, hypothesis = reference[1:], hypothesis[1:]
    while reference and hypothesis and reference[-1] == hypothesis[-1]:
        reference, hypothesis = reference[:-1], hypothesis[:-1]
    table, i, j = distances(reference, hypothesis), len(reference), len(hypothesis)
    substitutions = deletions = insertions = 0
    while i or j:
        before = table[i][j] - 1
        if i and table[i - 1][j] == before:
            deletions, i = deletions + 1, i - 1
        elif i and j and table[i - 1][j - 1] == before:
            substitutions, i, j = substitutions + 1, i - 1, j - 1
        elif j and table[i][j - 1] == before:
            insertions, j = insertions + 1, j - 1
        else:
            i, j = i - 1, j - 1
    return substitutions, deletions, insertions


@given(WORDS, WORDS)
def test_errors_are_the_edit_distance_of_the_plain_algorithm(
    reference: list[str], hypothesis: list[str]
) -> None:
    assert count_errors(reference, hypothesis).errors == distances(reference, hypothesis)[-1][-1]


@given(WORDS, WORDS)
def test_alignment_spells_both_sides_and_holds_the_counts(
    reference: list[str], hypothesis: list[str]
) -> None:
    columns = align_words(reference, hypothesis)
    assert [column.reference for column in columns if column.reference is not None] == reference
    assert [column.hypothesis for column in columns if column.hypothesis is not None] == hypothesis
    operations = [column.operation for column in columns]
    counts = count_errors(reference, hypothesis)
    assert operations.count("substitution") == counts.substitutions
    assert operations.count("deletion") == counts.deletions
    assert operations.count("insertion") == counts.insertions
    assert all((c.operation == "equal") == (c.reference == c.hypothesis) for c in columns)


@given(SENTENCES)
def test_totals_equal_jiwers(sentences: list[tuple[list[str], list[str]]]) -> None:
    references = {str(i): reference for i, (reference, _) in enumerate(sentences)}
    hypotheses = {str(i): hypothesis for i, (_, hypothesis) in enumerate(sentences)}
    ours = pool(count_errors_by_speaker(references, hypotheses, dict.fromkeys(references, "one")).values())
    theirs = jiwer.process_words(
        [" ".join(words) for words in references.values()],
        [" ".join(words) for words in hypotheses.values()],
        reference_transform=lambda lines: [line.split() for line in lines],
        hypothesis_transform=lambda lines: [line.split() for line in lines],
    )
    assert (ours.substitutions, ours.deletions, ours.insertions, ours.correct) == (
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
        theirs.hits,
    )
    assert total_errors(references, hypotheses) == ours.errors


@given(SENTENCES, st.lists(st.sampled_from(["x", "y", "z"]), min_size=6, max_size=6))
def test_speakers_pool_to_the_whole_however_utterances_are_shared_out(
    sentences: list[tuple[list[str], list[str]]], speakers: list[str]
) -> None:
    references = {str(i): reference for i, (reference, _) in enumerate(sentences)}
    hypotheses = {str(i): hypothesis for i, (_, hypothesis) in enumerate(sentences)}
    counts = count_errors_by_speaker(references, hypotheses, dict(zip(references, speakers, strict=False)))
    assert list(counts) == sorted(counts)
    assert pool(counts.values()) == pool(count_errors(*pair) for pair in sentences)


@settings(max_examples=500)
@given(WORDS, WORDS)
def test_ties_are_broken_as_stated(reference: list[str], hypothesis: list[str]) -> None:
    counts = count_errors(reference, hypothesis)
    expected = trace_back(reference, hypothesis)
    assert (counts.substitutions, counts.deletions, counts.insertions) == expected


def test_an_utterance_without_hypothesis_counts_as_deletions() -> None:
    counts = count_errors_by_speaker({"u1": ["a", "b"], "u2": ["c"]}, {"u2": ["c"]}, {"u1": "s", "u2": "s"})
    assert counts == {"s": ErrorCounts(words=3, substitutions=0, deletions=2, insertions=0)}
    assert total_errors({"u1": ["a", "b"], "u2": ["c"]}, {"u2": ["c"]}) == 2


def test_hypotheses_that_the_reference_has_not_are_refused_with_counts_and_ids() -> None:
    with pytest.raises(
        InputError, match=r"2 of 2 hypothesis ids .*\(x1, x2\); 1 of 1 reference ids .* \(u1\)"
    ):
        count_errors_by_speaker({"u1": ["a"]}, {"x1": ["a"], "x2": []}, {"u1": "s"})


def test_an_utterance_without_speaker_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"1 of 2 reference utterances have no speaker \(u2\)"):
        count_errors_by_speaker({"u1": ["a"], "u2": ["a"]}, {}, {"u1": "s"})


@pytest.mark.parametrize("numbers", [(-1, 0, 0, 0), (2, 2, 1, 0), (2, 0, 0, -1)])
def test_counts_that_cannot_be_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="count|words"):
        ErrorCounts(*numbers)


def test_zero_is_neutral_and_rates_come_from_pooled_counts() -> None:
    short, long = ErrorCounts(1, 1, 0, 0), ErrorCounts(9, 0, 0, 0)
    assert short + ErrorCounts.zero() == short
    assert (short + long).wer == 10.0  # not the mean of 100 and 0
    assert ErrorCounts.zero().wer != ErrorCounts.zero().wer


def test_readable_alignment_sets_words_over_one_another() -> None:
    assert format_alignment(["ANDY", "LIKES", "BROWN"], ["ANDY", "LIKED", "BY", "BROWN"]) == (
        "REF: ANDY ***** LIKES BROWN\nHYP: ANDY LIKED BY    BROWN\n          I     S"
    )


def test_readable_alignment_allows_for_wide_characters() -> None:
    lines = format_alignment(["你好", "b"], ["x", "b"]).splitlines()
    assert lines == ["REF: 你好 b", "HYP: x    b", "     S"]


def test_reference_sets_have_the_words_that_are_known(shared) -> None:
    for split, words in (("dev", 6390), ("test", 9577)):
        transcripts = read_transcripts(shared / "corpora" / "speechocean762" / split / "text")
        assert sum(map(len, transcripts.words.values())) == words
