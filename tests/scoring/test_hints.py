"""Hints on words that are written in another way."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.cli.main import main
from asr_kd.core.errors import InputError
from asr_kd.core.word_forms import find_other_forms
from asr_kd.lexicon.lexicon import Lexicon
from asr_kd.lexicon.sources import LexiconSourceConfig, build_lexicon
from asr_kd.lexicon.vocabulary import report_vocabulary
from asr_kd.lm.text import encode
from asr_kd.scoring import api

COMPOSED, DECOMPOSED = "G\u00f6tter", "Go\u0308tter"


def test_words_in_another_unicode_form_are_told_and_compared_by_a_declared_normalisation(tmp_path: Path) -> None:
    (tmp_path / "ref").write_text(f"u1 alle {COMPOSED} und\n")
    (tmp_path / "hyp").write_text(f"u1 alle {DECOMPOSED} und\n")
    found = api.score(tmp_path / "ref", [tmp_path / "hyp"])
    assert found.system.total.errors == 1
    (hint,) = found.hints
    assert "1 of 3 words are in the reference in another Unicode form only" in hint and "--unicode-form nfc" in hint
    composed = api.score(tmp_path / "ref", [tmp_path / "hyp"], unicode_form="nfc")
    assert (composed.system.total.errors, composed.hints, composed.text_filter) == (0, (), "none-1-nfc")


@pytest.mark.parametrize("metric", ["wer", "cpwer"])
def test_another_letter_case_is_told_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str
) -> None:
    if metric == "cpwer":
        pytest.importorskip("meeteval", reason="MeetEval (the extra `meetings`) is not installed")
    (tmp_path / "ref.stm").write_text("r 1 s 0 9 YES I DO\n")
    (tmp_path / "hyp.ctm").write_text("r 1 1 1 yes\nr 1 2 1 i\nr 1 3 1 do\n")
    files = ["--ref", f"{tmp_path}/ref.stm", "--hyp", f"{tmp_path}/hyp.ctm", "--metric", metric]
    assert main(["score", *files]) == 0
    shown = capsys.readouterr().out
    assert "3 of 3 words are in the reference in another letter case only ('yes' as 'YES'): --filter lower" in shown
    assert main(["score", *files, "--filter", "lower"]) == 0
    assert "letter case" not in capsys.readouterr().out


@pytest.mark.parametrize(("reference", "hypothesis", "case"), [("straße", "STRASSE", "upper"), ("Fuß", "FUß", "lower")])
def test_the_filter_that_a_hint_names_makes_the_words_equal(
    tmp_path: Path, reference: str, hypothesis: str, case: str
) -> None:
    (tmp_path / "ref").write_text(f"u1 {reference}\n")
    (tmp_path / "hyp").write_text(f"u1 {hypothesis}\n")
    (hint,) = api.score(tmp_path / "ref", [tmp_path / "hyp"]).hints
    assert f"--filter {case} compares both in {case} case" in hint
    filtered = api.score(tmp_path / "ref", [tmp_path / "hyp"], filter=case)
    assert (filtered.system.total.errors, filtered.hints) == (0, ())


def test_a_name_in_another_case_is_no_hint(tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("u1 will Will come to town by night or by day at last\n")
    (tmp_path / "hyp").write_text("u1 will will come To town by night or by day at last\n")
    assert api.score(tmp_path / "ref", [tmp_path / "hyp"]).hints == ()


def test_a_lexicon_says_that_a_word_is_there_in_another_form(shared: Path, tmp_path: Path) -> None:
    lexicon = Lexicon.read(shared / "cases/lexicon/nfd.txt")
    with pytest.raises(InputError, match=r"1 in another Unicode form \(.* is NFC here and NFD there\)"):
        lexicon.word_ids({"u1": [COMPOSED]})
    with pytest.raises(InputError, match=r"the lexicon has 1 in other letter case \('UHR' is 'Uhr' there\)"):
        lexicon.word_ids({"u1": ["UHR"]})


def test_a_corpus_lexicon_and_a_language_model_say_it_too(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nfd = shared / "cases/lexicon/nfd.txt"
    with pytest.raises(InputError, match=r"not in .*nfd.txt; .*; the lexicon has 1 in another Unicode form"):
        build_lexicon([COMPOSED], LexiconSourceConfig(), nfd)
    report_vocabulary({COMPOSED}, {"dev": [[DECOMPOSED, "und"]]}, "train", "words")
    assert "dev: of the words out of vocabulary it has 1 in another Unicode form" in caplog.text
    encode([[["UND"], ["und"]]], ["und"])
    assert "outside the vocabulary of the language model it has 1 in other letter case ('UND'" in caplog.text


def test_the_examples_of_a_set_do_not_depend_on_its_order() -> None:
    words = {f"W{number}" for number in range(50)}
    other = find_other_forms(words, {word.lower() for word in words})
    assert other.case_example == ("W0", "w0")


def test_ids_in_another_form_are_told(tmp_path: Path) -> None:
    (tmp_path / "ref").write_text("u1 a\nu2 b\n")
    (tmp_path / "hyp").write_text("U1 a\nU2 b\n")
    with pytest.raises(InputError, match=r"the reference has 2 in other letter case \('U1' is 'u1' there\)"):
        api.score(tmp_path / "ref", [tmp_path / "hyp"])


@given(st.lists(st.sampled_from(["ja", "Ja", COMPOSED, DECOMPOSED, "nein", "\u00df", "SS"])),
       st.sets(st.sampled_from(["JA", "ja", COMPOSED, DECOMPOSED, "ss", "\u00df"])))
def test_only_words_that_are_absent_as_they_stand_are_counted(words: list[str], present: set[str]) -> None:
    other = find_other_forms(words, present)
    absent = set(words) - present
    assert other.unicode + other.case <= len(absent)
    assert (str(other) == "") == (other.unicode + other.case == 0)
    for example in (other.unicode_example, other.case_example):
        assert example is None or (example[0] in absent and example[1] in present)
