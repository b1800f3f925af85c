"""NIST's notation in references: alternatives and optional words, against sclite and against brute force."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.scoring import api
from asr_kd.scoring.notation import OptionalWords, check_notation, first_reading, nearest_reading
from asr_kd.scoring.wer import ErrorCounts, count_errors, pool
from tests.scoring.sclite_program import run_sclite

Texts = dict[str, list[str]]


def random_reference(drawn: random.Random, nulls: float, depth: int = 0) -> list[str]:
    tokens: list[str] = []
    for _ in range(drawn.randint(min(depth, 1), 6 - 2 * depth)):
        kind = drawn.random()
        if kind < 0.25 and depth < 2:
            mark = "{"
            for _ in range(drawn.randint(1, 3)):
                tokens += [mark, *(["@"] if drawn.random() < nulls else random_reference(drawn, nulls, depth + 1))]
                mark = "/"
            tokens.append("}")
        else:
            word = drawn.choice("abc")
            tokens.append(f"({word})" if kind < 0.4 else word)
    return tokens


def random_texts(number: int, seed: int, nulls: float = 0.2) -> tuple[Texts, Texts]:
    drawn = random.Random(seed)
    references = {f"s{i:05d}-u": random_reference(drawn, nulls) for i in range(number)}
    return references, {key: [drawn.choice("abc") for _ in range(drawn.randint(0, 6))] for key in references}


def write_trn(path: Path, texts: Texts) -> None:
    path.write_text("".join(" ".join([*words, f"({key})"]) + "\n" for key, words in texts.items()))


@pytest.mark.parametrize(("optional", "nulls"), [("deletable", 0.0), ("literal", 0.0), ("deletable", 0.2)])
def test_random_references_equal_sclite_to_the_last_count(
    sclite: list[str], tmp_path: Path, optional: OptionalWords, nulls: float
) -> None:
    references, hypotheses = random_texts(250, 3, nulls)
    write_trn(tmp_path / "ref.trn", references)
    write_trn(tmp_path / "hyp.trn", hypotheses)
    options = ["-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "spu_id", "-s"]
    theirs = run_sclite(sclite, tmp_path, *options, *(["-D"] if optional == "deletable" else []))
    ours = api.score(
        tmp_path / "ref.trn", [tmp_path / "hyp.trn"], alignment="sclite", optional_words=optional, draws=1
    ).system.by_speaker
    assert ours.keys() == theirs.keys() and len(ours) == 250
    different = sum(ours[speaker] != theirs[speaker] for speaker in ours)
    # sclite adds the cost of a null word, 0.001, in single precision, and so breaks ties between sums of several.
    assert different <= (2 if nulls else 0)


@given(st.integers(0, 10**6))
def test_no_reading_has_fewer_errors_than_the_one_that_is_chosen(seed: int) -> None:
    (reference,), (hypothesis,) = (list(texts.values()) for texts in random_texts(1, seed))
    chosen = count_errors(*nearest_reading(reference, hypothesis, "unit", deletable=True))
    assert chosen.errors == min(
        count_errors(words, hypothesis).errors for words in readings(reference)
    )


def readings(tokens: list[str]) -> list[list[str]]:
    """Every reading of a reference, words in brackets with and without."""
    tokens = list(tokens)
    found, rest = sequences(tokens)
    assert not rest
    return found


def sequences(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    found: list[list[str]] = [[]]
    while tokens and tokens[0] not in "/}":
        token, *tokens = tokens
        if token == "{":
            choices: list[list[str]] = []
            mark = "/"
            while mark == "/":
                alternative, (mark, *tokens) = sequences(tokens)
                choices += alternative
        else:
            choices = [[], [token[1:-1]]] if token.startswith("(") else [[] if token == "@" else [token]]
        found = [one + other for one in found for other in choices]
    return found, tokens


def test_the_cases_are_scored_as_sclite_does(shared: Path, tmp_path: Path) -> None:
    case = shared / "cases/stm_optional"
    found = api.score(case / "ref.stm", [case / "hyp.ctm"], optional_words="deletable", alignments=tmp_path / "ali")
    assert found.system.total == ErrorCounts(11, 0, 0, 0) and found.words == 11
    assert any("2 places with alternatives and 1 optionally deletable words" in hint for hint in found.hints)
    assert "REF: (uh) well yes\nHYP: (uh) well yes" in (tmp_path / "ali").read_text()
    everywhere = api.score(case / "ref2.trn", [case / "hyp2.trn"], optional_words="deletable", filter="upper")
    assert everywhere.system.total == ErrorCounts(8, 0, 0, 0)
    # Braces that touch a word are letters of Buckwalter's transliteration.
    assert api.score(case / "ref.trn", [case / "hyp.trn"]).system.total == ErrorCounts(5, 0, 0, 0)


def test_words_in_brackets_are_refused_by_name_until_it_is_said_how_they_are_taken(shared: Path) -> None:
    case = shared / "cases/stm_optional"
    with pytest.raises(InputError, match=r"ref_opt.stm: utterance .*: \(uh\) is NIST's .*--optional-words deletable"):
        api.score(case / "ref_opt.stm", [case / "hyp_opt.ctm"])
    literal = api.score(case / "ref_opt.stm", [case / "hyp_opt.ctm"], optional_words="literal")
    assert literal.system.total == ErrorCounts(3, 0, 1, 0)


def test_braces_of_kaldi_text_are_words_with_a_warning(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = shared / "cases/stm_optional"
    assert api.score(case / "ref4.txt", [case / "hyp4.txt"]).words == 7
    assert "alternatives { a / b } are read in STM and trn" in caplog.text


@pytest.mark.parametrize(("words", "fault"), [
    ("a { b / c", "not closed"), ("a } { b }", "'}' stands outside"), ("{ a } / b", "'/' stands outside"),
    ("{ " * 30 + "a" + " }" * 30, "nested more than 20 deep"), ("{ " * 5000, "nested more than 20 deep"),
])
def test_notation_that_cannot_be_read_is_named(words: str, fault: str) -> None:
    with pytest.raises(InputError, match=f"ref.trn: utterance u1: .*{fault}"):
        check_notation({"u1": words.split()}, "deletable", "ref.trn")


def test_too_many_words_with_notation_are_refused(tmp_path: Path) -> None:
    write_trn(tmp_path / "ref.trn", {"s-u": ["{ a / b / c }"] * 9_000})
    with pytest.raises(InputError, match="utterance s-u: 63000 words with alternatives .* score them in segments"):
        api.score(tmp_path / "ref.trn", [tmp_path / "ref.trn"])
    write_trn(tmp_path / "ref.trn", {"s-u": ["{ a / b / c }"] * 7_000})
    write_trn(tmp_path / "hyp.trn", {"s-u": ["a"] * 7_000})
    with pytest.raises(InputError, match="utterance s-u: 21001 reference words against 7000 .* too many to align"):
        api.score(tmp_path / "ref.trn", [tmp_path / "hyp.trn"])


def test_a_hypothesis_with_notation_is_refused(tmp_path: Path) -> None:
    write_trn(tmp_path / "ref.trn", {"s-u": ["a", "b"]})
    write_trn(tmp_path / "hyp.trn", {"s-u": ["a", "{", "b", "/", "c", "}"]})
    with pytest.raises(InputError, match=r"hyp.trn: s-u: \{ is NIST's notation"):
        api.score(tmp_path / "ref.trn", [tmp_path / "hyp.trn"])


def test_the_first_reading_and_an_empty_alternative() -> None:
    assert first_reading(["a", "{", "b", "c", "/", "d", "}", "{", "@", "/", "e", "}", "(f)"]) == ["a", "b", "c", "(f)"]
    assert nearest_reading(["a", "{", "/", "b", "}"], ["a"], "unit", False) == (["a"], ["a"])


def test_confidences_stay_with_their_words(tmp_path: Path) -> None:
    (tmp_path / "ref.stm").write_text("r 1 s 0 9 (uh) a { b / c d } (e)\n")
    (tmp_path / "hyp.ctm").write_text("r 1 1 1 a 0.9\nr 1 2 1 c 0.8\nr 1 3 1 x 0.1\n")
    found = api.score(tmp_path / "ref.stm", [tmp_path / "hyp.ctm"], optional_words="deletable", confidence=True)
    assert found.system.total == ErrorCounts(5, 1, 0, 0)
    assert found.system.confidence is not None
    assert (found.system.confidence.words, found.system.confidence.correct) == (3, 2)


def test_systems_are_compared_where_their_nearest_readings_differ_in_length(tmp_path: Path) -> None:
    write_trn(tmp_path / "ref.trn", {"s-u": ["{ a b / c }", "d"], "t-u": ["x", "y"]})
    write_trn(tmp_path / "long.trn", {"s-u": ["a", "b", "d"], "t-u": ["x", "y"]})
    write_trn(tmp_path / "short.trn", {"s-u": ["c", "d"], "t-u": ["x", "z"]})
    seeds = api.score(tmp_path / "ref.trn", [tmp_path / "long.trn", tmp_path / "short.trn"])
    assert [pool(counts.values()) for counts in seeds.system.seeds.values()] == [
        ErrorCounts(5, 0, 0, 0), ErrorCounts(4, 1, 0, 0)]
    assert seeds.system.interval.value == 12.5
    compared = api.score(tmp_path / "ref.trn", [tmp_path / "long.trn"], [tmp_path / "short.trn"])
    assert compared.comparison is not None
    assert compared.comparison.difference == -25
    # Speaker t alone has the only error, one word of two; speaker s alone has none.
    assert (compared.comparison.low, compared.comparison.high) == (-50, 0)


def test_a_reference_of_empty_readings_only_has_finite_bounds(tmp_path: Path) -> None:
    write_trn(tmp_path / "ref.trn", {"s-u": ["{ a / @ }"], "t-u": ["x"]})
    write_trn(tmp_path / "all.trn", {"s-u": ["a"], "t-u": ["x"]})
    write_trn(tmp_path / "none.trn", {"s-u": [], "t-u": ["x"]})
    compared = api.score(tmp_path / "ref.trn", [tmp_path / "all.trn"], [tmp_path / "none.trn"])
    assert compared.comparison is not None
    assert (compared.comparison.low, compared.comparison.high) == (0, 0)
