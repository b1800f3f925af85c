from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_kd.core.errors import InputError
from asr_kd.lexicon.lexicon import Lexicon, LexiconConfig
from asr_kd.lexicon.lexicon_file import Entry, read_lexicon, write_lexicon
from asr_kd.lexicon.phones import PhoneTable


def write(folder: Path, text: str) -> Path:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    return path


def pronunciations(lexicon: Lexicon, word: str) -> list[list[str]]:
    return [[lexicon.phones.symbols[p] for p in pron.phones]
            for pron in lexicon.pronunciations_of[lexicon.word_id[word]]]


def test_phones_carry_their_position_in_the_word(tmp_path: Path) -> None:
    lexicon = Lexicon.read(write(tmp_path, "A\tAH0\nAT AE1 T\nCAT\tK AE1 T\n"))
    assert pronunciations(lexicon, "A") == [["AH0_S"]]
    assert pronunciations(lexicon, "AT") == [["AE1_B", "T_E"]]
    assert pronunciations(lexicon, "CAT") == [["K_B", "AE1_I", "T_E"]]
    assert pronunciations(lexicon, "!SIL") == [["SIL_S"]]
    assert pronunciations(lexicon, "<UNK>") == [["SPN_S"]]


def test_phones_without_positions_on_demand(tmp_path: Path) -> None:
    lexicon = Lexicon.read(write(tmp_path, "AT AE1 T\n"), LexiconConfig(position_dependent=False))
    assert pronunciations(lexicon, "AT") == [["AE1", "T"]]
    assert lexicon.phones.symbols == ("<eps>", "SIL", "SPN", "AE1", "T")


def test_stresses_and_positions_of_a_phone_share_a_root() -> None:
    phones = PhoneTable.build(["IH", "IH0", "IH1", "T"])
    groups = [{phones.base(p) for p in group} for group in phones.root_groups]
    assert groups == [{"SIL"}, {"SPN"}, {"IH", "IH0", "IH1"}, {"T"}]
    assert [len(g) for g in phones.root_groups] == [5, 5, 12, 4]
    assert {phones.symbols[p] for p in phones.silence} == {
        f"{s}{x}" for s in ("SIL", "SPN") for x in ("", "_B", "_E", "_I", "_S")}


def test_table_equals_kaldis_phones_txt(shared: Path) -> None:
    lexicon = Lexicon.read(shared / "corpora/speechocean762/lexicon/lexicon.txt")
    golden = [line.split()[0] for line in (shared / "golden/kaldi_align/phones.txt").read_text().splitlines()]
    disambiguation = [f"#{n}" for n in range(lexicon.num_disambiguation + 1)]
    assert [*lexicon.phones.symbols, *disambiguation] == golden
    assert golden[lexicon.phones.disambiguation_id(2)] == "#2"


def test_probabilities_are_read_where_every_line_has_one(tmp_path: Path) -> None:
    lexicon = Lexicon.read(write(tmp_path, "AT 0.25 AE1 T\nAT 1.0 AE0 T\n"))
    assert [p.probability for p in lexicon.pronunciations_of[lexicon.word_id["AT"]]] == [0.25, 1.0]


def test_a_byte_order_mark_is_no_part_of_the_first_word(shared: Path) -> None:
    assert read_lexicon(shared / "cases/lexicon/bom.txt")[0] == Entry("AMERICA", ("AH0", "M", "EH1", "R", "IH0", "K",
                                                                                 "AH0"))


def test_digits_of_sampa_are_phones(shared: Path) -> None:
    entries = read_lexicon(shared / "cases/lexicon/sampa.txt")
    assert [" ".join(entry.phones) for entry in entries] == ["u: 6", "2: l", "k 2: n I C", "h 2: r @ n", "g 9 t 6"]
    assert {entry.probability for entry in entries} == {1.0}
    lexicon = Lexicon.from_entries(entries)
    assert pronunciations(lexicon, "G\u00f6tter") == [["g_B", "9_I", "t_I", "6_E"]]


