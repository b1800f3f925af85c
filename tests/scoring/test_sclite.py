"""sclite's alignment: against its stated rule everywhere, against the program itself where it is installed."""

import random
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.scoring import sclite as sclite_alignment
from asr_kd.scoring.transcripts import read_transcripts, read_utt2spk, write_transcripts
from asr_kd.scoring.wer import Alignment, ErrorCounts, align_words, count_errors, count_errors_by_speaker
from tests.scoring.sclite_program import run_sclite

WORDS = st.lists(st.sampled_from("abc"), max_size=9)
Texts = dict[str, list[str]]


def sclite_counts(
    command: list[str], folder: Path, references: Texts, hypotheses: Texts, speakers: dict[str, str]
) -> dict[str, ErrorCounts]:
    """Counts per speaker as sclite prints them."""
    write_transcripts(folder / "ref.trn", references, format="trn", speakers=speakers)
    whole = {**dict.fromkeys(references, []), **hypotheses}
    write_transcripts(folder / "hyp.trn", whole, format="trn", speakers=speakers)
    return run_sclite(command, folder, "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "spu_id", "-s")


def random_cases(number: int, seed: int, longest: int = 12) -> tuple[Texts, Texts, dict[str, str]]:
    """Utterances of two to four different words, so that ties are frequent; each its own speaker."""
    drawn = random.Random(seed)

    def words() -> list[str]:
        vocabulary = "abcd"[: drawn.randint(2, 4)]
        return [drawn.choice(vocabulary) for _ in range(drawn.randint(0, longest))]

    ids = [f"s{i:05d}-u" for i in range(number)]
    references, hypotheses = {i: words() for i in ids}, {i: words() for i in ids}
    return references, hypotheses, {i: i.split("-")[0] for i in ids}


def test_random_small_cases_equal_sclite_to_the_last_count(sclite: list[str], tmp_path: Path) -> None:
    references, hypotheses, speakers = random_cases(3000, seed=0)
    theirs = sclite_counts(sclite, tmp_path, references, hypotheses, speakers)
    assert len(theirs) == 3000
    assert count_errors_by_speaker(references, hypotheses, speakers, "sclite") == theirs


def test_long_utterances_equal_sclite(sclite: list[str], tmp_path: Path) -> None:
    references, hypotheses, speakers = random_cases(30, seed=1, longest=400)
    theirs = sclite_counts(sclite, tmp_path, references, hypotheses, speakers)
    assert count_errors_by_speaker(references, hypotheses, speakers, "sclite") == theirs


@pytest.mark.parametrize("split", ["dev", "test"])
def test_real_sentences_equal_sclite_per_speaker(
    sclite: list[str], shared: Path, tmp_path: Path, split: str
) -> None:
    folder = shared / "corpora" / "speechocean762" / split
    references, speakers = read_transcripts(folder / "text").words, read_utt2spk(folder / "utt2spk")
    drawn = random.Random(split)
    spoken = [word for words in references.values() for word in words]
    hypotheses = {}
    for utterance, words in references.items():
        changed: list[str] = []
        for word in words:
            changed += drawn.choice([[word], [word], [drawn.choice(spoken)], [], [word, drawn.choice(words)]])
        if drawn.random() > 0.02:
            hypotheses[utterance] = changed
    theirs = sclite_counts(sclite, tmp_path, references, hypotheses, speakers)
    ours = count_errors_by_speaker(references, hypotheses, speakers, "sclite")
    assert ours == theirs
    assert ours != count_errors_by_speaker(references, hypotheses, speakers)


def plain_sclite(reference: list[str], hypothesis: list[str]) -> list[str]:
    """The stated rule, cell by cell."""
    cost = {(0, 0): 0}
    step: dict[tuple[int, int], str] = {}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            ways = []
            if i and j:
                same = reference[i - 1] == hypothesis[j - 1]
                ways.append((cost[i - 1, j - 1] + 4 * (not same), "equal" if same else "substitution"))
            if j:
                ways.append((cost[i, j - 1] + 3, "insertion"))
            if i:
                ways.append((cost[i - 1, j] + 3, "deletion"))
            if ways:
                cost[i, j], step[i, j] = min(ways, key=lambda way: way[0])  # the first of equals
    i, j, found = len(reference), len(hypothesis), []
    while i or j:
        found.append(step[i, j])
        i, j = i - (found[-1] != "insertion"), j - (found[-1] != "deletion")
    return found[::-1]


@settings(max_examples=300)
@given(WORDS, WORDS)
def test_the_rule_is_followed_cell_by_cell(reference: list[str], hypothesis: list[str]) -> None:
    columns = align_words(reference, hypothesis, "sclite")
    assert [column.operation for column in columns] == plain_sclite(reference, hypothesis)
    assert [column.reference for column in columns if column.reference is not None] == reference
    assert [column.hypothesis for column in columns if column.hypothesis is not None] == hypothesis
    counts = count_errors(reference, hypothesis, "sclite")
    assert counts.errors >= count_errors(reference, hypothesis).errors


@settings(max_examples=50)
@given(st.lists(st.sampled_from("ab"), max_size=40), st.lists(st.sampled_from("ab"), max_size=40), st.integers(1, 300))
def test_a_table_filled_in_blocks_gives_the_same_path(reference: list[str], hypothesis: list[str], cells: int) -> None:
    whole = align_words(reference, hypothesis, "sclite")
    with mock.patch.object(sclite_alignment, "_CELLS_AT_ONCE", cells):
        assert align_words(reference, hypothesis, "sclite") == whole
    assert [column.operation for column in whole] == plain_sclite(reference, hypothesis)


def test_a_long_utterance_takes_little_memory() -> None:
    drawn = random.Random(0)
    reference = [str(drawn.randrange(500)) for _ in range(20_000)]
    hypothesis = [word if drawn.random() > 0.1 else "wrong" for word in reference]
    align_words(["a"], ["b"], "sclite")  # compiled before anything is measured
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = peak_mebibytes(), time.process_time()
    counts = count_errors(reference, hypothesis, "sclite")
    assert counts == ErrorCounts(20_000, hypothesis.count("wrong"), 0, 0)
    assert peak_mebibytes() - before < 100  # a byte for each cell of the table would be 400
    assert time.process_time() - begin < 10


def peak_mebibytes() -> float:
    """Memory of this process at its highest since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.parametrize(("alignment", "words"), [("unit", 70_000), ("sclite", 50_000)])
def test_utterances_too_long_to_align_are_refused_in_one_line(alignment: Alignment, words: int) -> None:
    references, hypotheses = {"u1": ["a"] * words}, {"u1": ["b"] * words}
    with pytest.raises(InputError, match=f"utterance u1: {words} reference words against {words} .* score them in seg"):
        count_errors_by_speaker(references, hypotheses, {"u1": "s"}, alignment)


def test_sclite_rather_inserts_and_deletes_than_substitutes_twice() -> None:
    pair = ["a", "b", "c"], ["b", "d", "x"]
    assert count_errors(*pair) == ErrorCounts(3, 3, 0, 0)
    assert count_errors(*pair, "sclite") == ErrorCounts(3, 1, 1, 1)


def test_an_unknown_alignment_is_refused() -> None:
    with pytest.raises(InputError, match="expected unit or sclite"):
        count_errors(["a"], ["b"], "nist")  # type: ignore[arg-type]