@pytest.mark.parametrize(("text", "expected"), [
    ("OE 9 l\nER 6 R\n", [("9", "l"), ("6", "R")]),
    ("A 1 l\nB b 1\n", [("1", "l"), ("b", "1")]),
    ("A 1 l\nB 2 l\n", [("1", "l"), ("2", "l")]),
    ("A 1 l\nB 0.5 l\n", [("l",), ("l",)]),
    ("A 1.0 1\nB 1 2\n", [("1",), ("2",)]),
])
def test_a_column_of_probabilities_is_told_by_all_lines(tmp_path: Path, text: str, expected: list) -> None:
    assert [entry.phones for entry in read_lexicon(write(tmp_path, text))] == expected


def test_a_column_of_ones_is_read_with_a_warning_or_refused_or_declared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ones = write(tmp_path, "A 1 a\nB 1 b\n")
    assert read_lexicon(ones) == [Entry("A", ("a",)), Entry("B", ("b",))]
    assert "every line is 1; read as a probability, not as a phone" in caplog.text
    assert read_lexicon(ones, probabilities=False) == [Entry("A", ("1", "a")), Entry("B", ("1", "b"))]
    both = write(tmp_path, "A 1 a\nB 1 b 1\n")
    with pytest.raises(InputError, match="a probability or a phone; write 1.0 .* or name the file lexiconp.txt"):
        read_lexicon(both)
    declared = both.rename(tmp_path / "lexiconp.txt")
    assert read_lexicon(declared) == [Entry("A", ("a",)), Entry("B", ("b", "1"))]
    declared.write_text("A a\nB 1 b\n")
    with pytest.raises(InputError, match="lexiconp.txt:1: 'a' is no probability"):
        read_lexicon(declared)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text("AB\u3000\u00a0", min_size=1), st.lists(st.sampled_from(["1", "2", "a", "6"]),
                                                                          min_size=1, max_size=3)),
                min_size=1, unique_by=lambda row: (row[0], *row[1])), st.sampled_from(["lexicon.txt", "lexiconp.txt"]))
def test_a_lexicon_of_digit_phones_is_read_back_under_any_name(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str]]], name: str
) -> None:
    entries = [Entry(word, tuple(phones)) for word, phones in rows]
    path = tmp_path_factory.mktemp("lexicon") / name
    write_lexicon(path, entries)
    assert read_lexicon(path) == sorted(entries, key=lambda entry: entry.word)


def test_cmu_variants_and_comments(tmp_path: Path) -> None:
    lexicon = Lexicon.read(write(tmp_path, ";;; comment\nREAD  R EH1 D\nREAD(2)  R IY1 D # present\nF(3) EH1 F\n"))
    assert pronunciations(lexicon, "READ") == [["R_B", "EH1_I", "D_E"], ["R_B", "IY1_I", "D_E"]]
    assert "READ(2)" not in lexicon.word_id
    assert "F(3)" in lexicon.word_id  # no word F: the brackets are part of the word


@pytest.mark.parametrize(("text", "place", "what"), [
    ("AT AE T\nTO\n", ":2", "no phones"),
    ("AT 0.5 AE T\nTO 1.5 T\n", ":2", "not in (0, 1]"),
    ("AT AE T\nTO 0.5 T\n", ":2", "cannot be a phone"),
    ("AT AE #1\n", ":1", "'#1' of 'AT' cannot be a phone"),
    ("AT 0.5 AE T\nTO T\n", ":2", "'T' is no probability"),
    ("AT 0.5 AE T\nTO 0 T\n", ":2", "not in (0, 1]"),
    ("AT 0.5 AE T\nTO nan T\n", ":2", "'nan' is no probability"),
    ("AT 0.5 AE T\nTO 0.5\n", ":2", "no phones"),
    ("A AH0\nTO T\nA AH0\n", ":3", "'A' as AH0 stands in line 1 already"),
    ("A AH0\nA(2) AH0\n", ":2", "stands in line 1 already"),
    ("<s> S\n", ":1", "'<s>' cannot be a word"),
    ("", "", "no pronunciation"),
])
def test_faulty_lexicon_is_refused_with_its_place(tmp_path: Path, text: str, place: str, what: str) -> None:
    with pytest.raises(InputError) as error:
        Lexicon.read(write(tmp_path, text))
    assert f"lexicon.txt{place}" in str(error.value) and what in str(error.value)


def test_lexicon_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_bytes(b"A AH0\nCAF\xc9 K\n")
    with pytest.raises(InputError, match="lexicon.txt:2: not UTF-8"):
        Lexicon.read(tmp_path / "lexicon.txt")


def test_disambiguation_of_homophones_and_prefixes(tmp_path: Path) -> None:
    lexicon = Lexicon.read(write(tmp_path, "RED R EH D\nREAD R EH D\nREADY R EH D IY\nA B_\nB B_ C\nX K S\n"),
                           LexiconConfig(position_dependent=False))
    numbers = {lexicon.words[p.word]: p.disambiguation for p in lexicon.pronunciations}
    assert numbers == {"READ": 1, "RED": 2, "READY": 0, "A": 1, "B": 0, "X": 0, "!SIL": 0, "<UNK>": 0}
    assert lexicon.num_disambiguation == 3


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=12))
def test_no_disambiguated_pronunciation_is_a_prefix_of_another(prons: list[str]) -> None:
    lexicon = Lexicon.from_entries([(f"w{i}", tuple(pron), 1.0) for i, pron in enumerate(prons)],
                                   LexiconConfig(position_dependent=False))
    end = 10_000
    sequences = [(*p.phones, *([end + p.disambiguation] if p.disambiguation else [])) for p in lexicon.pronunciations]
    for i, one in enumerate(sequences):
        assert not any(other[: len(one)] == one for j, other in enumerate(sequences) if i != j)


def test_words_without_pronunciation_are_refused_and_named(lexicon: Lexicon) -> None:
    with pytest.raises(InputError, match=r"2 words .*'xyz' \(u2\), 'q' \(u1\).*map_unknown"):
        lexicon.word_ids({"u1": ["ab", "q"], "u2": ["xyz"], "u3": ["xyz"]})


def test_words_without_pronunciation_are_mapped_by_option_and_counted(lexicon: Lexicon) -> None:
    ids, mapped = lexicon.word_ids({"u1": ["ab", "q"], "u2": ["xyz"]}, map_unknown=True)
    unknown = lexicon.word_id["<UNK>"]
    assert (ids, mapped) == ({"u1": [lexicon.word_id["ab"], unknown], "u2": [unknown]}, 2)


def test_epsilon_is_not_a_word_of_a_transcript(lexicon: Lexicon) -> None:
    with pytest.raises(InputError, match="<eps>"):
        lexicon.word_ids({"u": ["<eps>"]})


def test_optional_silence_must_be_silence() -> None:
    with pytest.raises(InputError, match="optional silence 'NSN'"):
        PhoneTable.build(["A"], optional_silence="NSN")


def test_a_trained_models_table_takes_other_words_but_no_other_phones(tmp_path: Path) -> None:
    phones = Lexicon.read(write(tmp_path, "AT AE1 T\nTOO T UW1\n")).phones
    larger = Lexicon.read(write(tmp_path, "TWO T UW1\nTAT T AE1 T\n"), phones=phones)
    assert larger.phones is phones
    assert pronunciations(larger, "TAT") == [["T_B", "AE1_I", "T_E"]]
    with pytest.raises(InputError) as error:
        Lexicon.read(write(tmp_path, "TWO T UW1\nDO D UW1\n"), phones=phones)
    assert "lexicon.txt: word 'DO': phone 'D' is not in the phone table" in str(error.value)


@given(st.lists(st.tuples(st.text("AB", min_size=1), st.text("xy", min_size=1, max_size=3),
                          st.sampled_from([1.0, 0.5, 0.125])), min_size=1, unique_by=lambda e: e[:2]))
def test_a_lexicon_written_is_read_back(tmp_path_factory: pytest.TempPathFactory,
                                        rows: list[tuple[str, str, float]]) -> None:
    entries = [Entry(word, tuple(pron), probability) for word, pron, probability in rows]
    path = tmp_path_factory.mktemp("lexicon") / "lexiconp.txt"
    write_lexicon(path, entries)
    assert read_lexicon(path) == sorted(entries, key=lambda entry: entry.word)
